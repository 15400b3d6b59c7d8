import importlib.metadata
import pickle
import sys
from pathlib import Path

import pytest
import torch

from model.errors import CatalogRepairError, ConfigurationError
from pipelines import storage
from pipelines.metrics.fid.weights import (
    LAYERS,
    TORCHSCRIPT_SHA256,
    FidWeightsMissing,
    find_weights,
    read_weights,
)


def test_the_extra_carries_the_official_file_and_is_never_imported() -> None:
    weights = read_weights(find_weights(None))
    assert weights.official
    assert weights.sha256 == TORCHSCRIPT_SHA256
    assert not [name for name in sys.modules if name.startswith("fid_helper")]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_every_tensor_of_the_file_is_used_once() -> None:
    source = torch.jit.load(find_weights(None), map_location="cpu").state_dict()
    used = [
        f"net.layers.{name}.{part}" for name in LAYERS.values() for part in ("weight", "beta", "mean", "var")
    ]
    assert len(used) == len(set(used))
    assert set(used) == set(source)


def test_without_the_extra_the_message_names_both_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> importlib.metadata.Distribution:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(FidWeightsMissing, match=r"catalog-repair\[fid\].*--fid-weights"):
        find_weights(None)
    assert issubclass(FidWeightsMissing, CatalogRepairError)
    assert not issubclass(FidWeightsMissing, ConfigurationError)  # a job goes on without FID


def test_a_path_that_does_not_exist_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--fid-weights: cannot read .*absent\.pth: "):
        find_weights(str(tmp_path / "absent.pth"))


def test_a_state_dict_is_accepted_and_known_to_be_unofficial(tmp_path: Path) -> None:
    """The official one is recognised by its hash, which a copy that was saved again does not have."""
    packaged = read_weights(find_weights(None))
    path = tmp_path / "copy.pth"
    torch.save(packaged.state, path)
    weights = read_weights(find_weights(str(path)))
    assert not weights.official
    assert weights.state.keys() == packaged.state.keys()
    assert all(torch.equal(weights.state[name], tensor) for name, tensor in packaged.state.items())


@pytest.mark.parametrize("place", ["file://", "s3"])
def test_weights_are_read_from_any_storage(
    place: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    packaged = read_weights(find_weights(None))
    folder = tmp_path.as_uri() if place == "file://" else str(request.getfixturevalue("s3_folder"))
    uri = f"{folder}/inception.pt"
    storage.write_bytes(uri, Path(find_weights(None)).read_bytes())
    weights = read_weights(find_weights(uri))
    assert (weights.official, weights.sha256) == (True, packaged.sha256)
    assert torch.equal(weights.state["fc.bias"], packaged.state["fc.bias"])
    with pytest.raises(ConfigurationError, match=r"--fid-weights: cannot read .*absent\.pt"):
        find_weights(f"{folder}/absent.pt")


class Hostile:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.write_text, (self.path, "executed")


def test_other_content_is_a_configuration_error_and_is_not_executed(tmp_path: Path) -> None:
    evidence = tmp_path / "evidence"
    altered = bytearray(Path(find_weights(None)).read_bytes())
    altered[len(altered) // 2] ^= 1  # inside a tensor, so it is an unknown TorchScript program
    torch.save({"model": Hostile(evidence)}, tmp_path / "hostile.pth")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    contents = {
        "empty.pth": b"",
        "text.pth": b"not weights",
        "pickle.pth": pickle.dumps(Hostile(evidence)),
        "altered.pt": bytes(altered),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name in (*contents, "hostile.pth", "other.pth", "list.pth"):
        with pytest.raises(ConfigurationError, match=rf"{name}: not Inception weights"):
            find_weights(str(tmp_path / name))
    assert not evidence.exists()
