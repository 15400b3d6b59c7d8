"""Runs Ray nodes on loopback, each a process group of its own: clusters on one machine, whose nodes a test can kill."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.processes import command_line, descendants, running, wait_until

BIN = Path(sys.executable).parent
START_SECONDS = 300
STORE_BYTES = 200 << 20
#: Settings of heads whose tests lose nodes: a head takes up to a minute to notice that unless it looks more often. A
#: node that is gone refuses the check at once; one that is only busy keeps the usual ten seconds to answer.
NOTICE_SOON = {"RAY_health_check_period_ms": "1000"}
#: Name of a head as the provider of fake nodes wants it.
_HEAD_ID = "f" * 51 + "00000"
#: Settings of a head whose autoscaler starts fake nodes.
_FAKE_CLUSTER = {
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": _HEAD_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
}
_TRIES = 3
#: Flags of the ports that every node has.
_NODE_PORTS = (
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "metrics-export-port",
    "node-manager-port",
    "object-manager-port",
)
#: Ports that nothing takes by chance: Ray's workers have those below 20000, the tests' S3 servers others below 22050
#: and from 24000 on, and Linux gives those from 32768 on to whoever asks for any port.
_PORTS = range(22050, 24000)


def environment() -> dict[str, str]:
    """Return the environment for nodes and their clients: nothing of this process's Ray, no token of this user."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return plain | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }


class RayNode:
    """Run `ray start --block` with `cpus`: a head, or a node that joins the head at `address` (host:port).

    The node runs as soon as the constructor returns; AssertionError with its log if it does not start. settings:
    environment variables of this node. node_types: of the fake nodes that a head's autoscaler may start on this
    machine; see `fake_nodes`.
    """

    def __init__(
        self,
        cpus: int = 2,
        address: str | None = None,
        dashboard: bool = False,
        settings: Mapping[str, str] | None = None,
        node_types: "Mapping[str, NodeType] | None" = None,
    ) -> None:
        # Ray gives a node up that is not there after 30 seconds: another process took one of its ports, or the
        # machine is busy.
        for left in reversed(range(_TRIES)):
            self._start(cpus, address, dashboard, settings or {}, node_types or {})
            try:
                wait_until(self._has_started, self._process, self._log, START_SECONDS, pause=0.2)
                return
            except BaseException as error:  # the caller cannot kill what it never got
                self.kill()
                if not (left and isinstance(error, AssertionError)):
                    raise

    def _start(
        self,
        cpus: int,
        address: str | None,
        dashboard: bool,
        settings: Mapping[str, str],
        node_types: "Mapping[str, NodeType]",
    ) -> None:
        # Not pytest's folder, because paths of Unix sockets must stay under 108 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="ray-node-"))
        gcs, server, client, *ports = free_ports(3 + len(_NODE_PORTS))
        self.metrics_port = ports[_NODE_PORTS.index("metrics-export-port")]
        flags = ["--block", f"--num-cpus={cpus}", "--node-ip-address=127.0.0.1"]
        flags += [f"--object-store-memory={STORE_BYTES}"]
        flags += [f"--{name}={port}" for name, port in zip(_NODE_PORTS, ports, strict=True)]
        if address:
            flags.append(f"--address={address}")
        else:
            flags += ["--head", f"--port={gcs}", f"--ray-client-server-port={client}"]
            flags += [f"--temp-dir={self.folder}", f"--include-dashboard={str(dashboard).lower()}"]
            flags += ["--dashboard-host=127.0.0.1", f"--dashboard-port={server}"]
        self.address = address or f"127.0.0.1:{gcs}"
        self.job_server = f"http://127.0.0.1:{server}"
        variables = {**environment(), **settings}
        if node_types:
            file = self.folder / "scaling.json"
            file.write_text(json.dumps(fake_nodes(self.address, node_types)))
            flags.append(f"--autoscaling-config={file}")
            variables |= _FAKE_CLUSTER
        self._log = self.folder / "node.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [BIN / "ray", "start", *flags],
                env=variables,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _has_started(self) -> bool:
        return "Ray runtime started." in self._log.read_text()

    def wait_for_job_server(self) -> None:
        """Return as soon as the head's job server answers. Raises AssertionError with the log if it does not."""
        wait_until(self._answers, self._process, self._log, START_SECONDS, pause=0.2)

    def _answers(self) -> bool:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{self.job_server}/api/version", timeout=5) as answer,
        ):
            return bool(answer.status == 200)
        return False

    def processes(self) -> list[int]:
        """Return the ids of all processes on this node."""
        pids = []
        for process in running():
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(process) == self._process.pid:
                    pids.append(process)
        return pids

    def fake_nodes(self) -> list[int]:
        """Return the ids of the raylets of the nodes that this head's autoscaler has started."""
        raylets = [pid for pid in self.processes() if "/raylet/raylet " in command_line(pid)]
        return [pid for pid in raylets if f"--node_id={_HEAD_ID}" not in command_line(pid)]

    def kill(self) -> None:
        """Send SIGKILL to the node and everything on it, as if a machine were lost."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


#: The most nodes of a type, and the resources of each.
NodeType = tuple[int, Mapping[str, float]]


def fake_nodes(
    address: str, types: Mapping[str, NodeType], most: int = 4, idle_minutes: float = 0.5
) -> dict[str, Any]:
    """Return the configuration of an autoscaler for the head at `address` (host:port), and up to `most` fake nodes.

    Fake nodes are real Ray nodes that the autoscaler starts as processes of the head's machine. They share one session
    folder, so they cannot run jobs with a --working-dir.
    """
    lists = (
        "cluster_synced_files",
        "rsync_exclude",
        "rsync_filter",
        "initialization_commands",
        "setup_commands",
    )
    commands = ("head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return {
        "cluster_name": "fake",
        "max_workers": most,
        "idle_timeout_minutes": idle_minutes,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": address,
            "head_node_id": _HEAD_ID,
            "launch_multiple": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "foreground_node_launch": True,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            **{
                name: {"resources": resources, "node_config": {}, "min_workers": 0, "max_workers": count}
                for name, (count, resources) in types.items()
            },
        },
        "auth": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in (*lists, *(f"{name}_commands" for name in commands))},
    }


def kill_fake_node(raylet: int) -> None:
    """Send SIGKILL to a fake node and everything on it. raylet: its process id."""
    for process in [raylet, *descendants(raylet)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def wait_for_nodes(address: str, count: int) -> None:
    """Return as soon as the cluster at `address` has `count` live nodes. Raises an error if that takes too long."""
    script = (
        "import ray, sys, time\n"
        "ray.init(address=sys.argv[1], log_to_driver=False)\n"
        "while sum(node['Alive'] for node in ray.nodes()) != int(sys.argv[2]): time.sleep(0.2)"
    )
    line = [sys.executable, "-c", script, address, str(count)]
    subprocess.run(line, env=environment(), check=True, capture_output=True, timeout=START_SECONDS)


def free_ports(count: int) -> list[int]:
    """Return ports that are free at present, and that processes which ask for any port do not get."""
    with contextlib.ExitStack() as sockets:
        ports: list[int] = []
        while len(ports) < count:
            port = random.SystemRandom().choice(_PORTS)  # tests side by side may have the same seed
            with contextlib.suppress(OSError):
                sockets.enter_context(socket.socket()).bind(("127.0.0.1", port))
                ports.append(port)
        return ports
