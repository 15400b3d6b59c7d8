import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from model.bundle import CARD, CONFIG, LABEL_MAP, WEIGHTS, load_bundle, save_bundle
from model.config import GeneratorConfig
from model.errors import BundleError
from model.generator import Generator, build_generator
from tests.model.builders import HEADS, images, labels, small_config, unsettle

LABELS = "version: 1\n# what the detector's labels mean: über all\n"
DETAILS = {"recipe": "proposed", "steps": 7, "scores": {"watermark": 41.2}}
VERIFIED = (CONFIG, WEIGHTS, LABEL_MAP)


def generator(head: str = "geometry", seed: int = 0) -> Generator:
    torch.manual_seed(seed)
    return unsettle(Generator(small_config(**HEADS[head])))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Save a valid bundle and return its folder."""
    save_bundle(tmp_path / "bundle", generator(), LABELS, 32, "# A card", DETAILS)
    return tmp_path / "bundle"


def rehash(folder: Path, change: Callable[[dict[str, Any]], None] = lambda config: None) -> None:
    """Change config.json and update its hashes, as a careful forger would."""
    config = json.loads((folder / CONFIG).read_text())
    config["sha256"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (WEIGHTS, LABEL_MAP)
    }
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_round_trip(tmp_path: Path, head: str) -> None:
    original = generator(head)
    version = save_bundle(tmp_path / "new" / "bundle", original, LABELS, 32, "# A card", DETAILS)
    bundle = load_bundle(tmp_path / "new" / "bundle")
    assert bundle.version == version
    assert len(bytes.fromhex(version)) == 32
    assert bundle.label_map == LABELS
    assert bundle.config["image_size"] == 32
    assert DETAILS.items() <= bundle.config.items()
    assert bundle.generator.config == original.config
    assert not bundle.generator.training
    arguments = images(2, 32), labels(0, 1), labels(0, 2)
    assert torch.equal(bundle.generator(*arguments), original(*arguments))


def test_a_u_net_of_before_its_batch_norm_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """Its convolutions had biases and its norms no weights, so the trained network is not the one that would run."""
    config = GeneratorConfig(0, 0, width=4, architecture="unet", n_downsamplings=4)
    save_bundle(tmp_path, build_generator(config), LABELS, 32, "", {})
    state = load((tmp_path / WEIGHTS).read_bytes())
    old = {name: value for name, value in state.items() if value.ndim == 4 or name == "up.0.1.bias"}
    old |= {name.replace("weight", "bias"): torch.zeros(4) for name in old if name.startswith("down.")}
    (tmp_path / WEIGHTS).write_bytes(save(old))
    rehash(tmp_path)
    with pytest.raises(BundleError, match=r"other layers than architecture 'unet' has now; train again"):
        load_bundle(tmp_path)


def test_weights_are_float32_for_any_training_precision(tmp_path: Path) -> None:
    save_bundle(tmp_path, generator().bfloat16(), LABELS, 32, "", {})
    loaded = load_bundle(tmp_path).generator
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}


def test_the_same_content_has_the_same_version_and_bytes(tmp_path: Path, folder: Path) -> None:
    again = tmp_path / "again"
    version = save_bundle(again, generator(), LABELS, 32, "# A card", DETAILS)
    assert version == load_bundle(folder).version
    assert all((again / name).read_bytes() == (folder / name).read_bytes() for name in (*VERIFIED, CARD))


def test_version_follows_everything_but_the_card(tmp_path: Path, folder: Path) -> None:
    version = load_bundle(folder).version
    changed = {
        "weights": (generator(seed=1), LABELS, 32, DETAILS),
        "label map": (generator(), LABELS + "\n", 32, DETAILS),
        "resolution": (generator(), LABELS, 64, DETAILS),
        "recipe": (generator(), LABELS, 32, {**DETAILS, "recipe": "other"}),
        "architecture": (generator("blend"), LABELS, 32, DETAILS),
    }
    versions = {
        name: save_bundle(tmp_path / name, model, label_map, size, "# A card", details)
        for name, (model, label_map, size, details) in changed.items()
    }
    assert len({version, *versions.values()}) == 1 + len(changed)
    (folder / CARD).write_text("# Another card")
    assert load_bundle(folder).version == version
    (folder / CARD).unlink()
    assert load_bundle(folder).version == version


@pytest.mark.parametrize("name", [WEIGHTS, LABEL_MAP])
def test_one_changed_bit_is_noticed(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name} does not match its hash.*copy the bundle again"):
        load_bundle(folder)


@pytest.mark.parametrize("name", VERIFIED)
@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_a_truncated_file_is_noticed(folder: Path, name: str, keep: float) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(BundleError, match=str(folder)):
        load_bundle(folder)


@pytest.mark.parametrize("name", VERIFIED)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=rf"{folder}: cannot read {name}.*as jobs/train.py writes it"):
        load_bundle(folder)


def test_an_absent_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(BundleError, match=f"no model bundle at {path}"):
            load_bundle(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda config: config["generator"].update(colour=1), "config.json: unknown key colour"),
        (lambda config: config["generator"].pop("n_types"), "n_types"),
        (lambda config: config["generator"].update(width="4"), "config.json"),
        (lambda config: config["generator"].update(head="unet"), "head is 'unet'"),
        (lambda config: config["generator"].update(width=8), "size mismatch"),
        (lambda config: config["generator"].update(n_blocks=3), "Missing key"),
        (lambda config: config.update(generator=None), "not a usable model bundle"),
        (lambda config: config.update(format=2), "format 2 is not 1"),
        (lambda config: config.update(image_size=0), "image_size"),
        (lambda config: config.update(image_size="128"), "image_size"),
        (lambda config: config.pop("image_size"), "image_size"),
        (lambda config: config.pop("sha256"), "sha256"),
        (lambda config: config.update(sha256=[]), "not a usable model bundle"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], None], complaint: str
) -> None:
    rehash(folder, change)
    with pytest.raises(BundleError, match=complaint):
        load_bundle(folder)


@pytest.mark.parametrize("text", ["[]", "3", '"text"', "null", "{}", "{", "[" * 100_000, "\x80"])
def test_a_malformed_config_is_refused(folder: Path, text: str) -> None:
    (folder / CONFIG).write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleError):
        load_bundle(folder)


def test_weights_of_another_network_are_refused(tmp_path: Path, folder: Path) -> None:
    save_bundle(tmp_path / "other", generator("direct"), LABELS, 32, "", {})
    shutil.copy(tmp_path / "other" / WEIGHTS, folder / WEIGHTS)
    rehash(folder)
    with pytest.raises(BundleError, match="not a usable model bundle"):
        load_bundle(folder)


class Payload:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.marker,)


@pytest.mark.parametrize("container", ["pickle", "torch"])
@pytest.mark.parametrize("name", VERIFIED)
def test_loading_executes_nothing_from_the_bundle(
    tmp_path: Path, folder: Path, name: str, container: str
) -> None:
    """Bundles come from any place that --model names, so a pickle in any of its files is refused, not run."""
    marker = tmp_path / "executed"
    if container == "pickle":
        (folder / name).write_bytes(pickle.dumps(Payload(marker)))
    else:
        torch.save(Payload(marker), folder / name)
    if name != CONFIG:
        rehash(folder)
    if name == LABEL_MAP and container == "pickle":
        pickle.loads((folder / name).read_bytes())  # to show that the payload works when unpickled
        assert marker.exists()
        marker.rmdir()
    with pytest.raises(BundleError):
        load_bundle(folder)
    assert not marker.exists()


def test_the_label_map_is_read_as_text_only(tmp_path: Path, folder: Path) -> None:
    marker = tmp_path / "executed"
    text = f"!!python/object/apply:os.mkdir ['{marker}']\n"
    (folder / LABEL_MAP).write_text(text)
    rehash(folder)
    assert load_bundle(folder).label_map == text
    assert not marker.exists()
