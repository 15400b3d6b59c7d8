"""From the images of shards to what a detector learns: an image, which defects it shows, and which are known.

A row's source shows its defect, and its target none; of a pair that was made anew the synthesis knows what both show.
Of a source's other defects the shard says nothing. They are taken to be absent (`unknown` 'absent'): sellers' photos
seldom have several at once, and a detector that never saw a photo without a watermark would see one on every bed sheet.
Where that does not hold, 'masked' leaves them out of the loss. Defects that can be drawn (`overlays`) are drawn over
sources and targets alike, so that each is known to be there beside the others.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.config import require, require_choice
from pipelines.contracts.splits import hash_number
from pipelines.inference.detector_input import content, shrink
from pipelines.training.detector.overlays import OVERLAYS, waver
from pipelines.training.feed.order import Draw

UNKNOWN = ("absent", "masked")
#: Share of untilted images that are turned by a degree or two.
WAVERING = 0.25


class Sample(NamedTuple):
    """One image and its labels.

    image: uint8 (S,S,3). present, known: (L,) bool, the labels that it has and those that count. overlaid: of the
    defects shown, the one that was drawn here, or None. is_source: the image is a row's source, not its target.
    """

    image: NDArray[np.uint8]
    present: NDArray[np.bool_]
    known: NDArray[np.bool_]
    overlaid: str | None = None
    is_source: bool = True


class Side(NamedTuple):
    """A row's source or target.

    canvas: uint8, as `detector_input.canvas_of` makes it, or None where the row has none. shown: names of the defects
    in it.
    """

    canvas: NDArray[np.uint8] | None
    shown: tuple[str, ...]


@dataclass(frozen=True)
class SampleConfig:
    """How samples are made."""

    labels: tuple[str, ...]
    image_size: int = 224
    # What a source's other defects are: `masked` where sellers' photos often have several defects at once.
    unknown: str = "absent"
    # Share of images over which a further defect is drawn. 0 where the shards' images show several already.
    overlay: float = 0.5
    # Mirror half of the images. Not where a defect is of text or of left and right.
    flip: bool = False

    def __post_init__(self) -> None:
        require_choice("--unknown", self.unknown, UNKNOWN)
        require(0 <= self.overlay <= 1, f"--overlay {self.overlay:g}: a share from 0 to 1")

    def drawn(
        self, canvas: NDArray[np.uint8], shown: Collection[str], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """A canvas that shows some defects as a training's image uint8 (S,S,3), and those that it shows then."""
        if self.flip and rng.random() < 0.5:
            canvas = canvas[:, ::-1]
        wanted = rng.random() < self.overlay
        overlaid = self._choose(shown, rng) if wanted else None
        image = self._image(canvas, shown, overlaid, rng, wavering=True)
        return image, (*shown, *([] if overlaid is None else [overlaid]))

    def training_samples(self, draw: Draw) -> list[Sample]:
        """The draw's source and its clean image, as `drawn` has made them, as two samples."""
        sides = ((draw.source.source, draw.source.shown[0]), (draw.target.target, draw.target.shown[1]))
        return [
            self._labelled(image, shown, None, number == 0)
            for number, (image, shown) in enumerate(sides)
            if image is not None
        ]

    def measured_samples(self, image_id: str, defect: str, source: Side, target: Side) -> Iterator[Sample]:
        """Samples to measure with, the same in every run: the source, the source with a further defect, the target."""
        if source.canvas is not None:
            rng = np.random.default_rng(hash_number("overlay", image_id, defect))
            yield self._sample(source.canvas, source.shown, None, True, rng)
            overlaid = self._choose(source.shown, rng)
            if overlaid is not None:
                yield self._sample(source.canvas, source.shown, overlaid, True, rng)
        if target.canvas is not None:
            yield self._sample(target.canvas, target.shown, None, False, np.random.default_rng(0))

    def _choose(self, present: Collection[str], rng: np.random.Generator) -> str | None:
        """A defect that can be drawn and is not there."""
        able = [name for name in self.labels if name in OVERLAYS and name not in present]
        return able[int(rng.integers(len(able)))] if able else None

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
        shown = np.array([name in present or name == overlaid for name in self.labels])
        certain = shown if is_source and self.unknown == "masked" else np.ones_like(shown)
        return Sample(image, shown, certain, overlaid, is_source)
