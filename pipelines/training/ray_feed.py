"""Decoding on Ray Data's CPU tasks, for one worker: orders in, decoded rows out, in the orders' order.

Each worker feeds itself with a stream of its own instead of sharing one: only then does it get the same rows in the
same order in every run, whichever task happens to end first.
"""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

import numpy as np
import pyarrow as pa
import ray.data
from ray.data import DataContext, ExecutionResources

from pipelines.training.decoding import Decode, Decoded, Order

#: Decoded rows in a block, and handed to the worker at a time: small, because each holds two images.
BLOCK_ROWS = 32
#: Orders executed together, at first and at most. An execution takes about a second to begin, so they grow; the
#: first are few, so that a short training does not decode what it never uses.
FIRST_ORDERS, MOST_ORDERS = 16, 1024
#: Share of a CPU that a decoding task claims at least: it fits beside the workers even where all share one CPU.
TASK_CPUS = 0.25
#: Decoded rows that may wait for each worker, in bytes.
WAITING_BYTES = 1 << 30

_ORDER = pa.schema([("file", pa.string()), ("row_group", pa.int32()), ("rows", pa.list_(pa.int32()))])
_DECODED = pa.schema([("source", pa.binary()), ("target", pa.binary())])


def load_on_ray(orders: Iterator[Order], decode: Decode, cpus: float) -> Iterator[Decoded]:
    """Rows of the orders, decoded by tasks that take at most `cpus` CPUs together, a whole one each where they can."""
    each = max(TASK_CPUS, min(1.0, cpus))
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources(
        cpu=max(each, cpus), object_store_memory=WAITING_BYTES
    )
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    size = FIRST_ORDERS
    while chunk := list(islice(orders, size)):
        size = min(2 * size, MOST_ORDERS)
        tables = [pa.Table.from_pylist([vars(order)], _ORDER) for order in chunk]
        rows = ray.data.from_arrow(tables).map_batches(
            cast(Any, decode_orders),  # pyarrow has no types, and so no function of its tables fits Ray's
            batch_size=None,
            batch_format="pyarrow",
            fn_kwargs={"decode": decode},
            num_cpus=each,
        )
        for table in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            yield from unpack(table)


def decode_orders(table: pa.Table, decode: Decode) -> Iterator[pa.Table]:
    """A table of orders to tables of decoded rows, images as raw uint8 squares (see `unpack`)."""
    for row in table.to_pylist():
        found = decode(Order(row["file"], row["row_group"], tuple(row["rows"])))
        while part := list(islice(found, BLOCK_ROWS)):
            columns = [
                [image.tobytes() if image is not None else None for image in side]
                for side in zip(*part, strict=True)
            ]
            yield pa.table([pa.array(column, pa.binary()) for column in columns], schema=_DECODED)


def unpack(table: pa.Table) -> Iterator[Decoded]:
    """Rows of `decode_orders` as uint8 (side, side, 3) arrays again."""
    for row in table.to_pylist():
        yield _square(row["source"]), _square(row["target"])


def _square(data: bytes | None) -> "np.ndarray[Any, np.dtype[np.uint8]] | None":
    if data is None:
        return None
    side = math.isqrt(len(data) // 3)
    return np.frombuffer(data, np.uint8).reshape(side, side, 3)
