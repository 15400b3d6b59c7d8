"""Pixels for the drawn rows, in exactly the order in which an epoch reads them; and batches of draws from any position.

Whoever decodes (a thread here, Ray Data's tasks elsewhere: `ray_feed`) gets an endless iterator of orders and gives
back decoded rows one by one in the same order. So both run through the same code, and neither decides anything.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, count, islice

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigurationError
from pipelines.training.decoding import Decoded, Order
from pipelines.training.index import Index
from pipelines.training.order import Draw, Part, Row, WorkerEpoch

#: Decoded rows for orders: one for each of their rows, in order.
Load = Callable[[Iterator[Order]], Iterator[Decoded]]


def load_here(orders: Iterator[Order], decode: Callable[[Order], Iterator[Decoded]]) -> Iterator[Decoded]:
    """Decode in a thread of this process, one order ahead of the training."""
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
    """The draws of one update, and the position in the data behind it: batches taken of `epoch`."""

    draws: list[Draw]
    epoch: int
    taken: int


def batches(
    epoch_of: Callable[[int], WorkerEpoch], load: Load, size: int, epoch: int = 1, taken: int = 0
) -> Iterator[Batch]:
    """Batches of `size` draws without end, from behind the first `taken` ones of `epoch`.

    What is left of an epoch after its last whole batch is dropped; the next epoch draws it elsewhere. Raises
    ConfigurationError where an epoch holds less than one batch.
    """
    current = epoch_of(epoch)
    if current.size < size:
        raise ConfigurationError(
            f"an epoch holds {current.size} samples for each worker, fewer than one batch of {size}: "
            "use a smaller --batch-size, fewer --workers or more data"
        )
    rows = _Rows(current)
    draws = current.draws(rows)
    for _ in range(taken * size):  # without pixels
        next(draws)
    live = current.live()
    held = _parts_of(current.index, np.array([row.number for row in live], np.int64))
    left = chain(held, _after(current.parts(), rows.pulled))
    later = chain.from_iterable(epoch_of(number).parts() for number in count(epoch + 1))
    pixels = load(_orders(current.index, chain(left, later)))
    for row in live:
        row.source, row.target = next(pixels)
    while True:
        rows.pixels = pixels
        for number in range(taken, current.size // size):
            yield Batch(list(islice(draws, size)), epoch, number + 1)
        for _ in draws:  # its rows are on their way
            pass
        epoch, taken = epoch + 1, 0
        current = epoch_of(epoch)
        rows = _Rows(current)
        draws = current.draws(rows)


class _Rows:
    """The rows of an epoch's parts in order; with pixels once `pixels` is set."""

    def __init__(self, epoch: WorkerEpoch) -> None:
        self._types = epoch.index.types
        self._numbers = chain.from_iterable(part.rows for part in epoch.parts())
        self.pixels: Iterator[Decoded] | None = None
        self.pulled = 0

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        number = int(next(self._numbers))
        self.pulled += 1
        row = Row(number, int(self._types[number]))
        if self.pixels is not None:
            row.source, row.target = next(self.pixels)
        return row


def orders_of(index: Index, numbers: NDArray[np.int64]) -> Iterator[Order]:
    """Orders for the rows with these numbers, ascending."""
    return _orders(index, _parts_of(index, numbers))


def _parts_of(index: Index, numbers: NDArray[np.int64]) -> Iterator[Part]:
    """The rows, ordered by number, as parts."""
    units = np.searchsorted(index.starts, numbers, side="right") - 1
    for unit in np.unique(units):
        mine = numbers[units == unit]
        yield Part(int(unit), mine, np.zeros(len(mine), bool))


def _after(parts: Iterator[Part], rows: int) -> Iterator[Part]:
    """The parts without their first `rows` rows."""
    for part in parts:
        if rows >= len(part.rows):
            rows -= len(part.rows)
            continue
        yield Part(part.unit, part.rows[rows:], part.drawn[rows:])
        rows = 0


def _orders(index: Index, parts: Iterable[Part]) -> Iterator[Order]:
    for part in parts:
        file, row_group = index.units[part.unit]
        places = part.rows - index.starts[part.unit]
        yield Order(index.files[file], int(row_group), tuple(int(place) for place in places))
