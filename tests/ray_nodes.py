"""Runs Ray nodes on loopback, each a process group of its own: clusters on one machine, whose nodes a test can kill."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from tests.processes import running

BIN = Path(sys.executable).parent
START_SECONDS = 300
STORE_BYTES = 200 << 20


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

    settings: environment variables of this node.
    """

    def __init__(
        self,
        cpus: int = 2,
        address: str | None = None,
        dashboard: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        # Not pytest's folder, because paths of Unix sockets must stay under 108 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="ray-node-"))
        names = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port")
        names += ("node-manager-port", "object-manager-port")
        gcs, server, client, *ports = free_ports(3 + len(names))
        self.metrics_port = ports[names.index("metrics-export-port")]
        flags = ["--block", f"--num-cpus={cpus}", "--node-ip-address=127.0.0.1"]
        flags += [f"--object-store-memory={STORE_BYTES}"]
        flags += [f"--{name}={port}" for name, port in zip(names, ports, strict=True)]
        if address:
            flags.append(f"--address={address}")
        else:
            flags += ["--head", f"--port={gcs}", f"--ray-client-server-port={client}"]
            flags += [f"--temp-dir={self.folder}", f"--include-dashboard={str(dashboard).lower()}"]
            flags += ["--dashboard-host=127.0.0.1", f"--dashboard-port={server}"]
        self.address = address or f"127.0.0.1:{gcs}"
        self.job_server = f"http://127.0.0.1:{server}"
        self._log = self.folder / "node.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [BIN / "ray", "start", *flags],
                env={**environment(), **(settings or {})},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_for_job_server(self) -> None:
        """Return as soon as the head's job server answers. Raises RuntimeError with the log if it does not."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{self.job_server}/api/version", timeout=5) as answer,
            ):
                if answer.status == 200:
                    return
            time.sleep(0.2)
        raise RuntimeError(f"the Ray head did not start:\n{self._log.read_text()}")

    def processes(self) -> list[int]:
        """Return the ids of all processes on this node."""
        pids = []
        for process in running():
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(process) == self._process.pid:
                    pids.append(process)
        return pids

    def kill(self) -> None:
        """Send SIGKILL to the node and everything on it, as if a machine were lost."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


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
    """Return ports that are free at present."""
    with contextlib.ExitStack() as sockets:
        bound = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for one in bound:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in bound]
