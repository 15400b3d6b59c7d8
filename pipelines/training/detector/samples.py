"""Makes a detector's samples from the images of shards: an image, the defects it shows, and which of these are known.

A row's source shows its defect, and its target none; for a pair that was made anew, the synthesis knows the defects of
both. The shard does not say which other defects a source has. By default they count as absent (`unknown` 'absent'):
sellers' photos seldom have several at once, and a detector that never saw a photo without a watermark would see one on
every bed sheet. If that does not hold, 'masked' leaves them out of the loss. Defects that can be drawn (`overlays`) are
drawn over sources and targets alike, so that the detector also learns from images with several known defects.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.config import require, require_choice
from pipelines.contracts.hashing import hash_number
from pipelines.inference.detector_input import content, shrink
from pipelines.training.detector.overlays import OVERLAYS, waver
from pipelines.training.feed.order import Draw

UNKNOWN = ("absent", "masked")
#: Share of untilted images that are turned by a degree or two.
WAVERING = 0.25


class Sample(NamedTuple):
    """Hold one image and its labels.

    image: uint8 (S,S,3). present, known: (L,) bool, the labels that it has and those that count. overlaid: the one of
    its defects that was drawn here, or None.
    """

    image: NDArray[np.uint8]
    present: NDArray[np.bool_]
    known: NDArray[np.bool_]
    overlaid: str | None = None


class Side(NamedTuple):
    """Hold a row's source or target.

    canvas: uint8, as `detector_input.canvas_of` makes it, or None if the row has none. defects: their names.
    """

    canvas: NDArray[np.uint8] | None
    defects: tuple[str, ...]


@dataclass(frozen=True)
class SampleConfig:
    """Configure how samples are made."""

    labels: tuple[str, ...]
    image_size: int
    # How a source's other defects count. Use `masked` if sellers' photos often have several defects at once.
    unknown: str = "absent"
    # Share of images over which another defect is drawn. Use 0 if the shards' images already show several.
    overlay: float = 0.5
    # Mirror half of the images. Not if a defect concerns text, or left and right.
    flip: bool = False

    def __post_init__(self) -> None:
        require_choice("--unknown", self.unknown, UNKNOWN)
        require(0 <= self.overlay <= 1, f"--overlay {self.overlay:g}: a share from 0 to 1")

    def drawn(
        self, canvas: NDArray[np.uint8], defects: Collection[str], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Make a training image, uint8 (S,S,3), from a canvas with some defects. Returns it and its defects."""
        if self.flip and rng.random() < 0.5:
            canvas = canvas[:, ::-1]
        wanted = rng.random() < self.overlay
        overlaid = self._choose(defects, rng) if wanted else None
        image = self._image(canvas, defects, overlaid, rng, wavering=True)
        return image, (*defects, *([] if overlaid is None else [overlaid]))

    def training_samples(self, draw: Draw) -> list[Sample]:
        """Return samples of the draw's source and of its clean image, which `drawn` has made."""
        sides = ((draw.source.source, draw.source.defects[0]), (draw.target.target, draw.target.defects[1]))
        return [
            self._labelled(image, defects, None, number == 0)
            for number, (image, defects) in enumerate(sides)
            if image is not None
        ]

    def measured_samples(self, image_id: str, defect: str, source: Side, target: Side) -> Iterator[Sample]:
        """Yield samples for measuring, the same in every run: the source, alone and with another defect; the target."""
        if source.canvas is not None:
            rng = np.random.default_rng(hash_number("overlay", image_id, defect))
            yield self._sample(source.canvas, source.defects, None, True, rng)
            overlaid = self._choose(source.defects, rng)
            if overlaid is not None:
                yield self._sample(source.canvas, source.defects, overlaid, True, rng)
        if target.canvas is not None:
            yield self._sample(target.canvas, target.defects, None, False, np.random.default_rng(0))

    def _choose(self, present: Collection[str], rng: np.random.Generator) -> str | None:
        """Return a defect that can be drawn and is not present; None if there is none."""
        candidates = [name for name in self.labels if name in OVERLAYS and name not in present]
        return candidates[int(rng.integers(len(candidates)))] if candidates else None

    def _sample(
        self,
        canvas: NDArray[np.uint8],
        present: Collection[str],
        overlaid: str | None,
        is_source: bool,
        rng: np.random.Generator,
    ) -> Sample:
        return self._labelled(self._image(canvas, present, overlaid, rng), present, overlaid, is_source)

    def _image(
        self,
        canvas: NDArray[np.uint8],
        present: Collection[str],
        overlaid: str | None,
        rng: np.random.Generator,
        wavering: bool = False,
    ) -> NDArray[np.uint8]:
        changes = [OVERLAYS[overlaid]] if overlaid is not None else []
        if wavering and "wrong_angle" not in {*present, overlaid} and rng.random() < WAVERING:
            changes.insert(0, waver)
        if changes:
            canvas, where = canvas.copy(), content(canvas)
            for change in changes:
                canvas[where] = change(np.ascontiguousarray(canvas[where]), rng)
        return shrink(canvas, self.image_size)

    def _labelled(
        self, image: NDArray[np.uint8], present: Collection[str], overlaid: str | None, is_source: bool
    ) -> Sample:
        has = np.array([name in present or name == overlaid for name in self.labels])
        known = has if is_source and self.unknown == "masked" else np.ones_like(has)
        return Sample(image, has, known, overlaid)
