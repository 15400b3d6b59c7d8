from dataclasses import replace
from typing import Any

import pytest
import ray

from model.errors import ConfigurationError
from pipelines.cluster.autoscaling import Scaling
from pipelines.cluster.placement import (
    _ACTOR,
    _GPU_ACTOR,
    _GPU_TASK,
    _READ,
    _TASK,
    Placement,
    choose_placement,
    in_task,
)
from pipelines.cluster.session import Cluster

CPUS = Cluster(cpus=4, gpus=0)
GPUS = Cluster(cpus=16, gpus=4)
SCALING = Cluster(cpus=0, gpus=0, scaling=Scaling())


def test_a_cpu_cluster_gets_an_actor_per_cpu_if_there_is_work() -> None:
    assert choose_placement("auto", CPUS, None, None, most=100) == Placement(
        "cpu", 4, 4, tasks_per_step=2, beside=2
    )
    assert choose_placement("cpu", GPUS, None, None, most=3) == Placement(
        "cpu", 3, 3, tasks_per_step=8, beside=8
    )
    assert choose_placement("auto", CPUS, None, 0.0, most=0) == Placement(
        "cpu", 1, 1, tasks_per_step=2, beside=2
    )


def test_a_gpu_cluster_scales_from_one_actor_to_its_gpus() -> None:
    assert choose_placement("auto", GPUS, None, None, most=100) == Placement("cuda", 1, 4, 1.0)
    assert choose_placement("cuda", GPUS, None, 0.5, most=100) == Placement("cuda", 1, 8, 0.5)
    assert choose_placement("auto", GPUS, (2, 3), 1.0, most=100) == Placement("cuda", 2, 3, 1.0)
    assert choose_placement("auto", GPUS, None, 0.0, most=100).device == "cpu"


@pytest.mark.parametrize(
    ("device", "share", "flag"),
    [("cuda", None, "--device cuda"), ("auto", 0.5, "--gpus-per-actor 0.5"), ("cuda", 1.0, "--device cuda")],
)
def test_a_requested_gpu_that_is_missing_is_an_error(device: str, share: float | None, flag: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{flag}: the cluster has no GPU.*--device cpu"):
        choose_placement(device, CPUS, None, share, most=10)


def test_contradictions_are_named() -> None:
    with pytest.raises(ConfigurationError, match="--gpus-per-actor 8: that takes 8 GPUs, the cluster has 4"):
        choose_placement("cuda", GPUS, None, 8.0, most=10)
    with pytest.raises(ConfigurationError, match="--actors 5:9: the cluster has 4 CPUs"):
        choose_placement("cpu", CPUS, (5, 9), None, most=10)


def test_a_scaling_cluster_accepts_any_request_and_logs_that_it_waits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "pipelines.cluster.autoscaling")
    assert choose_placement("cuda", SCALING, None, None, most=10).device == "cuda"
    assert choose_placement("auto", SCALING, (2, 3), 0.5, most=10) == Placement("cuda", 2, 3, 0.5)
    assert choose_placement("cpu", SCALING, (4, 8), None, most=10) == Placement("cpu", 4, 8, tasks_per_step=4)
    assert [record.message.count("waiting for the autoscaler") for record in caplog.records] == [1, 1, 1]


def most_started(placement: Placement) -> int:
    """Return how many actors Ray Data may start at most."""
    pools: list[Any] = []

    class Source:
        def map_batches(self, *_: Any, **options: Any) -> None:
            pools.append(options["compute"])

    placement.actors(Source(), object, {}, batch_size=1)  # type: ignore[arg-type]
    return int(pools[0].max_size)


@pytest.mark.parametrize(
    ("device", "cluster", "share", "least", "most"),
    [
        # From no node at all, or one: what the autoscaler may add, but no more than the work keeps busy.
        ("cuda", replace(SCALING, scaling=Scaling(cpus=64, gpus=8)), None, 1, 8),
        ("cuda", replace(SCALING, scaling=Scaling(cpus=64, gpus=8)), 0.5, 1, 16),
        ("auto", Cluster(8, 1, Scaling(cpus=64, gpus=8)), None, 1, 8),
        ("cpu", replace(SCALING, scaling=Scaling(cpus=64, gpus=8)), None, 1, 64),
        ("cpu", replace(CPUS, scaling=Scaling(cpus=64)), None, 4, 64),
        # Where nobody knows what it may add, as with KubeRay, only the work is a limit.
        ("cuda", SCALING, 1.0, 1, 100),
        ("cpu", SCALING, None, 1, 100),
    ],
)
def test_without_actors_an_autoscaler_may_add_as_many_as_the_work_keeps_busy(
    device: str,
    cluster: Cluster,
    share: float | None,
    least: int,
    most: int,
) -> None:
    placement = choose_placement(device, cluster, None, share, most=100)
    assert (placement.min_actors, most_started(placement)) == (least, most)
    few = choose_placement(device, cluster, None, share, most=2)
    assert most_started(few) == 2


def test_decoding_takes_half_of_the_cores_that_may_come() -> None:
    known = replace(CPUS, scaling=Scaling(cpus=64))
    assert choose_placement("cpu", known, None, None, most=100).tasks_per_step == 32
    assert choose_placement("cpu", SCALING, None, None, most=100).tasks_per_step == 0  # any number


def test_a_cluster_of_fixed_size_without_a_cpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    with pytest.raises(
        ConfigurationError, match=r"--device cpu: the cluster has 0 CPUs; .*--autoscaling yes"
    ):
        choose_placement("cpu", Cluster(0, 0), None, None, most=8)


def test_auto_on_a_scaling_cluster_without_gpus_logs_that_it_uses_cpus(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert choose_placement("auto", SCALING, None, None, most=10).device == "cpu"
    assert "--device cuda asks the autoscaler for GPUs" in caplog.text


def test_the_minimum_of_gpu_actors_must_fit() -> None:
    with pytest.raises(ConfigurationError, match=r"--actors 5:6 --gpus-per-actor 1: that takes 5 GPUs"):
        choose_placement("cuda", GPUS, (5, 6), 1.0, most=1000)
    assert choose_placement("cuda", GPUS, (4, 9), 1.0, most=1000).max_actors == 9


def test_more_actors_than_cpus_never_starve_the_tasks() -> None:
    assert choose_placement("cpu", CPUS, (1, 99), None, most=1000).max_actors == 4


@pytest.mark.parametrize(
    ("device", "cluster", "actors", "work", "expected"),
    [
        ("cpu", CPUS, None, 100, (2, 2)),
        ("cpu", CPUS, None, 1, (1, 1)),
        ("cpu", GPUS, None, 5, (5, 5)),  # all of a little work at once
        ("cpu", CPUS, (3, 4), 100, (3, 4)),  # the user knows
        ("cpu", replace(CPUS, scaling=Scaling(cpus=64)), None, 100, (4, 64)),  # nodes come for actors
        ("auto", GPUS, None, 100, (1, 4)),
    ],
)
def test_beside_tasks_that_compute_a_fixed_cluster_has_an_actor_for_two_cpus(
    device: str, cluster: Cluster, actors: tuple[int, int] | None, work: int, expected: tuple[int, int]
) -> None:
    placement = choose_placement(device, cluster, actors, None, most=work).beside_tasks()
    assert (placement.min_actors, most_started(placement)) == expected


def test_one_cpu_has_room_for_every_kind_of_step_at_once() -> None:
    assert _READ + 2 * _TASK + _ACTOR <= 1
    assert _GPU_ACTOR + _GPU_TASK <= 1
    assert _READ not in (_TASK, _GPU_TASK)  # steps with equal shares would be fused into one task


@pytest.mark.parametrize(
    ("nodes", "memory"),
    [
        ([{"CPU": 4.0, "memory": 8e9}], 2e9),
        (
            [{"CPU": 4.0, "memory": 1e9}, {"memory": 64e9}, {"CPU": 0.0, "memory": 64e9}],
            1e9,
        ),  # a head without CPUs
        ([{"memory": 64e9}], 0),  # the autoscaler has not added a node yet
    ],
)
def test_a_task_never_waits_for_memory_that_no_node_has(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], memory: float
) -> None:
    requests: list[dict[str, Any]] = []

    class Task:
        def __call__(self, function: Any) -> Any:
            return self

        def remote(self, *arguments: Any) -> Any:
            return arguments

    def remote(**request: Any) -> Task:
        requests.append(request)
        return Task()

    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": one} for one in nodes])
    monkeypatch.setattr(ray, "remote", remote)
    assert in_task(sum, 1, [1], memory=2_000_000_000) == ([1],)
    assert [request["memory"] for request in requests] == [memory]
