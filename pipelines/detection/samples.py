"""From the images of shards to what a detector learns: an image, which defects it shows, and which are known.

A row's source shows its defect, and its target none. Of the source's other defects the shard says nothing. They are
taken to be absent (`unknown` 'absent'): sellers' photos seldom have several at once, and a detector that never saw a
photo without a watermark would see one on every bed sheet. Where that does not hold, 'masked' leaves them out of the
loss. Defects that can be drawn (`overlays`) are drawn over sources and targets alike, so that each is known to be there
beside the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.config import require, require_choice
from pipelines.detection.fit import content, shrink
from pipelines.detection.overlays import OVERLAYS, waver
from pipelines.splits import hash_number
from pipelines.training.order import Draw

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

    def training_samples(self, draw: Draw, defect: str) -> list[Sample]:
        """The draw's source and its clean image as two samples; all chance comes from the draw."""
        found = []
        for number, (canvas, present) in enumerate(
            ((draw.source.source, {defect}), (draw.target.target, set()))
        ):
            if canvas is None:
                continue
            rng = np.random.default_rng([number, *np.ascontiguousarray(draw.chance).view(np.uint32).ravel()])
            if self.flip and rng.random() < 0.5:
                canvas = canvas[:, ::-1]
            wanted = rng.random() < self.overlay
            overlaid = self._choose(present, rng) if wanted else None
            found.append(self._sample(canvas, present, overlaid, number == 0, rng, wavering=True))
        return found

    def measured_samples(
        self,
        image_id: str,
        defect: str,
        source: NDArray[np.uint8] | None,
        target: NDArray[np.uint8] | None,
    ) -> Iterator[Sample]:
        """Samples to measure with, the same in every run: the source, the source with a further defect, the target."""
        if source is not None:
            rng = np.random.default_rng(hash_number("overlay", image_id, defect))
            yield self._sample(source, {defect}, None, True, rng)
            overlaid = self._choose({defect}, rng)
            if overlaid is not None:
                yield self._sample(source, {defect}, overlaid, True, rng)
        if target is not None:
            yield self._sample(target, set(), None, False, np.random.default_rng(0))

    def _choose(self, present: set[str], rng: np.random.Generator) -> str | None:
        """A defect that can be drawn and is not there."""
        able = [name for name in self.labels if name in OVERLAYS and name not in present]
        return able[int(rng.integers(len(able)))] if able else None

    def _sample(
        self,
        canvas: NDArray[np.uint8],
        present: set[str],
        overlaid: str | None,
        is_source: bool,
        rng: np.random.Generator,
        wavering: bool = False,
    ) -> Sample:
        changes = [OVERLAYS[overlaid]] if overlaid is not None else []
        if wavering and "wrong_angle" not in {*present, overlaid} and rng.random() < WAVERING:
            changes.insert(0, waver)
        if changes:
            canvas, where = canvas.copy(), content(canvas)
            for change in changes:
                canvas[where] = change(np.ascontiguousarray(canvas[where]), rng)
        shown = np.array([name in present or name == overlaid for name in self.labels])
        certain = shown if is_source and self.unknown == "masked" else np.ones_like(shown)
        return Sample(shrink(canvas, self.image_size), shown, certain, overlaid, is_source)
