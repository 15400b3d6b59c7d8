import pytest

from model.errors import ConfigurationError
from pipelines.cluster.autoscaling import Scaling
from pipelines.cluster.session import Cluster
from pipelines.preparation.on_ray import GPU_SHARE, place_actors

CPUS, GPUS, SCALES = Cluster(8, 0), Cluster(8, 2), Cluster(2, 0, scaling=Scaling())


@pytest.mark.parametrize(
    ("saliency", "device", "share", "cluster", "units", "expected"),
    [
        ("classical", "auto", None, CPUS, 100, ("cpu", 8, 8, 0)),
        ("classical", "auto", None, CPUS, 3, ("cpu", 3, 3, 0)),
        ("classical", "auto", None, GPUS, 100, ("cpu", 8, 8, 0)),  # it has no use for a GPU
        ("net.onnx", "cpu", None, GPUS, 100, ("cpu", 8, 8, 0)),
        ("net.onnx", "auto", None, GPUS, 100, ("cuda", 1, 8, GPU_SHARE)),
        ("net.onnx", "cuda", 0.5, GPUS, 100, ("cuda", 1, 4, 0.5)),
        ("net.onnx", "auto", 1.0, GPUS, 100, ("cuda", 1, 2, 1.0)),
        ("net.onnx", "cuda", None, SCALES, 100, ("cuda", 1, 100, GPU_SHARE)),
        ("classical", "auto", None, SCALES, 100, ("cpu", 2, 100, 0)),
    ],
)
def test_actors_fit_the_cluster(
    saliency: str,
    device: str,
    share: float | None,
    cluster: Cluster,
    units: int,
    expected: tuple[object, ...],
) -> None:
    placement = place_actors(saliency, device, share, cluster, units)
    most = placement.limit or placement.max_actors
    assert (placement.device, placement.min_actors, most, placement.gpus_per_actor) == expected


@pytest.mark.parametrize(
    ("device", "share", "flag"),
    [("cuda", None, "--device cuda"), ("auto", 0.5, "--gpus-per-actor 0.5")],
)
def test_an_absent_gpu_is_an_error_if_one_was_asked_for(device: str, share: float | None, flag: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{flag}: the cluster has no GPU"):
        place_actors("net.onnx", device, share, CPUS, 10)


def test_more_gpus_for_an_actor_than_there_are_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="--gpus-per-actor 3: that takes 3 GPUs, the cluster has 2"):
        place_actors("net.onnx", "cuda", 3, GPUS, 10)
