"""What a run will correct, by route: counts, and the hash thresholds of the samples for FID and for the report.

Memory is bounded by the number of routes and the sample size.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.contracts.hashing import Sample, Smallest, sample_hash
from pipelines.contracts.label_map import LabelMap
from pipelines.correction.catalog import check_ids, read_label_rows
from pipelines.correction.scores import check_scores, scale_note
from pipelines.storage.parquet_units import Unit

logger = logging.getLogger(__name__)

#: Routes beside the defects, whose names have no blanks. CLEAN: the detector finds nothing wrong, or says nothing;
#: UNKNOWN: there is a label that no rule names, and no defect.
CLEAN, UNKNOWN = "no defect", "unknown labels"

#: A route's rows and the smallest hashes of their ids, uint64 little-endian.
SETS = pa.list_(pa.struct([("set", pa.string()), ("rows", pa.int64()), ("hashes", pa.binary())]))


@dataclass
class Survey:
    """Rows by route (a route is the first defect, CLEAN or UNKNOWN) and the smallest hashes of each."""

    sample_size: int
    rows: Counter[str] = field(default_factory=Counter)
    smallest: dict[str, Smallest] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Rows seen."""
        return self.rows.total()

    def sample(self, size: int) -> Sample:
        """The sample of `size` images of each route."""
        found = {route: self.smallest[route].threshold(size) for route in self.rows}
        return Sample({route: threshold for route, threshold in found.items() if threshold is not None})

    def add(self, image_ids: Mapping[str, list[str]]) -> None:
        """Count rows: route to their ids."""
        for route, names in image_ids.items():
            self._add(route, len(names), np.array([sample_hash(name) for name in names], np.uint64))

    def _add(self, route: str, rows: int, hashes: np.ndarray) -> None:
        self.rows[route] += rows
        self.smallest.setdefault(route, Smallest(self.sample_size)).add(hashes)

    def merge(self, sets: Iterable[Mapping[str, Any]]) -> None:
        """Add what another has seen; the order does not matter."""
        for one in sets:
            self._add(one["set"], one["rows"], np.frombuffer(one["hashes"], "<u8"))

    def sets(self) -> list[dict[str, Any]]:
        """What `merge` takes: a value of SETS."""
        return [
            {"set": name, "rows": self.rows[name], "hashes": smallest.values.astype("<u8").tobytes()}
            for name, smallest in self.smallest.items()
        ]


def route_name(defects: tuple[str, ...], unknown: tuple[str, ...]) -> str:
    """The set that an image is counted and sampled in."""
    return defects[0] if defects else UNKNOWN if unknown else CLEAN


def count_routes(units: Iterable[Unit], label_map: LabelMap, score_scale: float = 1.0) -> dict[str, int]:
    """Rows of each route. Warns of a scale that is too large, and raises ConfigurationError for a row without an id and
    for a score outside 0..1 (see `pipelines.correction.scores`).
    """
    counts: Counter[str] = Counter()
    largest = 0.0
    for unit in units:
        rows = list(read_label_rows(unit, scale=score_scale))
        check_ids((row[0] for row in rows), unit)
        largest = max(largest, check_scores((row[:2] for row in rows), unit.uri, unit.first, score_scale))
        for _, labels, product_type in rows:
            route = label_map.route(labels, product_type)
            counts[route_name(route.defects, route.unknown)] += 1
    if note := scale_note(largest, score_scale):
        logger.warning("%s", note)
    return dict(counts)
