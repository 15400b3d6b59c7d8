"""Catalogs as they come to rows as the job wants them: one set of columns, whatever the file calls its own.

Accepted: `image_id`, an `image` (binary, or struct{bytes, path}) and/or a `uri`, `labels` (list of
struct{label, score}) or a plain `label`, and optionally `product_type` and `sha256` (of the image: where it is the same
as before, nobody asks the storage).
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from model.errors import ConfigurationError
from pipelines.contracts.columns import image_columns, is_image, is_text
from pipelines.correction.detected import read_detected
from pipelines.correction.rows import PURPOSE_COLUMNS
from pipelines.correction.scores import check_scores, suspicious_row_groups
from pipelines.storage import objects as storage
from pipelines.storage.parquet_units import Listing, StorageReadError, Unit, list_units, read_unit
from pipelines.storage.path_columns import path_columns

logger = logging.getLogger(__name__)

#: Scores are not rounded to `LABELS`'s float32: 70 of 100 must reach a rule of 0.7 here as in the inspection.
_SCORED = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))

#: A row as the catalog has it, its scores divided.
IMAGE_ROW = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        ("image", pa.binary()),  # encoded upload; null: fetch `source_uri`
        ("source_uri", pa.string()),
        ("labels", _SCORED),  # null: a detector should have found them, and could not read the image
        ("product_type", pa.string()),
    ]
)

#: Rows between reading and decoding.
CATALOG_ROW = pa.schema([*IMAGE_ROW, *PURPOSE_COLUMNS])

LABEL_COLUMNS = ("image_id", "labels", "label", "product_type")
ALL_COLUMNS = (*LABEL_COLUMNS, "image", "uri")
#: What is looked at before images are.
_SMALL_COLUMNS = (*LABEL_COLUMNS, "image.path", "uri", "sha256")
#: Rows of these columns that are held at a time.
_SMALL_STEP = 8192

#: One image's labels: (label, score), the score None where the detector gave none.
Labels = list[tuple[str, float | None]]


def list_catalog(
    uris: Sequence[str],
    limit: int | None = None,
    labelled: bool = True,
    fetches: bool = True,
    score_scale: float = 1.0,
) -> Listing:
    """Units of the catalog, checked. Raises ConfigurationError naming file and column (flag --catalog).

    labelled: it must have a column of labels; a detector does without. fetches: URIs may be read; if not, some row
    must have bytes. score_scale: what scores are divided by; one that is outside 0..1 is refused here where a footer
    tells of it, else where labels are read (`check_scores`).
    """
    check = partial(check_catalog, labelled=labelled)
    look = partial(_look_at_scores, scale=score_scale)
    listing = list_units(uris, "--catalog", check, limit, in_path=_TYPES, look=look)
    if listing.rows and not fetches and not listing.filled_columns & {"image", "image.bytes"}:
        raise ConfigurationError(
            f"--catalog {' '.join(uris)}: no row has image bytes, and no uri may be read; name the places that may be "
            "read from, such as --allow-uri s3://bucket/uploads/"
        )
    if {"label", "score"} <= listing.filled_columns:
        logger.warning(
            "--catalog has a column 'score' beside 'label', which is not read: each label counts as certain; scores "
            "belong into 'labels' (list<struct<label, score>>)"
        )
    return listing


def _look_at_scores(uri: str, metadata: pq.FileMetaData, scale: float) -> None:
    for group, first, rows in suspicious_row_groups(metadata, scale):
        for _, table in _read(Unit(uri, (group,), 0, first, rows), LABEL_COLUMNS):
            ids = _strings(table, "image_id").to_pylist()
            check_scores(zip(ids, read_labels(table, scale), strict=True), uri, first, scale)
            first += table.num_rows


def check_catalog(schema: pa.Schema, uri: str, labelled: bool = True) -> None:
    """Raise ConfigurationError, with every complaint at once, unless `schema` is a catalog's."""
    names = set(schema.names)
    complaints = [
        f"column {name!r} is {schema.field(name).type}, not {wanted} ({remedy})"
        for name, (accepts, wanted, remedy) in _TYPES.items()
        if schema.names.count(name) == 1 and not accepts(schema.field(name).type)
    ]
    complaints += [
        f"there are {schema.names.count(name)} columns {name!r}"
        for name in ALL_COLUMNS
        if schema.names.count(name) > 1
    ]
    if "image_id" not in names:
        complaints.append("column 'image_id' (string) is missing")
    if not names & {"image", "uri"}:
        complaints.append("there is neither 'image' (encoded bytes) nor 'uri' (string)")
    if labelled and not names & {"labels", "label"}:
        complaints.append(
            "there is neither 'labels' (list<struct<label, score>>) nor 'label' (string); --detector finds them"
        )
    if "labels" in names and (told := path_columns(uri, ("label",)).get("label")) is not None:
        complaints.append(
            f"the file has 'labels', and its path says label={told}; leave one out, or rename the folder"
        )
    if complaints:
        raise ConfigurationError(
            f"--catalog {uri}: {'; '.join(complaints)}; its columns are {', '.join(schema.names)}"
        )


def read_rows(unit: Unit, detected: pa.ChunkedArray | None = None, scale: float = 1.0) -> Iterator[pa.Table]:
    """Tables of IMAGE_ROW of all rows of one unit, READ_ROWS rows each.

    detected: labels for those rows that have none, see `detected.read_detected`; where these are null, too, they stay
    null. None: rows without labels have an empty list. scale: what the catalog's own scores are divided by.
    """
    for first, table in _read(unit, ALL_COLUMNS):
        image, path = image_columns(table)
        source = _strings(table, "uri")
        columns = {
            "image_id": _strings(table, "image_id"),
            "image": image,
            "source_uri": source if path is None else pc.coalesce(source, path),
            "labels": pa.array(
                [
                    None if labels is None else _label_structs(labels)
                    for labels in _merged(table, detected, first - unit.first, scale)
                ],
                _SCORED,
            ),
            "product_type": _strings(table, "product_type"),
        }
        yield pa.table(columns, schema=IMAGE_ROW)


class SmallRow(NamedTuple):
    """A row without its image. unlabelled: the catalog says nothing of it; sha256: the catalog's own, of the image."""

    image_id: str | None
    labels: Labels
    product_type: str | None
    unlabelled: bool
    source_uri: str | None
    sha256: str | None


def read_small_rows(unit: Unit, scale: float = 1.0) -> Iterator[SmallRow]:
    """All rows of one unit, without reading an image; their scores divided by `scale`."""
    for _, table in _read(unit, _SMALL_COLUMNS, _SMALL_STEP):
        uri = _strings(table, "uri")
        if "image" in table.column_names:
            uri = pc.coalesce(uri, pc.struct_field(table.column("image"), "path").cast(pa.string()))
        columns = (
            _strings(table, "image_id").to_pylist(),
            read_labels(table, scale),
            _strings(table, "product_type").to_pylist(),
            unlabelled(table),
            uri.to_pylist(),
            _strings(table, "sha256").to_pylist(),
        )
        yield from (SmallRow(*row) for row in zip(*columns, strict=True))


def where_images_are(unit: Unit) -> tuple[bool, bool]:
    """Whether rows of the unit may hold image bytes, and whether some may not, by the file's footer."""
    filesystem, path = storage.arrow_filesystem(unit.uri)
    try:
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            metadata = file.metadata
    except (pa.ArrowException, *storage.STORAGE_ERRORS) as error:
        raise StorageReadError(f"cannot read {unit.uri}: {type(error).__name__}: {error}") from error
    embedded = fetched = False
    for group in map(metadata.row_group, unit.row_groups):
        columns = {
            group.column(index).path_in_schema: group.column(index) for index in range(group.num_columns)
        }
        column = columns.get("image") or columns.get("image.bytes")
        if column is None:
            fetched = True
            continue
        statistics = column.statistics
        nulls = None if statistics is None or not statistics.has_null_count else statistics.null_count
        embedded |= nulls is None or nulls < group.num_rows
        fetched |= nulls is None or nulls > 0
    return embedded, fetched


class UnlabelledRow(NamedTuple):
    """What a detector needs of a row. unlabelled: the catalog says nothing of it, not even that it has no defect."""

    image_id: str | None
    image: bytes | None
    uri: str | None
    unlabelled: bool


def read_unlabelled(unit: Unit) -> Iterator[list[UnlabelledRow]]:
    """Lists of all rows of one unit, READ_ROWS each."""
    for _, table in _read(unit, ALL_COLUMNS):
        image, path = image_columns(table)
        uri = _strings(table, "uri")
        columns = (
            _strings(table, "image_id").to_pylist(),
            image.to_pylist(),
            (uri if path is None else pc.coalesce(uri, path)).to_pylist(),
            unlabelled(table),
        )
        yield [UnlabelledRow(*row) for row in zip(*columns, strict=True)]


def unlabelled(table: pa.Table) -> list[bool]:
    """Which rows have no labels: the column is missing or null. An empty list says that there is no defect."""
    for name in ("labels", "label"):
        if name in table.column_names:
            missing: list[bool] = table.column(name).is_null().to_pylist()
            return missing
    return [True] * table.num_rows


def count_unlabelled(units: Iterable[Unit]) -> int:
    """How many rows have no labels."""
    return sum(sum(unlabelled(table)) for unit in units for _, table in _read(unit, LABEL_COLUMNS))


def check_ids(ids: Iterable[str | None], unit: Unit) -> None:
    """Raise ConfigurationError for a row of a unit, of all its rows' ids, that has none."""
    for number, image_id in enumerate(ids, unit.first):
        if not image_id:
            raise ConfigurationError(f"--catalog {unit.uri}: row {number} has no image_id; give it one")


def read_label_rows(
    unit: Unit, detected: str | None = None, scale: float = 1.0
) -> Iterator[tuple[str | None, Labels, str | None]]:
    """(image_id, labels, product_type) of one unit's rows, without reading an image.

    detected: the folder where `detect` left the labels of rows that have none, or None. scale: what the catalog's own
    scores are divided by.
    """
    found = None if detected is None else read_detected(detected, unit)
    for first, table in _read(unit, LABEL_COLUMNS):
        yield from zip(
            _strings(table, "image_id").to_pylist(),
            (labels or [] for labels in _merged(table, found, first - unit.first, scale)),
            _strings(table, "product_type").to_pylist(),
            strict=True,
        )


def read_labels(table: pa.Table, scale: float = 1.0) -> list[Labels]:
    """Each row's labels, their scores divided by `scale`. A null list is an empty one, a null label none; a plain
    `label` has no score.
    """
    if "labels" not in table.column_names and "label" not in table.column_names:
        return [[] for _ in range(table.num_rows)]
    if "labels" not in table.column_names:
        return [[] if label is None else [(label, None)] for label in _strings(table, "label").to_pylist()]
    return _label_lists(table.column("labels"), scale)


def _label_lists(column: pa.ChunkedArray, scale: float = 1.0) -> list[Labels]:
    return [
        [
            (item["label"], None if (score := item.get("score")) is None else score / scale)
            for item in labels or ()
            if item and item["label"] is not None
        ]
        for labels in column.to_pylist()
    ]


def _merged(
    table: pa.Table, detected: pa.ChunkedArray | None, start: int, scale: float
) -> list[Labels | None]:
    """The table's labels, and where it has none those of `detected` from row `start` on; None where that is null."""
    own: list[Labels | None] = [*read_labels(table, scale)]
    if detected is None:
        return own
    part = detected.slice(start, table.num_rows)
    others = [
        labels if there else None
        for labels, there in zip(_label_lists(part), part.is_valid().to_pylist(), strict=True)
    ]
    return [
        other if missing else mine
        for mine, other, missing in zip(own, others, unlabelled(table), strict=True)
    ]


def _is_labels(kind: pa.DataType) -> bool:
    if pa.types.is_null(kind):
        return True
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not is_list or not pa.types.is_struct(kind.value_type):
        return False
    fields = {field.name: field.type for field in kind.value_type}
    score = fields.get("score", pa.null())
    return (
        "label" in fields
        and is_text(fields["label"])
        and (pa.types.is_floating(score) or pa.types.is_integer(score) or pa.types.is_null(score))
    )


_AS_TEXT = "cast it to text"
#: Columns: what is accepted, how messages call that, and the remedy.
_TYPES = {
    "image_id": (
        lambda kind: is_text(kind) and not pa.types.is_null(kind),
        "string",
        "cast it to text, as the manifest shall have it",
    ),
    "image": (
        is_image,
        "binary or struct<bytes: binary, path: string>",
        "files as they were uploaded; where they are goes into 'uri'",
    ),
    "uri": (is_text, "string", _AS_TEXT),
    "labels": (
        _is_labels,
        "list<struct<label: string, score: float>>",
        "one label without a score goes into 'label', as text",
    ),
    "label": (is_text, "string", _AS_TEXT),
    "product_type": (is_text, "string", _AS_TEXT),
    "sha256": (is_text, "string", "write it as text, hexadecimal"),
}
#: Columns that are read from a file's path: those of text. Where the path alone has another, its type is refused.
_IN_PATH = ("image_id", "uri", "label", "product_type", "sha256")


def _read(unit: Unit, columns: Sequence[str], step: int | None = None) -> Iterator[tuple[int, pa.Table]]:
    return read_unit(unit, columns, step, in_path=_IN_PATH)


def _strings(table: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
    if name not in table.column_names:
        return pa.nulls(table.num_rows, pa.string())
    return table.column(name).cast(pa.string())


def _label_structs(labels: Labels) -> list[dict[str, Any]]:
    return [{"label": label, "score": score} for label, score in labels]
