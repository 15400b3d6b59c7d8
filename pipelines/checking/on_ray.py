"""Runs the steps of a check as Ray Data tasks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray.data

from pipelines.cluster.placement import configure, on_tasks, tables

#: Bytes per block of results, so that they arrive while a task still works.
_BLOCK = 16 << 20


class OnRay:
    """Runs steps as tasks of one CPU each, at most `most` at the same time (0: as many as the cluster has CPUs)."""

    def __init__(self, most: int) -> None:
        self._most = most
        configure(_BLOCK, ["StorageReadError"])

    def __call__(
        self, step: Callable[..., Iterator[pa.Table]], work: Sequence[pa.Table], settings: Mapping[str, Any]
    ) -> Iterator[pa.Table]:
        """Yield what `step` makes of each table of `work`, in any order."""
        if not work:
            return
        yield from tables(on_tasks(ray.data.from_arrow(list(work)), step, settings, 1.0, self._most))
