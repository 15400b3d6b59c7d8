"""How photos enter a saliency network and what its output means; read from the JSON file beside the network."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from model.errors import ConfigurationError

#: Networks above this side would need more memory for one photo than a worker has.
MAX_SIDE = 4096


@dataclass(frozen=True)
class Preprocessing:
    """Settings of one network; the JSON file's keys are these fields. Raises ConfigurationError at construction."""

    #: Height and width that photos are stretched to; in JSON also one number. None: the network's own where its file
    #: fixes one, else DEFAULT_SIDE. Set it where the network was trained at another (ISNet and BiRefNet: 1024).
    size: tuple[int, int] | None = None
    #: Subtracted from RGB in [0, 1]. ImageNet's by default, which U2-Net, TRACER and BiRefNet use; ISNet: 0.5 each.
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    #: What the difference is divided by. ISNet: 1 each.
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    #: Which of several outputs is the mask, from 0; -1 is the last. Networks with side outputs differ here.
    output: int = 0
    #: True: the output is logits. None: it is where it clearly leaves [0, 1] on a photo.
    sigmoid: bool | None = None

    def __post_init__(self) -> None:
        if self.size is not None and not all(_whole(side) and 1 <= side <= MAX_SIDE for side in self.size):
            raise ConfigurationError(f"size must be one or two whole numbers from 1 to {MAX_SIDE}")
        if not all(_real(value) for value in (*self.mean, *self.std)) or min(self.std) <= 0:
            raise ConfigurationError("mean and std must be three numbers each, those of std positive")
        if not _whole(self.output):
            raise ConfigurationError("output must be a whole number: 0 is the first, -1 the last")
        if self.sigmoid not in (None, True, False) or _whole(self.sigmoid):
            raise ConfigurationError("sigmoid must be true, false or null")

    def with_fixed(self, size: tuple[int, int] | None) -> "Preprocessing":
        """With the size that the network's file fixes, if it does. Raises ConfigurationError where ours differs."""
        if size is not None and self.size not in (None, size):
            raise ConfigurationError(
                f"the network takes {size[0]}x{size[1]} (height x width) only, the JSON file beside it says "
                f"{self.size}; remove `size` there"
            )
        return replace(self, size=size or self.size)


def read_preprocessing(text: bytes) -> Preprocessing:
    """The settings in a JSON object. Raises ConfigurationError that names the key and the remedy."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"not a JSON text: {error}") from error
    known = [field.name for field in fields(Preprocessing)]
    if not isinstance(content, dict) or not set(content) <= set(known):
        raise ConfigurationError(f"must be a JSON object with no other keys than {', '.join(known)}")
    for key, count in (("size", 2), ("mean", 3), ("std", 3)):
        if key in content:
            content[key] = _numbers(key, content[key], count)
    return Preprocessing(**content)


def _numbers(key: str, value: Any, count: int) -> Sequence[Any] | None:
    if key == "size" and (value is None or _whole(value)):
        return None if value is None else (value, value)
    if not isinstance(value, list) or len(value) != count:
        raise ConfigurationError(f"{key} must be a list of {count} numbers")
    return tuple(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _real(value: Any) -> bool:
    return (_whole(value) and abs(value) < 1 << 53) or (isinstance(value, float) and math.isfinite(value))
