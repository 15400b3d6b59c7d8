"""Applies a function to a stream in a few threads: keeps the order, and only a few items in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Suits functions that wait for storage. (`Executor.map` would take all items at once, and hold all results.)
THREADS = 16


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int = THREADS
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with its result, in order, while at most `threads` items are worked on ahead.

    `items` are drawn in the caller's thread. An exception of `function` is raised at that item's turn.
    """
    with ThreadPoolExecutor(threads) as pool:
        begun: deque[tuple[Item, Future[Result]]] = deque()
        try:
            for item in items:
                begun.append((item, pool.submit(function, item)))
                if len(begun) == threads:
                    first, future = begun.popleft()
                    yield first, future.result()
            while begun:
                first, future = begun.popleft()
                yield first, future.result()
        finally:
            for _, future in begun:  # a caller that stops early must not wait for items that have not started
                future.cancel()
