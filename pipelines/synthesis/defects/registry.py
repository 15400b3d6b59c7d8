"""Defect syntheses by name: the built-in ones, and plug-ins by Python entry point.

A distribution adds one by naming a function in its metadata:

    [project.entry-points."catalog_repair.defects"]
    scratches = "their_package.scratches:add_scratches"

It must be installed wherever images are prepared: on every worker as well as where the job is started.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from model.errors import CatalogRepairError, ConfigurationError, RunError
from pipelines.contracts.names import choices
from pipelines.synthesis.defects.angle import wrong_angle
from pipelines.synthesis.defects.background import non_white_background
from pipelines.synthesis.defects.overlays import added_text, border_frame
from pipelines.synthesis.defects.photographic import blur, dark_exposure, low_resolution
from pipelines.synthesis.defects.watermark import add_watermark

#: The synthesis that puts a clean product on another background. Photos already show the defects that use it.
CLEAN_UP = "non_white_background"

#: Maps a clean product on white, uint8 (H, W, 3), to the same with a defect, a new uint8 (H, W, 3). It depends only on
#: the image and the generator, and does not change the image.
Synthesis = Callable[[NDArray[np.uint8], np.random.Generator], NDArray[np.uint8]]

GROUP = "catalog_repair.defects"

BUILT_IN: Mapping[str, Synthesis] = MappingProxyType(
    {
        "non_white_background": non_white_background,
        "watermark": add_watermark,
        "wrong_angle": wrong_angle,
        "blur": blur,
        "dark_exposure": dark_exposure,
        "border_frame": border_frame,
        "added_text": added_text,
        "low_resolution": low_resolution,
    }
)

#: Valid names of defects in a label map.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


def known_syntheses() -> tuple[str, ...]:
    """Return the names of all syntheses: the built-in ones, then plug-ins, sorted. Imports no plug-in.

    Raises ConfigurationError, naming the distributions, if a name is taken twice or is not valid for a defect.
    """
    return (*BUILT_IN, *sorted(_plug_ins()))


def synthesis(name: str) -> Synthesis:
    """Return the synthesis of that name.

    A plug-in is wrapped: it gets the image read-only. If it raises, or returns anything but a uint8 array of the
    image's shape, RunError names it and its distribution. Raises ConfigurationError for an unknown name, for a plug-in
    that cannot be imported or called, and as `known_syntheses` does.
    """
    plug_ins = _plug_ins()
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name not in plug_ins:
        known = choices(name, (*BUILT_IN, *sorted(plug_ins)), "known:")
        raise ConfigurationError(
            f"no synthesis of defect {name!r}; {known}. Others come with packages that have an entry point "
            f"in the group {GROUP!r}"
        )
    return _loaded(plug_ins[name])


@dataclass(frozen=True)
class PlugIn:
    """A synthesis of another distribution, with a check of its result."""

    name: str
    distribution: str
    function: Callable[[NDArray[np.uint8], np.random.Generator], object]

    def __call__(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return the plug-in's image; see `synthesis`."""
        read_only = image.view()
        read_only.flags.writeable = False
        try:
            made = self.function(read_only, rng)
        except CatalogRepairError:
            raise
        except Exception as error:
            raise RunError(
                f"{self._title()} failed on an image of {image.shape[1]}x{image.shape[0]} pixels: "
                f"{type(error).__name__}: {error}. Update or remove the distribution, or leave the defect out"
            ) from error
        if isinstance(made, np.ndarray) and made.dtype == np.uint8 and made.shape == image.shape:
            return made
        actual = f"{made.dtype} {made.shape}" if isinstance(made, np.ndarray) else type(made).__name__
        raise RunError(f"{self._title()} returned {actual} instead of uint8 {image.shape}")

    def _title(self) -> str:
        return f"defect {self.name!r} of distribution {self.distribution}"


def _plug_ins() -> dict[str, EntryPoint]:
    """Return the entry points of the group by name."""
    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        owner = _owner(point)
        if not _NAME.fullmatch(point.name):
            raise ConfigurationError(
                f"distribution {owner} names a defect {point.name!r}: letters, digits, _ and - only, 64 at most"
            )
        if point.name in BUILT_IN:
            raise ConfigurationError(
                f"distribution {owner} adds defect {point.name!r}, which is built in; uninstall it or have it renamed"
            )
        if point.name in points:
            raise ConfigurationError(
                f"defect {point.name!r} is added by two distributions, {_owner(points[point.name])} and {owner}; "
                "uninstall one of them"
            )
        points[point.name] = point
    return points


def _loaded(point: EntryPoint) -> PlugIn:
    owner = _owner(point)
    try:
        function = point.load()
    except Exception as error:  # a plug-in may raise anything when imported
        raise ConfigurationError(
            f"defect {point.name!r} of distribution {owner} cannot be loaded from {point.value!r}: "
            f"{type(error).__name__}: {error}. Repair or uninstall that distribution"
        ) from error
    if not callable(function):
        raise ConfigurationError(
            f"defect {point.name!r} of distribution {owner}: {point.value!r} is a {type(function).__name__}, "
            "not a function of (image, generator)"
        )
    return PlugIn(point.name, owner, function)


def _owner(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
