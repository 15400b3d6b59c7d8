import contextlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.errors import ConfigurationError
from pipelines.cluster import autoscaling, ray_internals
from pipelines.cluster.autoscaling import AUTO, NO, YES, Scaling, await_nodes
from tests import ray_nodes
from tests.ray_nodes import RayNode, fake_nodes

KNOWN = Scaling(cpus=6, gpus=2, idle_seconds=600, source="/etc/scaling.yaml")


@pytest.fixture(autouse=True)
def undeclared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscaling, "_declared", AUTO)


@pytest.mark.parametrize(
    ("choice", "seen", "found"),
    [
        (AUTO, KNOWN, KNOWN),
        (AUTO, None, None),
        (YES, KNOWN, KNOWN),
        (YES, None, Scaling()),
        (NO, KNOWN, None),
        (NO, None, None),
    ],
)
def test_the_flag_wins_over_what_the_head_says(
    choice: str, seen: Scaling | None, found: Scaling | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoscaling, "_ask", lambda: seen)
    autoscaling.declare(choice)
    assert autoscaling.find() == found


@pytest.mark.parametrize(("seconds", "warns"), [(15.0, True), (60.0, False), (math.inf, False)])
def test_an_idle_limit_below_an_actors_start_is_warned_of(
    seconds: float, warns: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        autoscaling, "_ask", lambda: Scaling(idle_seconds=seconds, source="/etc/scaling.yaml")
    )
    autoscaling.find()
    assert ("idle for 15 s (/etc/scaling.yaml)" in caplog.text) is warns
    assert ("set idle_timeout_minutes to 1 or more" in caplog.text) is warns


@pytest.mark.parametrize("reports", [True, False])
def test_without_a_monitor_the_state_that_kuberays_autoscaler_reports_decides(
    reports: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_internals, "monitor_flags", lambda: None)
    monkeypatch.setattr(ray_internals, "autoscaler_reports", lambda: reports)
    assert autoscaling.look({}) == (Scaling() if reports else None)


@pytest.mark.parametrize(("asks", "found"), [(5, Scaling()), (99, None)])
def test_the_first_report_of_kuberays_autoscaler_is_waited_for_but_not_for_ever(
    asks: int, found: Scaling | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reports from the `asks`-th second on."""
    now = [0.0]
    monkeypatch.setattr(autoscaling.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(autoscaling.time, "sleep", lambda seconds: now.append(now.pop() + seconds))
    monkeypatch.setattr(ray_internals, "monitor_flags", lambda: None)
    monkeypatch.setattr(ray_internals, "autoscaler_reports", lambda: now[0] >= asks)
    assert autoscaling.look({}) == found
    assert now[0] <= 30


def test_a_monitor_without_a_configuration_is_believed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_internals, "monitor_flags", dict)
    monkeypatch.setattr(autoscaling.time, "sleep", lambda seconds: pytest.fail("waited"))
    assert autoscaling.look({}) is None


@pytest.mark.parametrize("has_reported", [True, False])
def test_version_1_of_the_autoscaler_reports_by_its_status(
    has_reported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = json.dumps({"autoscaler_report": {"active_nodes": {}}}).encode() if has_reported else None
    monkeypatch.setattr(ray_internals, "is_autoscaler_v2", lambda fetch_from_server: False)
    monkeypatch.setattr(ray_internals, "_internal_kv_get", lambda key: status)
    assert ray_internals.autoscaler_reports() is has_reported


def test_the_limits_come_from_the_configuration_and_the_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "scaling.json"
    monkeypatch.setattr(ray_internals, "monitor_flags", lambda: {"autoscaling-config": str(file)})
    monkeypatch.setattr(ray_internals, "autoscaler_reports", lambda: True)
    types = {"small": (2, {"CPU": 4}), "large": (9, {"CPU": 8, "GPU": 2})}
    file.write_text(json.dumps(fake_nodes("127.0.0.1:1", types, most=3, idle_minutes=2)))
    assert autoscaling.look({"CPU": 1.0}) == Scaling(2 * 4 + 3 * 8 + 1, 3 * 2, 120, str(file))
    # As on AWS, where Ray looks the resources up itself.
    file.write_text(
        json.dumps(fake_nodes("127.0.0.1:1", {**types, "large": (9, {})}, most=3, idle_minutes=2))
    )
    assert autoscaling.look({"CPU": 1.0}) == Scaling(idle_seconds=120, source=str(file))


def test_limits_of_a_file_that_is_gone_are_unknown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray_internals, "monitor_flags", lambda: {"autoscaling-config": "/gone.yaml"})
    monkeypatch.setattr(ray_internals, "autoscaler_reports", lambda: True)
    assert autoscaling.look({}) == Scaling(source="/gone.yaml")
    assert "/gone.yaml cannot be read" in caplog.text
    assert "monitor.log" not in caplog.text


def test_an_autoscaler_that_reports_nothing_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray_internals, "monitor_flags", lambda: {"autoscaling-config": "/gone.yaml"})
    monkeypatch.setattr(ray_internals, "autoscaler_reports", lambda: False)
    assert autoscaling.look({}) is not None
    assert "monitor.log, in Ray's logs on the head, says why" in caplog.text


def test_nodes_that_can_never_come_are_not_awaited() -> None:
    await_nodes(KNOWN, "--workers 2", "needs 2 GPUs", gpus=2)
    with pytest.raises(
        ConfigurationError, match=r"--workers 3: that takes 3 GPUs, but .*scaling.yaml allows 2"
    ):
        await_nodes(KNOWN, "--workers 3", "needs 3 GPUs", gpus=3)
    with pytest.raises(ConfigurationError, match=r"--actors 7:8: that takes 7 CPUs, but .*allows 6"):
        await_nodes(KNOWN, "--actors 7:8", "the cluster has 1 CPU", cpus=7)


@pytest.mark.parametrize(("address", "hints"), [("127.0.0.1:6379", True), (None, False)])
def test_a_joined_cluster_of_fixed_size_is_refused_with_the_flag_that_waits(
    address: str | None, hints: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    else:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(
        ConfigurationError, match=r"^--device cuda: the cluster has no GPU; use --device cpu"
    ) as caught:
        await_nodes(None, "--device cuda", "the cluster has no GPU", "; use --device cpu", gpus=1)
    assert ("--autoscaling yes" in str(caught.value)) is hints


@pytest.fixture
def fixed() -> Iterator[str]:
    """Address of a cluster of fixed size, two nodes, that looks as KubeRay's do: with version 2, and node types."""
    named = {"RAY_enable_autoscaler_v2": "1", "RAY_NODE_TYPE_NAME": "headgroup"}
    head = RayNode(cpus=1, settings=named)
    with contextlib.ExitStack() as stack:
        stack.callback(head.kill)
        stack.callback(RayNode(cpus=1, address=head.address, settings=named).kill)
        yield head.address


@pytest.mark.ray
def test_node_types_do_not_make_a_cluster_of_fixed_size_an_autoscaling_one(
    fixed: str, repository: Path
) -> None:
    """Asked from both nodes: on the head's, and on another one."""
    ray_nodes.wait_for_nodes(fixed, 2)
    script = """
import sys, ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from pipelines.cluster import autoscaling

ray.init(address=sys.argv[1], log_to_driver=False)
ask = ray.remote(autoscaling.find)
on = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes()]
print([autoscaling.look({}), *ray.get([ask.options(scheduling_strategy=node).remote() for node in on])])
"""
    environment = {**ray_nodes.environment(), "PYTHONPATH": str(repository)}
    done = subprocess.run(
        [sys.executable, "-c", script, fixed], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["[None, None, None]"], done.stderr
