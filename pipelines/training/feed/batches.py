"""Makes batches of draws from any position of an epoch, with pixels for the drawn rows in the order of reading.

A decoder (a thread here, or Ray Data's tasks: `feed.on_ray`) gets an endless iterator of orders and returns the decoded
rows one by one in the same order. So both run through the same code, and neither decides anything.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, count, groupby, islice
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigurationError
from pipelines.shards.index import Index
from pipelines.shards.reading import Decode, Decoded, Order, TrainingError, what_is_broken
from pipelines.training.feed.order import Draw, Part, Row, WorkerEpoch

logger = logging.getLogger("train")

#: A training continues while at most the share TOLERATED of a worker's last WATCHED rows cannot be decoded.
WATCHED, TOLERATED = 200, 0.05
#: Decodes orders: one result for each of their rows, in order.
Load = Callable[[Iterator[Order]], Iterator[Decoded]]


def load_here(orders: Iterator[Order], decode: Decode) -> Iterator[Decoded]:
    """Decode the orders in a thread of this process, one order ahead of the training."""
    ahead: deque[Future[list[Decoded]]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for order in orders:
            ahead.append(pool.submit(lambda order=order: list(decode(order))))  # type: ignore[misc]
            if len(ahead) > 1:
                yield from ahead.popleft().result()
        for future in ahead:
            yield from future.result()


@dataclass(frozen=True)
class Batch:
    """Hold the draws of one update, and the position after it: how many batches of `epoch` are taken."""

    draws: list[Draw]
    epoch: int
    taken: int


def batches(
    epoch_of: Callable[[int], WorkerEpoch], load: Load, size: int, epoch: int = 1, taken: int = 0
) -> Iterator[Batch]:
    """Yield batches of `size` draws without end, starting after the first `taken` batches of `epoch`.

    The draws after an epoch's last whole batch are dropped; the next epoch draws those rows elsewhere. A few rows that
    cannot be decoded are replaced by others (see `WorkerEpoch.repaired`). Raises ConfigurationError if an epoch holds
    less than one batch, and TrainingError if too many rows cannot be decoded.
    """
    current = epoch_of(epoch)
    if current.size < size:
        raise ConfigurationError(
            f"an epoch holds {current.size} samples for each worker, fewer than one batch of {size}: "
            "use a smaller --batch-size, fewer --workers or more data"
        )
    if taken > current.size // size:
        logger.warning(
            "epoch %d now has %d batches, and %d were taken: continuing with epoch %d",
            *(epoch, current.size // size, taken, epoch + 1),
        )
        epoch, taken = epoch + 1, 0
        current = epoch_of(epoch)
    health = _Health(current.index)
    rows = _Rows(current, health)
    draws = current.draws(rows)
    for _ in range(taken * size):  # without pixels
        next(draws)
    live = current.live()
    live_parts = _parts_of_rows(current.index, live)
    rest = _orders(current.index, chain(live_parts, _after(current.parts(), rows.pulled)), epoch)
    later = (_orders(current.index, epoch_of(number).parts(), number) for number in count(epoch + 1))
    pixels = load(chain(rest, chain.from_iterable(later)))
    for row in live:
        health.fill(row, next(pixels))
    while True:
        rows.pixels = pixels
        for number in range(taken, current.size // size):
            repaired = [health.checked(current.repaired(draw)) for draw in islice(draws, size)]
            yield Batch(repaired, epoch, number + 1)
        for _ in draws:  # the rest of the epoch's rows is already being decoded: consume it
            pass
        epoch, taken = epoch + 1, 0
        current = epoch_of(epoch)
        rows = _Rows(current, health)
        draws = current.draws(rows)


class _Health:
    """Count how many of the recent rows could not be decoded, and keep examples."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._last: deque[bool] = deque(maxlen=WATCHED)
        self._examples: deque[str] = deque(maxlen=3)
        self._reported: set[int] = set()

    def fill(self, row: Row, decoded: Decoded) -> None:
        """Set the row's pixels. Raises TrainingError if too many rows could not be decoded."""
        row.source, row.target, row.defects, row.changed, row.theta = decoded
        broken = row.source is None and row.target is None
        self._last.append(broken)
        if not broken:
            return
        if row.number not in self._reported:
            self._reported.add(row.number)
            [order] = orders_of(self._index, np.array([row.number]))
            self._examples.append(what_is_broken(order))
            logger.warning("left out: %s", self._examples[-1])
        if sum(self._last) > TOLERATED * WATCHED:
            self._stop(f"{sum(self._last)} of the last {len(self._last)} rows cannot be decoded")

    def checked(self, draw: Draw | None) -> Draw:
        """Return the draw. Raises TrainingError if it is None."""
        return draw or self._stop("no other row can replace one that cannot be decoded")

    def _stop(self, reason: str) -> NoReturn:
        raise TrainingError(f"{reason}, such as {'; '.join(self._examples)}: prepare the data again")


class _Rows:
    """Iterate over the rows of an epoch's parts in order; with pixels once `pixels` is set."""

    def __init__(self, epoch: WorkerEpoch, health: _Health) -> None:
        self._types, self._health = epoch.index.types, health
        self._numbers = ((number, part.turn) for part in epoch.parts() for number in part.rows)
        self.pixels: Iterator[Decoded] | None = None
        self.pulled = 0

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        number, turn = next(self._numbers)
        self.pulled += 1
        row = Row(int(number), int(self._types[number]), turn)
        if self.pixels is not None:
            self._health.fill(row, next(self.pixels))
        return row


def orders_of(index: Index, numbers: NDArray[np.int64]) -> Iterator[Order]:
    """Yield orders for the rows with these numbers, which must be ascending."""
    return _orders(index, _parts_of(index, numbers))


def _parts_of_rows(index: Index, ordered: Iterable[Row]) -> Iterator[Part]:
    """Yield parts with the rows, which are ordered by turn and number."""
    for turn, rows in groupby(ordered, key=lambda row: row.turn):
        yield from _parts_of(index, np.array([row.number for row in rows], np.int64), turn)


def _parts_of(index: Index, numbers: NDArray[np.int64], turn: int = 0) -> Iterator[Part]:
    """Yield parts with the rows of these numbers, which are ascending."""
    units = np.searchsorted(index.starts, numbers, side="right") - 1
    for unit in np.unique(units):
        mine = numbers[units == unit]
        yield Part(int(unit), mine, np.zeros(len(mine), bool), turn)


def _after(parts: Iterator[Part], rows: int) -> Iterator[Part]:
    """Yield the parts without their first `rows` rows."""
    for part in parts:
        if rows >= len(part.rows):
            rows -= len(part.rows)
            continue
        yield Part(part.unit, part.rows[rows:], part.drawn[rows:], part.turn)
        rows = 0


def _orders(index: Index, parts: Iterable[Part], epoch: int = 0) -> Iterator[Order]:
    for part in parts:
        file, row_group = index.units[part.unit]
        positions = part.rows - index.starts[part.unit]
        yield Order(
            index.files[file],
            int(row_group),
            tuple(int(position) for position in positions),
            epoch,
            part.turn,
        )
