"""Counts the rows that a run will correct, by route, and draws the samples for FID and for the report by hash.

Memory is bounded by the number of routes and the sample size.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.sampling import Sample, Smallest, sample_hash
from pipelines.correction.catalog import check_ids, read_label_rows
from pipelines.correction.scores import check_scores, scale_note
from pipelines.storage.parquet_units import Unit

logger = logging.getLogger(__name__)

#: Routes of images without a defect; defects' names contain no blanks. CLEAN: no label, or labels that mean nothing to
#: correct. UNKNOWN: a label that no rule names.
CLEAN, UNKNOWN = "no defect", "unknown labels"
#: A defect's images that the canary corrects are a route of their own, and so are those of them that the current bundle
#: corrects as well, to compare with (see `correction.models`): the defect's name and one of these.
CANARY, CURRENT = " (canary)", " (current)"

#: A route's rows and the smallest hashes of their ids, uint64 little-endian.
SETS = pa.list_(pa.struct([("set", pa.string()), ("rows", pa.int64()), ("hashes", pa.binary())]))


@dataclass
class Survey:
    """Number of rows of each route (see `route_name`), and the smallest hashes of their ids."""

    sample_size: int
    rows: Counter[str] = field(default_factory=Counter)
    smallest: dict[str, Smallest] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of rows of all routes."""
        return self.rows.total()

    def sample(self, size: int) -> Sample:
        """Return the sample that takes `size` images of each route."""
        thresholds = {route: self.smallest[route].threshold(size) for route in self.rows}
        return Sample({route: threshold for route, threshold in thresholds.items() if threshold is not None})

    def add(self, image_ids: Mapping[str, list[str]]) -> None:
        """Add rows. image_ids: the ids of each route."""
        for route, names in image_ids.items():
            self._add(route, len(names), np.array([sample_hash(name) for name in names], np.uint64))

    def _add(self, route: str, rows: int, hashes: np.ndarray) -> None:
        self.rows[route] += rows
        self.smallest.setdefault(route, Smallest(self.sample_size)).add(hashes)

    def merge(self, sets: Iterable[Mapping[str, Any]]) -> None:
        """Add the `sets` of another survey; the order does not matter."""
        for one in sets:
            self._add(one["set"], one["rows"], np.frombuffer(one["hashes"], "<u8"))

    def sets(self) -> list[dict[str, Any]]:
        """Return the survey as a value of SETS, for `merge`."""
        return [
            {"set": name, "rows": self.rows[name], "hashes": smallest.values.astype("<u8").tobytes()}
            for name, smallest in self.smallest.items()
        ]


def route_name(defects: tuple[str, ...], unknown: tuple[str, ...], canary: bool = False) -> str:
    """Return the route that an image is counted and sampled in. canary: whether the canary corrects it."""
    if defects:
        return defects[0] + CANARY if canary else defects[0]
    return UNKNOWN if unknown else CLEAN


def defect_of(route: str) -> str:
    """Return the defect of a route, whichever bundle corrects it; other routes stay as they are."""
    return route.removesuffix(CANARY).removesuffix(CURRENT)


def without_canary(routes: Mapping[str, Counter[str]]) -> dict[str, Counter[str]]:
    """Return counts by route, of each image once: the canary's under its defect, and no second corrections."""
    counts: dict[str, Counter[str]] = {}
    for route, of_route in routes.items():
        if not route.endswith(CURRENT):
            counts.setdefault(defect_of(route), Counter()).update(of_route)
    return counts


def count_routes(
    units: Iterable[Unit],
    label_map: LabelMap,
    score_scale: float = 1.0,
    in_canary: Callable[[str], bool] = lambda _: False,
) -> dict[str, int]:
    """Return the number of rows of each route. Logs a warning if `score_scale` is too large. in_canary: of an id.

    Raises ConfigurationError for a row without an id or a score outside 0..1 (see `pipelines.correction.scores`).
    """
    counts: Counter[str] = Counter()
    largest = 0.0
    for unit in units:
        rows = list(read_label_rows(unit, scale=score_scale))
        check_ids((row[0] for row in rows), unit)
        largest = max(largest, check_scores((row[:2] for row in rows), unit.uri, unit.first, score_scale))
        for image_id, labels, product_type in rows:
            route = label_map.route(labels, product_type)
            counts[route_name(route.defects, route.unknown, in_canary(str(image_id)))] += 1
    if note := scale_note(largest, score_scale):
        logger.warning("%s", note)
    return dict(counts)
