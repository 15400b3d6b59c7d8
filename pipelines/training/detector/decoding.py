"""Decodes rows of shards to a detector's inputs, with defects drawn over them. Does not import torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.contracts.hashing import hash_number
from pipelines.images.decode import ImageError
from pipelines.inference.detector_input import OVERSAMPLING, canvas_of, read_canvas
from pipelines.shards.reading import BROKEN, Decoded, Making, Order, is_made, read_rows
from pipelines.training.detector.samples import SampleConfig, Side
from pipelines.training.feed.order import SIDES


@dataclass(frozen=True)
class SampleDecoding:
    """Decode rows to images of the network's size, as `SampleConfig.drawn` makes them.

    The drawn defects depend only on seed, epoch, turn, image_id, defect and side. So every process that decodes a row
    draws the same, and the next epoch draws others.
    """

    samples: SampleConfig
    seed: int
    making: Making | None = None

    def __call__(self, order: Order) -> Iterator[Decoded]:
        """Yield a result for each of the order's rows; BROKEN for a row that cannot be decoded.

        Raises TrainingError naming the shard if it cannot be read.
        """
        for row, times in read_rows(order):
            try:
                sides = self.sides(row, order)
            except ImageError:
                yield from [BROKEN] * times
                continue
            images, defects = [], []
            for name, side in zip(SIDES, sides, strict=True):
                identity = (order.epoch, order.turn, row["image_id"], row["defect"], name)
                rng = np.random.default_rng(hash_number(self.seed, "overlay", *identity))
                image, names = (
                    (None, ()) if side.canvas is None else self.samples.drawn(side.canvas, side.defects, rng)
                )
                images.append(image)
                defects.append(names)
            yield from [Decoded(images[0], images[1], (defects[0], defects[1]))] * times

    def sides(self, row: Mapping[str, Any], order: Order) -> tuple[Side, Side]:
        """Return a row's source and target; a pair that is made anew in training is made as `order` says.

        Raises ImageError for an image that cannot be decoded.
        """
        size = self.samples.image_size
        if self.making is not None and is_made(row):
            pair = self.making.pair(row, order, OVERSAMPLING * size, "letterbox")
            names = self.making.defects_of(pair, row["defect"])
            return Side(canvas_of(pair.source, size), names[0]), Side(canvas_of(pair.target, size), names[1])
        source, target = (None if row[name] is None else read_canvas(row[name], size) for name in SIDES)
        return Side(source, (row["defect"],)), Side(target, ())
