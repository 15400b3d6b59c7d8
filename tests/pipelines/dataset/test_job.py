import pytest

from model.errors import ConfigurationError
from pipelines.dataset.job import GPU_SHARE, Actors, place_actors
from pipelines.ray_session import Cluster

CPUS, GPUS, SCALES = Cluster(8, 0), Cluster(8, 2), Cluster(2, 0, scales=True)


@pytest.mark.parametrize(
    ("saliency", "device", "share", "cluster", "units", "expected"),
    [
        ("classical", "auto", None, CPUS, 100, Actors("cpu", 8, 8)),
        ("classical", "auto", None, CPUS, 3, Actors("cpu", 3, 3)),
        ("classical", "auto", None, GPUS, 100, Actors("cpu", 8, 8)),  # it has no use for a GPU
        ("net.onnx", "cpu", None, GPUS, 100, Actors("cpu", 8, 8)),
        ("net.onnx", "auto", None, GPUS, 100, Actors("cuda", 1, 8, GPU_SHARE)),
        ("net.onnx", "cuda", 0.5, GPUS, 100, Actors("cuda", 1, 4, 0.5)),
        ("net.onnx", "auto", 1.0, GPUS, 100, Actors("cuda", 1, 2, 1.0)),
        ("net.onnx", "cuda", None, SCALES, 100, Actors("cuda", 1, None, GPU_SHARE)),
        ("classical", "auto", None, SCALES, 100, Actors("cpu", 2, None)),
    ],
)
def test_actors_fit_the_cluster(
    saliency: str, device: str, share: float | None, cluster: Cluster, units: int, expected: Actors
) -> None:
    assert place_actors(saliency, device, share, cluster, units) == expected


@pytest.mark.parametrize(
    ("device", "share", "flag"),
    [("cuda", None, "--saliency-device cuda"), ("auto", 0.5, "--gpus-per-actor 0.5")],
)
def test_a_gpu_that_is_not_there_is_an_error_where_one_was_asked_for(
    device: str, share: float | None, flag: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"{flag}: the cluster has no GPU"):
        place_actors("net.onnx", device, share, CPUS, 10)


def test_more_gpus_for_an_actor_than_there_are_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"--gpus-per-actor 3: the cluster has 2 GPUs"):
        place_actors("net.onnx", "cuda", 3, GPUS, 10)
