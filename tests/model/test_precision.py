import pytest
import torch
from torch import nn

from model.errors import ConfigurationError
from model.precision import autocast, choose_device, choose_precision, memory_format

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def pretend(monkeypatch: pytest.MonkeyPatch, gpu: bool = False, amx: bool = False) -> None:
    """Make torch report this hardware."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": amx})


@pytest.mark.parametrize(
    ("requested", "gpu", "expected"),
    [("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_device(monkeypatch: pytest.MonkeyPatch, requested: str, gpu: bool, expected: str) -> None:
    pretend(monkeypatch, gpu=gpu)
    assert choose_device(requested).type == expected


def test_asking_for_an_absent_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpu=False)
    with pytest.raises(ConfigurationError, match=r"--device cuda.*use --device cpu"):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("requested", "device", "amx", "expected"),
    [
        ("auto", CUDA, False, torch.bfloat16),
        ("auto", CPU, True, torch.bfloat16),
        ("auto", CPU, False, torch.float32),
        ("float32", CUDA, False, torch.float32),
        ("bfloat16", CPU, False, torch.bfloat16),
    ],
)
def test_precision(
    monkeypatch: pytest.MonkeyPatch, requested: str, device: torch.device, amx: bool, expected: torch.dtype
) -> None:
    """auto takes bfloat16 exactly if the hardware has units for it; an explicit choice is always used."""
    pretend(monkeypatch, gpu=device.type == "cuda", amx=amx)
    assert choose_precision(requested, device) == expected


def test_unknown_names_are_configuration_errors() -> None:
    with pytest.raises(ConfigurationError, match=r"--device is 'gpu'; use one of auto, cpu, cuda"):
        choose_device("gpu")
    with pytest.raises(
        ConfigurationError, match=r"--precision is 'float16'; use one of auto, float32, bfloat16"
    ):
        choose_precision("float16", CPU)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_autocast_computes_in_the_chosen_precision(precision: torch.dtype) -> None:
    context = autocast(CPU, precision)
    layer, value = torch.nn.Linear(2, 2), torch.ones(1, 2)
    for _ in range(2):  # a new context for every step
        with context():
            assert layer(value).dtype == precision
    assert layer(value).dtype == torch.float32


@pytest.mark.parametrize("groups", [1, 4])
def test_networks_with_depthwise_convolutions_are_channels_last_on_a_cpu(groups: int) -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 3, groups=groups))
    formats = [memory_format(torch.float32, device, network) == torch.channels_last for device in (CPU, CUDA)]
    assert formats == [groups > 1, False]
    assert memory_format(torch.bfloat16, CPU, network) == torch.channels_last
