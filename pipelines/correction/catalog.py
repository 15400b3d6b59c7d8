"""Reads catalogs and turns their rows into one set of columns, whatever columns the files have.

Accepted: `image_id`, an `image` (binary, or struct{bytes, path}) and/or a `uri`, `labels` (list of
struct{label, score}) or a plain `label`, and optionally `product_type` and `sha256` (of the image: with it, the storage
need not be asked whether the image changed).
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.contracts.columns import image_columns, is_image, is_text
from pipelines.correction.detected import read_detected
from pipelines.correction.rows import PURPOSE_COLUMNS
from pipelines.correction.scores import check_scores, suspicious_row_groups
from pipelines.storage.parquet_units import Listing, StorageReadError, Unit, list_units, read_unit
from pipelines.storage.path_columns import path_columns

logger = logging.getLogger(__name__)

#: Scores are not rounded to the float32 of `LABELS`: 70 of 100 must reach a rule's 0.7 here as in the inspection.
_SCORED = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))

#: A row of the catalog, with its scores divided by the score scale.
IMAGE_ROW = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        ("image", pa.binary()),  # encoded upload; null: fetch `source_uri`
        ("source_uri", pa.string()),
        ("labels", _SCORED),  # null: the detector could not read the image
        ("product_type", pa.string()),
    ]
)

#: Schema of the rows between reading and decoding.
CATALOG_ROW = pa.schema([*IMAGE_ROW, *PURPOSE_COLUMNS])

LABEL_COLUMNS = ("image_id", "labels", "label", "product_type")
ALL_COLUMNS = (*LABEL_COLUMNS, "image", "uri")
#: Columns that are read before any image.
_SMALL_COLUMNS = (*LABEL_COLUMNS, "image.path", "uri", "sha256")
#: Rows of these columns in memory at a time.
_SMALL_STEP = 8192

#: One image's labels: (label, score), with score None if the detector gave none.
Labels = list[tuple[str, float | None]]


def list_catalog(
    uris: Sequence[str],
    limit: int | None = None,
    labelled: bool = True,
    fetches: bool = True,
    score_scale: float = 1.0,
) -> Listing:
    """Check the catalog and list its units. Raises ConfigurationError naming file and column (flag --catalog).

    labelled: a column of labels is required; not needed with a detector. fetches: URIs may be read; if not, some row
    must have bytes. score_scale: divisor of the scores. A score outside 0..1 is refused here if a footer shows it, else
    when labels are read (`check_scores`).
    """
    check = partial(check_catalog, labelled=labelled)
    look = partial(_look_at_scores, scale=score_scale)
    listing = list_units(uris, "--catalog", check, limit, in_path=_TYPES, look=look)
    if listing.rows and not fetches and not listing.filled_columns & {"image", "image.bytes"}:
        raise ConfigurationError(
            f"--catalog {' '.join(uris)}: no row has image bytes, and no uri may be read; allow the folders of the "
            "images, such as --allow-uri s3://bucket/uploads/"
        )
    if {"label", "score"} <= listing.filled_columns:
        logger.warning(
            "--catalog has a column 'score' beside 'label', which is not read: each label counts as certain; write "
            "scores into 'labels' (list<struct<label, score>>)"
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
    if "labels" in names and (path_label := path_columns(uri, ("label",)).get("label")) is not None:
        complaints.append(
            f"the file has 'labels', and its path says label={path_label}; leave one out, or rename the folder"
        )
    if complaints:
        raise ConfigurationError(
            f"--catalog {uri}: {'; '.join(complaints)}; its columns are {', '.join(schema.names)}"
        )


def read_rows(unit: Unit, detected: pa.ChunkedArray | None = None, scale: float = 1.0) -> Iterator[pa.Table]:
    """Yield tables of IMAGE_ROW with all rows of one unit, READ_ROWS rows each.

    detected: labels for the rows without labels, see `detected.read_detected`; if these are null too, the labels are
    null. None: rows without labels get an empty list. scale: divisor of the catalog's own scores.
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
    """A row without its image. unlabelled: the catalog has no labels for it. sha256: of the image, by the catalog."""

    image_id: str | None
    labels: Labels
    product_type: str | None
    unlabelled: bool
    source_uri: str | None
    sha256: str | None


def read_small_rows(unit: Unit, scale: float = 1.0) -> Iterator[SmallRow]:
    """Yield all rows of one unit, with scores divided by `scale`. Reads no image."""
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
    """Return whether rows of the unit may hold image bytes, and whether some may lack them, by the file's footer."""
    groups = _row_groups(unit.uri)
    wheres = [_where_images_are(groups[index]) for index in unit.row_groups]
    return any(embedded for embedded, _ in wheres), any(fetched for _, fetched in wheres)


def _row_groups(uri: str) -> list[pq.RowGroupMetaData]:
    filesystem, path = storage.arrow_filesystem(uri)
    try:
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            metadata = file.metadata
    except (pa.ArrowException, *storage.STORAGE_ERRORS) as error:
        raise StorageReadError(f"cannot read {uri}: {type(error).__name__}: {error}") from error
    return [metadata.row_group(index) for index in range(metadata.num_row_groups)]


def _where_images_are(group: pq.RowGroupMetaData) -> tuple[bool, bool]:
    columns = {group.column(index).path_in_schema: group.column(index) for index in range(group.num_columns)}
    column = columns.get("image") or columns.get("image.bytes")
    if column is None:
        return False, True
    statistics = column.statistics
    if statistics is None or not statistics.has_null_count:
        return True, True
    return statistics.null_count < group.num_rows, statistics.null_count > 0


def hold_bytes(uri: str, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return (len(rows),): whether these rows of a file, by their numbers, hold image bytes. Raises StorageReadError.

    Images are read only from row groups whose footer does not show that all of their rows are alike.
    """
    held = np.zeros(len(rows), bool)
    first = 0
    for index, group in enumerate(_row_groups(uri) if len(rows) else ()):
        inside = (first <= rows) & (rows < first + group.num_rows)
        embedded, fetched = _where_images_are(group)
        if inside.any() and embedded and fetched:
            unit = Unit(uri, (index,), 0, first, group.num_rows)
            valid = [image_columns(table)[0].is_valid().to_numpy() for _, table in _read(unit, ("image",))]
            held[inside] = np.concatenate(valid)[rows[inside] - first]
        elif embedded:
            held[inside] = True
        first += group.num_rows
    return held


class UnlabelledRow(NamedTuple):
    """The columns that a detector needs. unlabelled: the catalog has no labels for the row, not even an empty list."""

    image_id: str | None
    image: bytes | None
    uri: str | None
    unlabelled: bool


def read_unlabelled(unit: Unit) -> Iterator[list[UnlabelledRow]]:
    """Yield all rows of one unit, in lists of READ_ROWS."""
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
    """Return which rows have no labels: the column is missing or null. An empty list means that there is no defect."""
    for name in ("labels", "label"):
        if name in table.column_names:
            missing: list[bool] = table.column(name).is_null().to_pylist()
            return missing
    return [True] * table.num_rows


def count_unlabelled(units: Iterable[Unit]) -> int:
    """Return the number of rows without labels."""
    return sum(sum(unlabelled(table)) for unit in units for _, table in _read(unit, LABEL_COLUMNS))


def check_ids(ids: Iterable[str | None], unit: Unit) -> None:
    """Raise ConfigurationError if a row of a unit has no id. ids: of all its rows."""
    for number, image_id in enumerate(ids, unit.first):
        if not image_id:
            raise ConfigurationError(f"--catalog {unit.uri}: row {number} has no image_id; give it one")


def read_label_rows(
    unit: Unit, detected: str | None = None, scale: float = 1.0
) -> Iterator[tuple[str | None, Labels, str | None]]:
    """Yield (image_id, labels, product_type) of one unit's rows. Reads no image.

    detected: folder of the labels that `detect` wrote for rows without labels, or None. scale: divisor of the catalog's
    own scores.
    """
    unit_labels = None if detected is None else read_detected(detected, unit)
    for first, table in _read(unit, LABEL_COLUMNS):
        yield from zip(
            _strings(table, "image_id").to_pylist(),
            (labels or [] for labels in _merged(table, unit_labels, first - unit.first, scale)),
            _strings(table, "product_type").to_pylist(),
            strict=True,
        )


def read_labels(table: pa.Table, scale: float = 1.0) -> list[Labels]:
    """Return each row's labels, with scores divided by `scale`. A null list counts as empty, and null labels are left
    out; a plain `label` has no score.
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
    """Return the table's labels; for rows without labels those of `detected` from row `start` on (null: None)."""
    own: list[Labels | None] = [*read_labels(table, scale)]
    if detected is None:
        return own
    part = detected.slice(start, table.num_rows)
    others = [
        labels if valid else None
        for labels, valid in zip(_label_lists(part), part.is_valid().to_pylist(), strict=True)
    ]
    return [
        other if missing else row_labels
        for row_labels, other, missing in zip(own, others, unlabelled(table), strict=True)
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
#: Columns: check of the accepted type, its name in messages, and the remedy.
_TYPES = {
    "image_id": (
        lambda kind: is_text(kind) and not pa.types.is_null(kind),
        "string",
        "cast it to text, as it will be in the manifest",
    ),
    "image": (
        is_image,
        "binary or struct<bytes: binary, path: string>",
        "it holds uploaded files; their locations go into 'uri'",
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
#: Text columns, which may also be read from a file's path. Any other column in a path is refused for its type.
_IN_PATH = ("image_id", "uri", "label", "product_type", "sha256")


def _read(unit: Unit, columns: Sequence[str], step: int | None = None) -> Iterator[tuple[int, pa.Table]]:
    return read_unit(unit, columns, step, in_path=_IN_PATH)


def _strings(table: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
    if name not in table.column_names:
        return pa.nulls(table.num_rows, pa.string())
    return table.column(name).cast(pa.string())


def _label_structs(labels: Labels) -> list[dict[str, Any]]:
    return [{"label": label, "score": score} for label, score in labels]
