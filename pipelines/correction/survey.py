"""The first pass over a catalog: labels only, never an image.

It counts the rows of each route, which the end of the run is checked against, and finds for each route the
hash thresholds of its samples. Memory is bounded by the number of routes and the sample size.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from model.errors import ConfigurationError
from pipelines.correction.read_catalog import read_label_rows
from pipelines.label_map import LabelMap
from pipelines.parquet_units import Unit
from pipelines.sampling import Sample, Smallest, sample_hash

#: Routes beside the defects, whose names have no blanks. CLEAN: the detector finds nothing wrong, or says nothing;
#: UNKNOWN: there is a label that no rule names, and no defect.
CLEAN, UNKNOWN = "no defect", "unknown labels"
_EVERY_ROW = "every row"
#: Hashes of all rows that are compared to find ids that occur twice. Complete up to this many rows; above, it
#: still finds a file that was given twice.
_CHECKED_FOR_REPEATS = 20_000

#: Up to this many rows one process reads the labels faster than tasks could start.
SURVEY_HERE = 50_000

PARTIAL = pa.schema([("set", pa.string()), ("rows", pa.int64()), ("hashes", pa.binary())])


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

    def add(self, route: str, rows: int, hashes: np.ndarray) -> None:
        """Count `rows` of `route`, of which `hashes` (uint64) are the smallest."""
        if route != _EVERY_ROW:
            self.rows[route] += rows
        size = _CHECKED_FOR_REPEATS if route == _EVERY_ROW else self.sample_size
        self.smallest.setdefault(route, Smallest(size)).add(hashes)

    def merge(self, partial: pa.Table) -> None:
        """Add what `survey_unit` found."""
        for row in partial.to_pylist():
            self.add(row["set"], row["rows"], np.frombuffer(row["hashes"], "<u8"))

    def repeated_hash(self) -> int | None:
        """A hash that occurs more than once, or None."""
        seen = self.smallest.get(_EVERY_ROW)
        if seen is None:
            return None
        repeats = seen.values[:-1][seen.values[1:] == seen.values[:-1]]
        return int(repeats[0]) if len(repeats) else None


def route_name(defects: tuple[str, ...], unknown: tuple[str, ...]) -> str:
    """The set that an image is counted and sampled in."""
    return defects[0] if defects else UNKNOWN if unknown else CLEAN


def survey_unit(unit: Unit, label_map: LabelMap, sample_size: int, detected: str | None = None) -> pa.Table:
    """What `Survey.merge` needs of one unit, schema PARTIAL. Raises ConfigurationError for a row without an
    id.

    detected: where a detector's labels of the rows without any lie, or None (see `read_catalog.read_rows`).
    """
    found = Survey(sample_size)
    hashes: dict[str, list[int]] = {}
    for number, (image_id, labels, product_type) in enumerate(read_label_rows(unit, detected), unit.first):
        if not image_id:
            raise ConfigurationError(f"--catalog {unit.uri}: row {number} has no image_id; give it one")
        route = label_map.route(labels, product_type)
        name = route_name(route.defects, route.unknown)
        hashes.setdefault(name, []).append(sample_hash(image_id))
    for name, numbers in hashes.items():
        found.add(name, len(numbers), np.array(numbers, np.uint64))
    everything = [number for numbers in hashes.values() for number in numbers]
    found.add(_EVERY_ROW, len(everything), np.array(everything, np.uint64))
    rows = [
        {"set": name, "rows": found.rows[name], "hashes": smallest.values.astype("<u8").tobytes()}
        for name, smallest in found.smallest.items()
    ]
    return pa.Table.from_pylist(rows, PARTIAL)


def survey_units(
    table: pa.Table, label_map: LabelMap, sample_size: int, detected: str | None = None
) -> Iterator[pa.Table]:
    """`survey_unit` of every unit in a table of units."""
    for unit in Unit.from_table(table):
        yield survey_unit(unit, label_map, sample_size, detected)


def survey_here(
    units: Sequence[Unit], label_map: LabelMap, sample_size: int, detected: str | None = None
) -> Survey:
    """The survey of a catalog that is small enough to read in this process (SURVEY_HERE)."""
    partials = (survey_unit(unit, label_map, sample_size, detected) for unit in units)
    return merge_partials(partials, sample_size, units)


def merge_partials(partials: Iterable[pa.Table], sample_size: int, units: Iterable[Unit]) -> Survey:
    """The survey of a whole catalog. Raises ConfigurationError where an image id occurs twice."""
    survey = Survey(sample_size)
    for partial in partials:
        survey.merge(partial)
    repeated = survey.repeated_hash()
    if repeated is not None:
        places = [place for unit in units for place in _find(unit, repeated)]
        ids = " and ".join(f"{uri} row {number} ({image_id!r})" for uri, number, image_id in places[:2])
        raise ConfigurationError(
            f"--catalog: an image_id occurs {len(places)} times: {ids}; ids name the outputs, so each must "
            "occur once"
        )
    return survey


def _find(unit: Unit, number: int) -> Iterator[tuple[str, int, str]]:
    for row, (image_id, _, _) in enumerate(read_label_rows(unit), unit.first):
        if image_id and sample_hash(image_id) == number:
            yield unit.uri, row, image_id
