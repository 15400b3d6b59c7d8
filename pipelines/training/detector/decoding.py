"""Rows of shards to a detector's inputs, defects drawn over them: in the processes that decode. Imports no torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.contracts.splits import hash_number
from pipelines.images.decode import ImageError
from pipelines.inference.detector_input import OVERSAMPLING, canvas_of, read_canvas
from pipelines.shards.reading import BROKEN, Decoded, Making, Order, is_made, read_rows
from pipelines.training.detector.samples import SampleConfig, Side

SIDES = ("source", "target")


@dataclass(frozen=True)
class SampleDecoding:
    """Rows to images of the network's size, as `SampleConfig.drawn` makes them.

    What is drawn follows from seed, epoch, turn, image_id, defect and side: whoever decodes, and however often, draws
    the same, and another epoch something else.
    """

    samples: SampleConfig
    seed: int
    making: Making | None = None

    def __call__(self, order: Order) -> Iterator[Decoded]:
        """One entry for each of the order's rows; BROKEN for one that cannot be decoded.

        Raises TrainingError naming the shard that cannot be read.
        """
        for row, times in read_rows(order):
            try:
                sides = self.sides(row, order)
            except ImageError:
                yield from [BROKEN] * times
                continue
            images, shown = [], []
            for name, side in zip(SIDES, sides, strict=True):
                place = (order.epoch, order.turn, row["image_id"], row["defect"], name)
                rng = np.random.default_rng(hash_number(self.seed, "overlay", *place))
                image, names = (
                    (None, ()) if side.canvas is None else self.samples.drawn(side.canvas, side.shown, rng)
                )
                images.append(image)
                shown.append(names)
            yield from [Decoded(images[0], images[1], (shown[0], shown[1]))] * times

    def sides(self, row: Mapping[str, Any], order: Order) -> tuple[Side, Side]:
        """A row's source and target; a pair that the shard leaves to training is made as `order` says.

        Raises ImageError for an image that cannot be decoded.
        """
        size = self.samples.image_size
        if self.making is not None and is_made(row):
            pair = self.making.pair(row, order, OVERSAMPLING * size, "letterbox")
            shown = self.making.shown(pair, row["defect"])
            return Side(canvas_of(pair.source, size), shown[0]), Side(canvas_of(pair.target, size), shown[1])
        source, target = (None if row[name] is None else read_canvas(row[name], size) for name in SIDES)
        return Side(source, (row["defect"],)), Side(target, ())
