"""The steps of a check as Ray Data tasks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray.data

from pipelines.cluster.placement import configure, on_tasks, tables

#: Bytes per block of results: a task's come back as they are made.
_BLOCK = 16 << 20


class OnRay:
    """Runs steps as tasks of a CPU each, at most `most` at once (0: as many as the cluster has CPUs for)."""

    def __init__(self, most: int) -> None:
        self._most = most
        configure(_BLOCK, ["StorageReadError"])

    def __call__(
        self, step: Callable[..., Iterator[pa.Table]], work: Sequence[pa.Table], settings: Mapping[str, Any]
    ) -> Iterator[pa.Table]:
        """What `step` makes of each table, in whatever order they are done."""
        if not work:
            return
        yield from tables(on_tasks(ray.data.from_arrow(list(work)), step, settings, 1.0, self._most))
