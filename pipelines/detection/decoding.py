"""Rows of shards to a detector's inputs, defects drawn over them: in the processes that decode. Imports no torch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.decode import ImageError
from pipelines.detection.samples import SampleConfig
from pipelines.splits import hash_number
from pipelines.training.decoding import BROKEN, Decoded, Order, read_rows

SIDES = ("source", "target")


@dataclass(frozen=True)
class SampleDecoding:
    """Rows to images of the network's size, as `SampleConfig.drawn` makes them.

    What is drawn follows from seed, epoch, turn, image_id, defect and side: whoever decodes, and however often, draws
    the same, and another epoch something else.
    """

    samples: SampleConfig
    seed: int

    def __call__(self, order: Order) -> Iterator[Decoded]:
        """One entry for each of the order's rows; BROKEN for one that cannot be decoded.

        Raises TrainingError naming the shard that cannot be read.
        """
        for row, times in read_rows(order):
            found: list[tuple[NDArray[np.uint8] | None, str | None]] = []
            try:
                for side in SIDES:
                    names = (order.epoch, order.turn, row["image_id"], row["defect"], side)
                    rng = np.random.default_rng(hash_number(self.seed, "overlay", *names))
                    canvas = self.samples.canvas(row, side, rng)
                    if canvas is None:
                        found.append((None, None))
                        continue
                    present = row["defect"] if side == "source" else None
                    found.append(self.samples.drawn(canvas, present, rng))
            except ImageError:
                yield from [BROKEN] * times
                continue
            (source, over_source), (target, over_target) = found
            yield from [Decoded(source, target, (over_source, over_target))] * times
