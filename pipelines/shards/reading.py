"""Decodes rows of shards to pixels. Does not import torch, so that decoding processes start faster and smaller."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.errors import RunError
from pipelines import storage
from pipelines.contracts.hashing import hash_number
from pipelines.images.decode import ImageError, decode_image, decode_with_size
from pipelines.images.fit import fit_square
from pipelines.synthesis.defects.backgrounds import Backgrounds
from pipelines.synthesis.defects.pairs import Material, Pair, draw_pair
from pipelines.synthesis.defects.registry import CLEAN_UP

logger = logging.getLogger("train")

#: Images are loaded this much larger than the training size, then cropped at random (CycleGAN: 286 to 256 pixels).
CROP_MARGIN = 286 / 256
#: Rows read from a shard at a time.
READ_ROWS = 16
#: Seconds to wait before each retry of a failed read, so that a training survives a short outage.
RETRY_AFTER = (0.5, 2.0, 5.0)
_COLUMNS = ["image_id", "source", "target", "mask", "photo", "group", "defect"]


class Decoded(NamedTuple):
    """Hold source and target of one row, uint8 (side, side, 3) or None; at least one is not None, except in BROKEN.

    defects: names of the defects that source and target show; only a detector's training needs them. changed, theta:
    the known truth of a pair that was made anew (see `pipelines.synthesis.defects.pairs.MadePair`).
    """

    source: NDArray[np.uint8] | None
    target: NDArray[np.uint8] | None
    defects: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    changed: NDArray[np.uint8] | None = None
    theta: NDArray[np.float32] | None = None


#: Result for a row with an image that cannot be decoded; the caller decides how to replace it.
BROKEN = Decoded(None, None)


class TrainingError(RunError):
    """Signal that training cannot continue. The message names the step and the last good checkpoint, or the row."""


@dataclass(frozen=True)
class Order:
    """Name rows to decode from one row group of a shard: their positions in it, ascending; one may occur twice.

    epoch, turn: the pass over the data, and which of a row's draws in it. Pairs that are made anew depend on both.
    """

    file: str
    row_group: int
    rows: tuple[int, ...]
    epoch: int = 0
    turn: int = 0


#: Decodes the rows of an order: one result for each, with few in memory at a time.
Decode = Callable[[Order], Iterator[Decoded]]


@dataclass(frozen=True)
class Making:
    """Make pairs anew: a function of seed, epoch, draw, image and defect, the same in any process.

    syntheses: (defect, name of its synthesis). backgrounds: rows of photos with masks, on whose backgrounds products
    are laid; each process reads them once.
    """

    seed: int
    syntheses: tuple[tuple[str, str], ...]
    backgrounds: tuple[Order, ...] = ()

    def pair(self, row: Mapping[str, Any], order: Order, size: int, fit: str) -> Pair:
        """Make the pair of a row, for squares of `size` pixels. Raises ImageError if the row cannot be decoded."""
        name = dict(self.syntheses)[row["defect"]]
        photo = row["photo"] or row["source"]
        material = Material(
            decode_image(row["target"]),
            None if row["mask"] is None else decode_image(row["mask"])[..., 0],
            None if photo is None else decode_image(photo),
        )
        identity = (order.epoch, order.turn, row["image_id"], row["defect"])
        rng = np.random.default_rng(hash_number(self.seed, "made", *identity))
        return draw_pair(name, material, _read_backgrounds(self.backgrounds), size, fit, rng)

    def defects_of(self, pair: Pair, defect: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of the defects that the source and the target of `defect`'s pair show."""
        both = () if pair.on_white else tuple(name for name, made_by in self.syntheses if made_by == CLEAN_UP)
        return ((defect, *both) if pair.has_defect else both), both


@dataclass(frozen=True)
class Decoding:
    """Decode rows to squares of one size."""

    image_size: int
    cropped_groups: frozenset[str] = frozenset()
    fit: str = "stretch"
    making: Making | None = None

    def __call__(self, order: Order) -> Iterator[Decoded]:
        """Yield a result for each of the order's rows, few in memory at a time; BROKEN if it cannot be decoded.

        Raises TrainingError naming the shard if it cannot be read even after RETRY_AFTER.
        """
        for row, times in read_rows(order):
            try:
                yield from [self._decoded(row, order)] * times
            except ImageError:
                yield from [BROKEN] * times

    def _decoded(self, row: dict[str, Any], order: Order) -> Decoded:
        if self.making is not None and is_made(row):
            made = self.making.pair(row, order, self.image_size, self.fit).squared(self.image_size)
            return Decoded(made.source, made.target, changed=made.changed, theta=made.theta)
        decoded = decode_row(row, self.image_size, self.cropped_groups, self.fit)
        return Decoded(decoded["source"], decoded["target"])


def is_made(row: Mapping[str, Any]) -> bool:
    """Return True if a shard's row is a pair that training makes anew."""
    return row["target"] is not None and (row["source"] is None or row["mask"] is not None)


@lru_cache(maxsize=1)
def _read_backgrounds(orders: tuple[Order, ...]) -> Backgrounds:
    return Backgrounds.from_photos(_photos(orders))


def _photos(orders: Iterable[Order]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield the photos of rows, each with its mask; those that cannot be decoded are left out."""
    for order in orders:
        for row, _ in read_rows(order):
            photo = row["photo"] or row["source"]
            if photo is None or row["mask"] is None:
                continue
            try:
                yield decode_image(photo), decode_image(row["mask"])[..., 0]
            except ImageError as error:
                logger.warning("no background from %s: %s", row["image_id"], error)


def read_rows(order: Order) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the order's rows as stored in the shard, each once, with the number of times that the order has it.

    Retries if storage fails for a while. Raises TrainingError naming the shard if it cannot be read.
    """
    waits = iter(RETRY_AFTER)
    done = 0
    while True:
        try:
            for row, times in _read(replace(order, rows=order.rows[done:])):
                yield row, times
                done += times
            return
        except (pa.ArrowException, *storage.STORAGE_ERRORS) as error:
            wait = next(waits, None)
            # A file that is not Parquet is not worth a retry. An object that is not found is: s3fs reports any failed
            # request for its metadata in this way.
            if wait is None or isinstance(error, pa.ArrowException):
                raise TrainingError(f"cannot read {order.file}: {type(error).__name__}: {error}") from error
            logger.warning("cannot read %s, trying again in %g s: %s", order.file, wait, error)
            time.sleep(wait)


def _read(order: Order) -> Iterator[tuple[dict[str, Any], int]]:
    filesystem, path = storage.arrow_filesystem(order.file)
    wanted = [(position, len(list(same))) for position, same in groupby(order.rows)]
    with pq.ParquetFile(path, filesystem=filesystem, pre_buffer=False) as file:
        first = 0
        for batch in file.iter_batches(READ_ROWS, row_groups=[order.row_group], columns=_COLUMNS):
            while wanted and wanted[0][0] < first + batch.num_rows:
                position, times = wanted.pop(0)
                yield batch.slice(position - first, 1).to_pylist()[0], times
            if not wanted:
                return
            first += batch.num_rows


def what_is_broken(order: Order) -> str:
    """Describe why the order's only row is BROKEN: its id, defect, shard, and the error's code and text."""
    [(row, _)] = read_rows(order)
    for side in ("source", "target", "mask", "photo"):
        try:
            if row[side] is not None:
                decode_image(row[side])
        except ImageError as error:
            return f"{side} of {row['image_id']} ({row['defect']}) in {order.file}: {error.code}: {error}"
    return f"{row['image_id']} ({row['defect']}) in {order.file}: no images"


def load_size(size: int, group: str, cropped_groups: frozenset[str]) -> int:
    """Return the side in pixels at which a group's images are loaded: larger than `size` if they will be cropped."""
    return round(size * CROP_MARGIN) if group in cropped_groups else size


def decode_square(data: bytes | None, size: int, fit: str) -> NDArray[np.uint8] | None:
    """Decode to uint8 (size, size, 3) by `pipelines.images.fit`; None stays None."""
    return None if data is None else fit_square(*decode_with_size(data, max_side=2 * size), size, fit)


def decode_row(
    row: dict[str, Any], size: int, cropped_groups: frozenset[str] = frozenset(), fit: str = "stretch"
) -> dict[str, Any]:
    """Return a shard's row with `source` and `target` decoded to uint8 squares of `load_size` pixels, or None."""
    side = load_size(size, row["group"], cropped_groups)
    return {**row, **{name: decode_square(row[name], side, fit) for name in ("source", "target")}}
