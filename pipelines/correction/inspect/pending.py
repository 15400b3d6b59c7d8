"""The first pass over a catalog: which of its rows need work. It looks at small columns and asks the storage about
images, but reads none.

What it finds of each row goes to a file below OUTPUT/.run/plan; what it finds of each unit of work goes back.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
from numpy.typing import NDArray

from pipelines.contracts.hashing import sample_hash
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.splits import hash_number
from pipelines.correction.catalog import SmallRow, check_ids, read_small_rows, where_images_are
from pipelines.correction.inspect.known import Known, fetched
from pipelines.correction.inspect.repeated import Repeated
from pipelines.correction.inspect.survey import CLEAN, SETS, Survey, route_name
from pipelines.correction.parts import parquet_bytes, write_object
from pipelines.correction.row_keys import (
    DETECTED_ROUTE,
    KEY,
    NO_KEY,
    TOLD,
    IdSums,
    Keys,
    id_keys,
    key_of,
    keys_column,
    route_text,
    row_key,
    to_keys,
    work_key,
)
from pipelines.correction.scores import check_scores
from pipelines.images.allowed_uris import AllowedUris
from pipelines.images.uploads import input_version
from pipelines.storage import objects as storage
from pipelines.storage.parquet_units import SMALL_COLUMNS_ROWS, UNIT, StorageReadError, Unit, joined

#: Up to this many rows one process looks at a catalog faster than tasks could start.
INSPECT_HERE = 50_000

#: Questions to the storage at once in one task.
_THREADS = 32
_QUESTIONS = 64
#: Rows that are read to know about one unit's: small beside its images.
_PLAN_ROWS = 2048

#: One row for each of the catalog's.
#: uri_key, sha256_key: rows of one id with the same one are one row (see `repeated`); null where nothing is named.
#: row_key: null where the storage does not say enough, and where another row of the id makes this one's manifest row.
#: times: manifest rows that it makes; where several rows are one, the first of them makes all, and the others none.
#: by_uri: only their uri says that the others are the same. refused: how often its id occurs, where its rows fail for
#: that; else 0. pending: it needs work.
#: The last two are null where the row needs no work, and work_key where its id occurs more than once: whatever its
#: image is, it is corrected.
PLAN = pa.schema(
    [
        ("id_key", KEY),
        ("uri_key", KEY),
        ("sha256_key", KEY),
        ("row_key", KEY),
        ("times", pa.int32()),
        ("by_uri", pa.bool_()),
        ("refused", pa.int32()),
        ("pending", pa.bool_()),
        ("work_key", KEY),
        ("input_version", pa.string()),
    ]
)

#: A unit, and where PLAN has its rows. compare: the smallest hash of those that have nothing to do and no defect.
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
    """What the pass needs to know; small, it travels with every task.

    identity: of model, configuration and output. plan: folder. detector: rows without labels get some later. compare:
    rows without defects are FID's reference, also those that have nothing to do. repeated: known in a second look.
    score_scale: what the catalog's scores are divided by.
    """

    label_map: LabelMap
    identity: str
    plan: str
    known: "Known | ray.ObjectRef[Known]"
    sample_size: int
    detector: bool = False
    compare: bool = False
    allowed: AllowedUris = field(default_factory=AllowedUris)  # where rows without bytes may be read from
    repeated: "Repeated | ray.ObjectRef[Repeated]" = field(default_factory=Repeated)
    score_scale: float = 1.0


@dataclass(frozen=True)
class Work:
    """A unit of which some rows need work; see WORK. pending: manifest rows that it makes."""

    unit: Unit
    plan: str
    offset: int
    pending: int
    compare: int | None = None

    def table(self) -> pa.Table:
        """As one row of schema WORK, for a Ray Data source."""
        return pa.Table.from_pylist([{**asdict(self.unit), **self._place()}], WORK)

    def _place(self) -> dict[str, str | int | None]:
        return {name: getattr(self, name) for name in ("plan", "offset", "pending", "compare")}

    @staticmethod
    def from_row(row: dict) -> "Work":
        """Of a row of WORK."""
        return Work(
            Unit(row["uri"], tuple(row["row_groups"]), row["skip"], row["first"], row["rows"]),
            *(row[name] for name in ("plan", "offset", "pending", "compare")),
        )

    @staticmethod
    def from_table(table: pa.Table) -> "list[Work]":
        """The inverse of `table`, for any number of rows."""
        return [Work.from_row(row) for row in table.to_pylist()]


@dataclass
class Inspection:
    """What a catalog needs. survey: of the rows that need work, except those that wait for the detector. top_score: the
    largest of all rows.
    """

    survey: Survey
    rows: int = 0
    top_score: float = 0.0
    ids: IdSums = field(default_factory=IdSums)
    works: list[Work] = field(default_factory=list)

    @property
    def pending(self) -> int:
        """Rows that need work."""
        return sum(work.pending for work in self.works)

    def merge(self, inspected: pa.Table, twice: Container[str] = ()) -> None:
        """Add rows of INSPECTED. twice: plan files whose rows get another look, which says what they need."""
        for row in inspected.to_pylist():
            self.rows += row["rows"]
            self.top_score = max(self.top_score, row["top_score"])
            self.ids.merge(IdSums.from_bytes(row["id_sums"]))
            if row["plan"] not in twice:
                self._add_work(row)

    def merge_again(self, inspected: pa.Table) -> None:
        """Add what rows of INSPECTED need after another look."""
        for row in inspected.to_pylist():
            self._add_work(row)

    def _add_work(self, row: Mapping[str, Any]) -> None:
        self.survey.merge(row["sets"])
        self.works += [Work.from_row(work) for work in row["works"]]

    def needed(self, compare: int | None) -> list[Work]:
        """Units to read: those with rows that need work, and with images without defects whose hash is not above
        `compare`.
        """
        return [
            work
            for work in self.works
            if work.pending or (compare is not None and work.compare is not None and work.compare <= compare)
        ]


def groups(units: Iterable[Unit], rows: int = SMALL_COLUMNS_ROWS) -> Iterator[pa.Table]:
    """Units of one file together, up to `rows` rows: tables of UNIT for `inspect_units`."""
    group: list[Unit] = []
    for unit in units:
        if group and (unit.uri != group[0].uri or sum(one.rows for one in group) + unit.rows > rows):
            yield pa.concat_tables([one.table() for one in group])
            group = []
        group.append(unit)
    if group:
        yield pa.concat_tables([one.table() for one in group])


def inspect_units(table: pa.Table, settings: InspectSettings) -> pa.Table:
    """One row of INSPECTED of a table of `groups`; writes its file of PLAN.

    Raises ConfigurationError for a row without an id and for a score outside 0..1, StorageReadError and
    StorageWriteError.
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
    write_object(uri, parquet_bytes(plan, _PLAN_ROWS))

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
    """URI of the file of PLAN of a table of `groups`: its name follows from the rows that it is of."""
    first = Unit.from_table(table.slice(0, 1))[0]
    rows = pc.sum(table.column("rows")).as_py()
    return storage.join(
        folder, f"{hash_number('unit', first.uri, first.first, rows):064x}"[:-32] + ".parquet"
    )


def read_plan(work: Work) -> pa.Table:
    """The unit's rows of PLAN. Raises StorageReadError."""
    filesystem, path = storage.arrow_filesystem(work.plan)
    first, last = work.offset // _PLAN_ROWS, (work.offset + work.unit.rows - 1) // _PLAN_ROWS
    try:
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            table = file.read_row_groups(range(first, last + 1))
    except (pa.ArrowException, *storage.STORAGE_ERRORS) as error:
        raise StorageReadError(f"cannot read {work.plan}: {type(error).__name__}: {error}") from error
    return table.slice(work.offset - first * _PLAN_ROWS, work.unit.rows)


def is_pending(plan: pa.Table) -> NDArray[np.bool_]:
    """(N,): which rows of PLAN need work."""
    return np.asarray(plan.column("pending").to_numpy(zero_copy_only=False))


def _plan(
    unit: Unit, rows: list[SmallRow], ids: NDArray[np.bytes_], plan: str, settings: InspectSettings
) -> tuple[pa.Table, list[str | None]]:
    """PLAN, and each row's route; None where the detector will find it."""
    routes: list[str | None] = []
    works: list[bytes] = []
    refuses = settings.label_map.unknown_labels == "fail"
    typed = any(rule.product_types for rule in settings.label_map.rules)
    for row in rows:
        if settings.detector and row.unlabelled:
            routes.append(None)
            route = DETECTED_ROUTE
        else:
            found = settings.label_map.route(row.labels, row.product_type)
            routes.append(route_name(found.defects, found.unknown))
            route = route_text(found, refuses)
        works.append(
            work_key(str(row.image_id), route, settings.identity, row.product_type if typed else None)
        )
    versions = _versions(unit, rows, settings.allowed)
    keys = [
        row_key(work, row.source_uri, row.product_type, version)
        for work, row, version in zip(works, rows, versions, strict=True)
    ]
    columns: dict[str, Any] = {
        "id_key": keys_column(ids),
        "uri_key": [_image_named(work, row, row.source_uri) for work, row in zip(works, rows, strict=True)],
        "sha256_key": [
            _image_named(work, row, row.sha256 and row.sha256.lower())
            for work, row in zip(works, rows, strict=True)
        ],
        **_todo(keys, works, ids, plan, settings),
    }
    pending = columns["pending"]
    columns["input_version"] = [
        version if needed else None for version, needed in zip(versions, pending, strict=True)
    ]
    return pa.table([pa.array(columns[one.name], one.type) for one in PLAN], schema=PLAN), routes


def _image_named(work: bytes, row: SmallRow, name: str | None) -> bytes | None:
    """Key of the image that the row names so, and of its meaning."""
    return key_of("named", work.hex(), row.product_type, name) if name else None


def _todo(
    keys: list[bytes | None], works: list[bytes], ids: Keys, plan: str, settings: InspectSettings
) -> dict[str, Any]:
    """The columns of PLAN that say what is to be done."""
    row_keys, work_keys = [*keys], list[bytes | None](works)
    wanted, times, refused = (np.full(len(keys), number, np.int32) for number in (1, 1, 0))
    by_uri = np.zeros(len(keys), bool)
    for row, repeated in fetched(settings.repeated).among(ids, plan):
        wanted[row], row_keys[row], work_keys[row] = repeated.rows, repeated.row_key, None
        if repeated.is_one:
            times[row], by_uri[row] = repeated.rows if repeated.is_first else 0, repeated.by_uri
        else:
            refused[row] = repeated.rows
    copies = fetched(settings.known).rows.copies(to_keys([key or NO_KEY for key in row_keys]))
    done = (copies == wanted) & np.array([key is not None for key in row_keys], bool)
    pending = ~done & (times > 0)
    return {
        "row_key": [key if makes else None for key, makes in zip(row_keys, times, strict=True)],
        "times": times,
        "by_uri": by_uri,
        "refused": refused,
        "pending": pending,
        "work_key": [work if needed else None for work, needed in zip(work_keys, pending, strict=True)],
    }


def _versions(unit: Unit, rows: list[SmallRow], allowed: AllowedUris) -> list[str | None]:
    """What is known of each row's image without reading it; None where that is not enough to tell it from another."""
    embedded, fetched = where_images_are(unit)
    own = None
    if embedded:
        try:
            own = storage.version(unit.uri)
        except storage.STORAGE_ERRORS as error:
            raise StorageReadError(f"cannot read {unit.uri}: {type(error).__name__}: {error}") from error

    def version(row: SmallRow) -> str | None:
        if row.sha256:
            return f"{TOLD}{row.sha256}"
        parts = [f"file:{own}" if own else None] if embedded else []
        if fetched:  # where the footer leaves open which rows hold their image, either change counts
            parts.append(input_version(row.source_uri, allowed) if row.source_uri else "none")
        return None if None in parts else "+".join(map(str, parts))

    parts = [rows[start : start + _QUESTIONS] for start in range(0, len(rows), _QUESTIONS)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [
            found for part in pool.map(lambda part: [version(row) for row in part], parts) for found in part
        ]


def _works(
    units: list[Unit], plan: str, rows: list[SmallRow], todo: NDArray[np.int32], routes: list[str | None]
) -> Iterator[dict]:
    """Rows of WORK of units that may have to be read. todo: manifest rows that each row is to make."""
    offset = 0
    for unit in units:
        part = slice(offset, offset + unit.rows)
        pending = int(todo[part].sum())
        others = zip(rows[part], todo[part], routes[part], strict=True)
        hashes = [
            sample_hash(str(row.image_id)) for row, waits, route in others if not waits and route == CLEAN
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
