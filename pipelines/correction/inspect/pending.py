"""The first pass over a catalog: decides which rows need work. It reads the small columns and asks the storage about
images, but reads none of them.

The result for each row goes to a file below OUTPUT/.run/plan; the result for each unit is returned.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
from numpy.typing import NDArray

from pipelines import storage
from pipelines.cluster.placement import fetched
from pipelines.contracts.hashing import hash_number
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.sampling import sample_hash
from pipelines.correction.catalog import SmallRow, check_ids, read_small_rows, where_images_are
from pipelines.correction.inspect.known import Known
from pipelines.correction.inspect.repeated import Repeated, with_location
from pipelines.correction.inspect.survey import CLEAN, SETS, Survey, route_name
from pipelines.correction.models import Models
from pipelines.correction.scores import check_scores
from pipelines.images.allowed_uris import AllowedUris
from pipelines.images.uploads import input_version
from pipelines.published.erased import erased_key
from pipelines.published.parts import parquet_bytes, write_object
from pipelines.published.row_keys import (
    DETECTED_ROUTE,
    KEY,
    NO_KEY,
    STATED_SHA256,
    IdSums,
    Keys,
    KeySet,
    id_keys,
    key_of,
    keys_column,
    route_text,
    row_key,
    to_keys,
    work_key,
)
from pipelines.storage.parquet_units import SMALL_COLUMNS_ROWS, UNIT, StorageReadError, Unit, joined

#: Value of the column `refused` for rows of an id that was erased on request.
IS_ERASED = -1

#: Up to this many rows, one process inspects a catalog faster than tasks could start.
INSPECT_HERE = 50_000

#: Threads of one task that ask the storage, and rows that each of them takes at a time.
_THREADS = 32
_QUESTIONS = 64
#: Sources of a stage, about, and units of one source, at most. Every source is a task, which costs the driver some
#: 10 ms, and a hundred million rows with URIs are 400,000 units (docs/scale.md).
MOST_SOURCES, SOURCE_UNITS = 50_000, 16
#: Rows per row group of a plan file. A unit reads whole row groups, which are small beside its images.
_PLAN_ROWS = 2048

#: One row for each row of the catalog.
#: uri_key, sha256_key: rows of one id that share one of them are one row (see `repeated`, which ignores the uri of rows
#: that hold image bytes); null if the row names none.
#: row_key: null if the storage does not say enough, or if another row of the id makes this row's manifest row.
#: times: number of manifest rows that it makes. If several rows are one, the first makes all, and the others none.
#: refused: how often the id occurs, if its rows fail for that; IS_ERASED if the id was erased on request; else 0.
#: pending: the row needs work.
#: work_key, input_version: null if the row needs no work. work_key is also null if the id occurs more than once: the
#: row is then corrected, whatever its image is.
PLAN = pa.schema(
    [
        ("id_key", KEY),
        ("uri_key", KEY),
        ("sha256_key", KEY),
        ("row_key", KEY),
        ("times", pa.int32()),
        ("refused", pa.int32()),
        ("pending", pa.bool_()),
        ("work_key", KEY),
        ("input_version", pa.string()),
    ]
)

#: A unit, and the plan file and offset of its rows of PLAN. compare: the smallest hash of its rows that need no work
#: and have no defect.
WORK = pa.schema(
    [*UNIT, ("plan", pa.string()), ("offset", pa.int64()), ("pending", pa.int64()), ("compare", pa.uint64())]
)

INSPECTED = pa.schema(
    [
        ("plan", pa.string()),
        ("rows", pa.int64()),
        ("top_score", pa.float64()),
        ("id_sums", pa.binary()),
        ("sets", SETS),
        ("works", pa.list_(pa.struct(list(WORK)))),
    ]
)


@dataclass(frozen=True)
class InspectSettings:
    """Settings of the pass; small, because they travel with every task.

    models: the bundles that correct. plan: folder of plan files. detector: rows without labels get labels later.
    compare: rows without defects are FID's reference, even if they need no work. repeated: empty in the first pass,
    known in the second. erased: `id_keys` of ids that were erased on request. score_scale: divisor of the catalog's
    scores.
    """

    label_map: LabelMap
    models: Models
    plan: str
    known: "Known | ray.ObjectRef[Known]"
    sample_size: int
    detector: bool = False
    compare: bool = False
    allowed: AllowedUris = field(default_factory=AllowedUris)  # URIs that rows without bytes may be read from
    repeated: "Repeated | ray.ObjectRef[Repeated]" = field(default_factory=Repeated)
    erased: KeySet = field(default_factory=KeySet)
    score_scale: float = 1.0


@dataclass(frozen=True)
class Work:
    """A unit that may have to be read; see WORK. pending: number of manifest rows that it makes."""

    unit: Unit
    plan: str
    offset: int
    pending: int
    compare: int | None = None

    def row(self) -> dict[str, Any]:
        """Return the work as a row of WORK."""
        beside = ("plan", "offset", "pending", "compare")
        return {**asdict(self.unit), **{name: getattr(self, name) for name in beside}}

    @staticmethod
    def from_row(row: dict) -> "Work":
        """Return the work that a row of WORK describes."""
        return Work(
            Unit(row["uri"], tuple(row["row_groups"]), row["skip"], row["first"], row["rows"]),
            *(row[name] for name in ("plan", "offset", "pending", "compare")),
        )

    @staticmethod
    def from_table(table: pa.Table) -> "list[Work]":
        """Return the works of a table of WORK."""
        return [Work.from_row(row) for row in table.to_pylist()]


@dataclass
class Inspection:
    """The work that a catalog needs. survey: of the rows that need work, except those that wait for the detector.
    top_score: the largest score of all rows.
    """

    survey: Survey
    rows: int = 0
    top_score: float = 0.0
    ids: IdSums = field(default_factory=IdSums)
    works: list[Work] = field(default_factory=list)

    @property
    def pending(self) -> int:
        """Number of rows that need work."""
        return sum(work.pending for work in self.works)

    def merge(self, inspected: pa.Table, except_plans: Container[str] = ()) -> None:
        """Add rows of INSPECTED. except_plans: plan files whose work a second pass decides (`merge_again`)."""
        for row in inspected.to_pylist():
            self.rows += row["rows"]
            self.top_score = max(self.top_score, row["top_score"])
            self.ids.merge(IdSums.from_bytes(row["id_sums"]))
            if row["plan"] not in except_plans:
                self._add_work(row)

    def merge_again(self, inspected: pa.Table) -> None:
        """Add the work of rows of INSPECTED that the second pass returned."""
        for row in inspected.to_pylist():
            self._add_work(row)

    def _add_work(self, row: Mapping[str, Any]) -> None:
        self.survey.merge(row["sets"])
        self.works += [Work.from_row(work) for work in row["works"]]

    def needed(self, compare: int | None) -> list[Work]:
        """Return the units to read: those with rows that need work, and those with an image without defects whose hash
        is at most `compare`.
        """
        return [
            work
            for work in self.works
            if work.pending or (compare is not None and work.compare is not None and work.compare <= compare)
        ]


def sources(works: Sequence[Work]) -> list[pa.Table]:
    """Return tables of WORK for a Ray Data source, of which one task reads each.

    They have one unit each, so that workers share a small catalog, until there are more than MOST_SOURCES rows to make;
    then neighbours are joined.
    """
    most = sum(work.pending for work in works) // MOST_SOURCES
    joined_works: list[list[Work]] = []
    pending = 0
    for work in works:
        pending += work.pending
        if not joined_works or pending > most or len(joined_works[-1]) == SOURCE_UNITS:
            joined_works.append([])
            pending = work.pending
        joined_works[-1].append(work)
    return [pa.Table.from_pylist([work.row() for work in group], WORK) for group in joined_works]


def groups(units: Iterable[Unit], rows: int = SMALL_COLUMNS_ROWS) -> Iterator[pa.Table]:
    """Yield tables of UNIT for `inspect_units`: neighbouring units of one file, together up to `rows` rows."""
    group: list[Unit] = []
    for unit in units:
        if group and (unit.uri != group[0].uri or sum(one.rows for one in group) + unit.rows > rows):
            yield pa.concat_tables([one.table() for one in group])
            group = []
        group.append(unit)
    if group:
        yield pa.concat_tables([one.table() for one in group])


def inspect_units(table: pa.Table, settings: InspectSettings) -> pa.Table:
    """Inspect the units of one table of `groups`: write their plan file, and return one row of INSPECTED.

    Raises ConfigurationError for a row without an id or a score outside 0..1, StorageReadError and StorageWriteError.
    """
    units = Unit.from_table(table)
    (whole,) = joined(units, sum(unit.rows for unit in units))
    rows = list(read_small_rows(whole, settings.score_scale))
    check_ids((row.image_id for row in rows), whole)
    scored = ((row.image_id, row.labels) for row in rows)
    top_score = check_scores(scored, whole.uri, whole.first, settings.score_scale)
    ids = id_keys(row.image_id or "" for row in rows)
    uri = plan_of(table, settings.plan)
    plan, routes = _plan(whole, rows, ids, uri, settings)
    todo = np.where(is_pending(plan), plan.column("times").to_numpy(), 0)
    write_object(uri, parquet_bytes(with_location(plan, whole.uri, whole.first), _PLAN_ROWS))

    sums = IdSums()
    sums.add(ids)
    survey = Survey(settings.sample_size)
    by_route: dict[str, list[str]] = {}
    for row, pending, route in zip(rows, todo, routes, strict=True):
        if route is not None and (pending or (route == CLEAN and settings.compare)):
            by_route.setdefault(route, []).append(str(row.image_id))
    survey.add(by_route)
    inspected = {
        "plan": uri,
        "rows": len(rows),
        "top_score": top_score,
        "id_sums": sums.to_bytes(),
        "sets": survey.sets(),
        "works": list(_works(units, uri, rows, todo, routes if settings.compare else [None] * len(rows))),
    }
    return pa.Table.from_pylist([inspected], INSPECTED)


def plan_of(table: pa.Table, folder: str) -> str:
    """Return the URI of the plan file of one table of `groups`. Its name follows from the rows that it describes."""
    first = Unit.from_table(table.slice(0, 1))[0]
    rows = pc.sum(table.column("rows")).as_py()
    return storage.join(
        folder, f"{hash_number('unit', first.uri, first.first, rows):064x}"[:-32] + ".parquet"
    )


def read_plan(work: Work) -> pa.Table:
    """Read the unit's rows of PLAN. Raises StorageReadError."""
    filesystem, path = storage.arrow_filesystem(work.plan)
    first, last = work.offset // _PLAN_ROWS, (work.offset + work.unit.rows - 1) // _PLAN_ROWS
    try:
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            table = file.read_row_groups(range(first, last + 1))
    except (pa.ArrowException, *storage.STORAGE_ERRORS) as error:
        raise StorageReadError(f"cannot read {work.plan}: {type(error).__name__}: {error}") from error
    return table.slice(work.offset - first * _PLAN_ROWS, work.unit.rows)


def is_pending(plan: pa.Table) -> NDArray[np.bool_]:
    """Return (N,): whether each row of PLAN needs work."""
    return np.asarray(plan.column("pending").to_numpy(zero_copy_only=False))


def to_read(plan: pa.Table) -> NDArray[np.bool_]:
    """Return (N,): whether each row of PLAN needs work for which its image is read. Those that were erased do not."""
    return is_pending(plan) & (plan.column("refused").to_numpy() != IS_ERASED)


def _plan(
    unit: Unit, rows: list[SmallRow], ids: NDArray[np.bytes_], plan: str, settings: InspectSettings
) -> tuple[pa.Table, list[str | None]]:
    """Return the rows of PLAN, and each row's route; None if the detector decides it later."""
    routes: list[str | None] = []
    works: list[bytes] = []
    refuses = settings.label_map.unknown_labels == "fail"
    typed = any(rule.product_types for rule in settings.label_map.rules)
    for row in rows:
        model = settings.models.of(str(row.image_id))
        if settings.detector and row.unlabelled:
            routes.append(None)
            route = DETECTED_ROUTE
        else:
            mapped = settings.label_map.route(row.labels, row.product_type)
            routes.append(route_name(mapped.defects, mapped.unknown, model is settings.models.canary))
            route = route_text(mapped, refuses)
        works.append(
            work_key(
                *(str(row.image_id), route, settings.models.identity(model)),
                product_type=row.product_type if typed else None,
            )
        )
    versions = _versions(unit, rows, settings.allowed)
    keys = [
        row_key(work, row.source_uri, row.product_type, version)
        for work, row, version in zip(works, rows, versions, strict=True)
    ]
    columns: dict[str, Any] = {
        "id_key": keys_column(ids),
        "uri_key": [
            _named_image_key(work, row, row.source_uri) for work, row in zip(works, rows, strict=True)
        ],
        "sha256_key": [
            _named_image_key(work, row, row.sha256 and row.sha256.lower())
            for work, row in zip(works, rows, strict=True)
        ],
        **_todo(keys, works, ids, plan, settings),
    }
    pending = columns["pending"]
    kept = pending & (columns["refused"] != IS_ERASED)  # a version may be a hash of the image
    columns["input_version"] = [
        version if is_kept else None for version, is_kept in zip(versions, kept, strict=True)
    ]
    return pa.table([pa.array(columns[one.name], one.type) for one in PLAN], schema=PLAN), routes


def _named_image_key(work: bytes, row: SmallRow, name: str | None) -> bytes | None:
    """Return the key of an image by its name (uri or sha256), and of what the row means; None if there is no name."""
    return key_of("named", work.hex(), row.product_type, name) if name else None


def _todo(
    keys: list[bytes | None], works: list[bytes], ids: Keys, plan: str, settings: InspectSettings
) -> dict[str, Any]:
    """Return the columns of PLAN that describe the work."""
    row_keys, work_keys = [*keys], list[bytes | None](works)
    wanted, times, refused = (np.full(len(keys), number, np.int32) for number in (1, 1, 0))
    for row, repeated in fetched(settings.repeated).among(ids, plan):
        wanted[row], row_keys[row], work_keys[row] = repeated.rows, repeated.row_key, None
        if repeated.is_one:
            times[row] = repeated.rows if repeated.is_first else 0
        else:
            refused[row] = repeated.rows
    for row in np.flatnonzero(settings.erased.has(ids)).tolist():
        refused[row], row_keys[row], work_keys[row] = IS_ERASED, erased_key(row_keys[row]), None
    copies = fetched(settings.known).rows.copies(to_keys([key or NO_KEY for key in row_keys]))
    done = (copies == wanted) & np.array([key is not None for key in row_keys], bool)
    pending = ~done & (times > 0)
    return {
        "row_key": [key if makes else None for key, makes in zip(row_keys, times, strict=True)],
        "times": times,
        "refused": refused,
        "pending": pending,
        "work_key": [work if needed else None for work, needed in zip(work_keys, pending, strict=True)],
    }


def _versions(unit: Unit, rows: list[SmallRow], allowed: AllowedUris) -> list[str | None]:
    """Return each image's version, without reading it; None if the storage does not say enough to notice a change."""
    embedded, fetched = where_images_are(unit)
    file_version = None
    if embedded:
        try:
            file_version = storage.version(unit.uri)
        except storage.STORAGE_ERRORS as error:
            raise StorageReadError(f"cannot read {unit.uri}: {type(error).__name__}: {error}") from error

    def version(row: SmallRow) -> str | None:
        if row.sha256:
            return f"{STATED_SHA256}{row.sha256}"
        parts = [f"file:{file_version}" if file_version else None] if embedded else []
        if fetched:  # if the footer does not say which rows hold their image, both versions count
            parts.append(input_version(row.source_uri, allowed) if row.source_uri else "none")
        return None if None in parts else "+".join(map(str, parts))

    parts = [rows[start : start + _QUESTIONS] for start in range(0, len(rows), _QUESTIONS)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [
            known for part in pool.map(lambda part: [version(row) for row in part], parts) for known in part
        ]


def _works(
    units: list[Unit], plan: str, rows: list[SmallRow], todo: NDArray[np.int32], routes: list[str | None]
) -> Iterator[dict]:
    """Yield rows of WORK for the units that may have to be read. todo: manifest rows that each row has to make."""
    offset = 0
    for unit in units:
        part = slice(offset, offset + unit.rows)
        pending = int(todo[part].sum())
        others = zip(rows[part], todo[part], routes[part], strict=True)
        hashes = [
            sample_hash(str(row.image_id)) for row, makes, route in others if not makes and route == CLEAN
        ]
        if pending or hashes:
            yield {
                **asdict(unit),
                "plan": plan,
                "offset": offset,
                "pending": pending,
                "compare": min(hashes, default=None),
            }
        offset += unit.rows
