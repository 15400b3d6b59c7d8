"""Decodes one worker's orders in Ray Data tasks, and returns the rows in the order of the orders.

Each worker has a stream of its own. With a shared one, the rows that a worker gets, and their order, would depend on
which task happens to end first.
"""

import json
import math
from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

import numpy as np
import pyarrow as pa
import ray.data
from ray.data import DataContext, ExecutionResources, TaskPoolStrategy

from pipelines.shards.reading import Decode, Decoded, Order
from pipelines.training.feed.order import SIDES

#: Decoded rows in a block, which the worker receives at once: few, because each row holds two images.
BLOCK_ROWS = 32
#: Orders per execution, at first and at most. An execution takes about a second to start, so their number grows. It
#: begins low, so that a short training does not decode rows that it never uses.
FIRST_ORDERS, MOST_ORDERS = 16, 1024
#: Decoded rows that may wait for each worker, in bytes.
WAITING_BYTES = 1 << 30

_DECODED = pa.schema(
    [
        *((side, pa.binary()) for side in SIDES),
        *((f"{side}_shows", pa.list_(pa.string())) for side in SIDES),
        ("changed", pa.binary()),
        ("theta", pa.binary()),
    ]
)


def load_on_ray(orders: Iterator[Order], decode: Decode, tasks: int) -> Iterator[Decoded]:
    """Yield the decoded rows of the orders, using at most `tasks` tasks at a time.

    The tasks request no CPU. Workers that continue on fewer nodes may take every CPU there, and would otherwise wait
    for ever for tasks that wait for a CPU.
    """
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources(object_store_memory=WAITING_BYTES)
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    size = FIRST_ORDERS
    while chunk := list(islice(orders, size)):
        size = min(2 * size, MOST_ORDERS)
        # Not from_arrow: it starts tasks that request a CPU each. As text, because lists of numbers become tensors.
        texts = [json.dumps(vars(order)) for order in chunk]
        rows = ray.data.from_items(texts, override_num_blocks=len(texts)).map_batches(
            cast(Any, decode_orders),  # pyarrow has no type hints, so no function on its tables fits Ray's
            batch_size=None,
            batch_format="pyarrow",
            fn_kwargs={"decode": decode},
            num_cpus=0,
            compute=TaskPoolStrategy(size=tasks),
        )
        for table in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            yield from unpack(table)


def decode_orders(table: pa.Table, decode: Decode) -> Iterator[pa.Table]:
    """Decode orders, JSON in the column `item`, to tables of rows with images as raw uint8 squares (see `unpack`)."""
    for text in table["item"].to_pylist():
        order = json.loads(text)
        rows = decode(Order(**{**order, "rows": tuple(order["rows"])}))
        while part := list(islice(rows, BLOCK_ROWS)):
            columns = [
                [_bytes(row.source) for row in part],
                [_bytes(row.target) for row in part],
                *([list(row.defects[side]) for row in part] for side in (0, 1)),
                [_bytes(row.changed) for row in part],
                [_bytes(row.theta) for row in part],
            ]
            yield pa.table(columns, schema=_DECODED)


def unpack(table: pa.Table) -> Iterator[Decoded]:
    """Yield the rows of a table of `decode_orders`, with images as uint8 (side, side, 3) arrays."""
    for row in table.to_pylist():
        yield Decoded(
            _square(row["source"]),
            _square(row["target"]),
            (tuple(row["source_shows"]), tuple(row["target_shows"])),
            _plane(row["changed"]),
            None if row["theta"] is None else np.frombuffer(row["theta"], np.float32).reshape(2, 3),
        )


def _bytes(image: "np.ndarray[Any, np.dtype[Any]] | None") -> bytes | None:
    return None if image is None else image.tobytes()


def _square(data: bytes | None) -> "np.ndarray[Any, np.dtype[np.uint8]] | None":
    if data is None:
        return None
    side = math.isqrt(len(data) // 3)
    return np.frombuffer(data, np.uint8).reshape(side, side, 3)


def _plane(data: bytes | None) -> "np.ndarray[Any, np.dtype[np.uint8]] | None":
    if data is None:
        return None
    side = math.isqrt(len(data))
    return np.frombuffer(data, np.uint8).reshape(side, side)
