"""Model bundles: folders that hold a generator and everything needed to use it, and no executable code.

config.json            architecture, conditions, training resolution, recipe, dataset fingerprint, scores, file hashes
generator.safetensors  weights; float16 if that changes no output by half a level of 255, else float32
label_map.yaml         the meaning of the detector's labels, and the ids that the generator was trained with
model_card.md          for people; not part of the version
"""

import copy
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from model.config import FITS, GeneratorConfig, from_mapping, require_choice, to_mapping
from model.errors import BundleError, ConfigurationError
from model.generator import build_generator
from model.layers import ImageGenerator

CONFIG, WEIGHTS, LABEL_MAP, CARD = "config.json", "generator.safetensors", "label_map.yaml", "model_card.md"
FORMAT = 1
#: Kinds of bundles, each with the job that writes it and the flag of jobs/correct_catalog.py that takes it. A bundle
#: whose configuration has no kind is a generator.
GENERATOR, DETECTOR = "generator", "detector"
KINDS = {GENERATOR: ("jobs/train.py", "--model"), DETECTOR: ("jobs/train_detector.py", "--detector")}
#: Half a level of 255 on the scale of [-1, 1]. Outputs that differ by less round to the same or a neighbouring level.
HALF_A_LEVEL = 1 / 255
#: The bundle that ships with the project.
STARTER = Path(__file__).parent / "starter"


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle. generator: in eval mode, float32, on the CPU. version: 64 hex digits, hash of the contents."""

    generator: ImageGenerator
    config: dict[str, Any]
    label_map: str
    version: str

    @property
    def image_size(self) -> int:
        """Side of the generator's input in pixels."""
        return int(self.config["image_size"])

    @property
    def fit(self) -> str:
        """How images are fitted to the generator's square, one of FITS; bundles that do not state it stretch them."""
        return str(self.config.get("fit", FITS[0]))


def save_bundle(
    folder: Path,
    generator: ImageGenerator,
    label_map: str,
    image_size: int,
    card: str,
    details: Mapping[str, Any],
) -> str:
    """Write a bundle into `folder` (created if absent) and return its version.

    image_size: side in pixels that it was trained at. details: recipe, dataset fingerprint, scores and any other JSON
    values that the training records.
    """
    files = {WEIGHTS: _pack_generator(generator, image_size), LABEL_MAP: label_map.encode()}
    config = {**details, "generator": to_mapping(generator.config), "image_size": image_size}
    return pack(folder, files, config, card)


def load_bundle(folder: Path) -> Bundle:
    """Return the verified bundle in `folder`. Raises BundleError naming the file and the remedy."""
    config, data, version = unpack(folder, (WEIGHTS, LABEL_MAP), GENERATOR)
    with unusable(folder):
        generator = build_generator(from_mapping(GeneratorConfig, config["generator"], str(folder / CONFIG)))
        _load_weights(generator, load_tensors(data[WEIGHTS]), folder)
        label_map = data[LABEL_MAP].decode()
        require_choice("fit", config.get("fit", FITS[0]), FITS)
    return Bundle(generator.eval(), config, label_map, version)


def _pack_generator(generator: ImageGenerator, image_size: int) -> bytes:
    """Return the weights as safetensors, in half precision if the difference is invisible.

    Half precision is tried if the architecture allows it, on two images under every type: see HALF_A_LEVEL.
    """
    state = generator.state_dict()
    if not generator.stores_half:
        return pack_tensors(state)
    halves = half_precision(state)
    rounded = copy.deepcopy(generator).cpu().float()
    rounded.load_state_dict(halves)
    exact = copy.deepcopy(generator).cpu().float()
    if _largest_difference(exact.eval(), rounded.eval(), image_size) >= HALF_A_LEVEL:
        return pack_tensors(state)
    return save_tensors(halves)


@torch.no_grad()
def _largest_difference(one: ImageGenerator, other: ImageGenerator, side: int) -> float:
    """Return the largest difference between two generators' outputs in [-1, 1]; infinite if one is not finite."""
    random = torch.Generator().manual_seed(0)
    noise = torch.rand(2, 3, side, side, generator=random) * 2 - 1
    coarse = F.interpolate(
        torch.rand(2, 3, 8, 8, generator=random) * 2 - 1, size=(side, side), mode="bilinear"
    )
    images = torch.lerp(coarse, noise, 0.1)  # smooth tones with grain, as photos have
    largest = 0.0
    for type_ in range(max(1, one.config.n_types)):
        for group in range(max(1, one.config.n_groups)):
            labels = torch.full((2,), group), torch.full((2,), type_)
            difference = (one(images, *labels) - other(images, *labels)).abs().max()
            largest = max(largest, float(difference)) if bool(difference.isfinite()) else math.inf
    return largest


def _load_weights(generator: ImageGenerator, state: Mapping[str, Tensor], folder: Path) -> None:
    try:
        generator.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(
            f"{folder} is not a usable model bundle: {WEIGHTS} has other layers than architecture "
            f"{generator.config.architecture!r} has now; train again, or use the release that wrote it ({reason})"
        ) from error


def half_precision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a network's state rounded to float16, on the CPU; integers stay as they are."""
    return {
        name: (value.half() if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in state.items()
    }


def pack_tensors(state: Mapping[str, Tensor]) -> bytes:
    """Return a network's state as safetensors, every value float32."""
    return save_tensors({name: value.detach().float().cpu().contiguous() for name, value in state.items()})


def pack(folder: Path, files: Mapping[str, bytes], config: Mapping[str, Any], card: str) -> str:
    """Write a bundle of any kind into `folder` (created if absent) and return its version.

    Writes its files, config.json with their hashes, and the model card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hashes = {name: _sha256(data) for name, data in files.items()}
    text = json.dumps({**config, "format": FORMAT, "sha256": hashes}, indent=2, sort_keys=True) + "\n"
    for name, data in {**files, CONFIG: text.encode(), CARD: card.encode()}.items():
        (folder / name).write_bytes(data)
    return _sha256(text.encode())


def unpack(folder: Path, names: Sequence[str], kind: str) -> tuple[dict[str, Any], dict[str, bytes], str]:
    """Return the configuration, the files `names` after checking their hashes, and the version of a bundle.

    kind: one of KINDS, which the bundle must be. Raises BundleError naming the file and the remedy.
    """
    document = _read(folder, CONFIG, names, kind)
    with unusable(folder):
        config: dict[str, Any] = json.loads(document)
        _check_kind(folder, config, kind)
    data = {name: _read(folder, name, names, kind) for name in names}
    with unusable(folder):
        expected, image_size = config["sha256"], config["image_size"]
        if config["format"] != FORMAT:
            raise BundleError(
                f"{folder / CONFIG}: format {config['format']} is not {FORMAT}; use a release that wrote it"
            )
        for name in names:
            if _sha256(data[name]) != expected[name]:
                raise BundleError(
                    f"{folder / name} does not match its hash in {CONFIG}: copy the bundle again, whole"
                )
    if not isinstance(image_size, int) or image_size < 1:
        raise BundleError(
            f"{folder / CONFIG}: image_size must be a positive number of pixels, not {image_size!r}"
        )
    return config, data, _sha256(document)


def _check_kind(folder: Path, config: Mapping[str, Any], kind: str) -> None:
    actual = config.get("kind", GENERATOR)
    if actual == kind:
        return
    writer, flag = KINDS[kind]
    if actual not in KINDS:
        raise BundleError(
            f"{folder / CONFIG}: kind is {actual!r}, not {kind!r}; give a bundle that {writer} writes"
        )
    raise BundleError(
        f"this is the bundle of a {actual}, as {KINDS[actual][0]} writes it; a {kind} is needed here, as {writer} "
        f"writes it (correction takes a {actual} with {KINDS[actual][1]}, a {kind} with {flag})"
    )


@contextmanager
def unusable(folder: Path) -> Iterator[None]:
    """Raise errors from a damaged or foreign bundle's content inside the block as BundleError."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise BundleError(
            f"{folder} is not a usable model bundle: {type(error).__name__}: {error}"
        ) from error
    except BundleError:
        raise
    except ConfigurationError as error:
        raise BundleError(str(error)) from error


def _read(folder: Path, name: str, names: Sequence[str], kind: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise BundleError(
            f"no model bundle at {folder}: cannot read {name} ({error.strerror}); a bundle is a folder with "
            f"{', '.join([CONFIG, *names[:-1]])} and {names[-1]}, as {KINDS[kind][0]} writes it"
        ) from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
