"""Turn folders of images and CSV files into parquet tables of URIs, which a run reads as any other catalog.

The ids of a folder's images are their paths relative to it; hidden files and folders (.name) and folders named _name
are left out. A CSV has a column `uri`, whose relative paths start at the CSV's own folder, and optionally `image_id`
(default: the uri as written), `label`, `product_type` and `sha256`.
"""

import hashlib
import logging
import posixpath
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.contracts.names import not_in_label_map
from pipelines.published.parts import parquet_bytes, write_object
from pipelines.storage.file_names import is_image, is_text
from pipelines.storage.file_uris import is_file_uri
from pipelines.storage.linked_folders import is_hidden
from pipelines.storage.parquet_units import PARQUET_SUFFIXES
from pipelines.storage.walk import walk

logger = logging.getLogger(__name__)

_COLUMNS = ("image_id", "uri", "label", "product_type", "sha256")
#: Rows per row group: a unit of work reads its row groups whole.
_ROW_GROUP = 4096


@dataclass(frozen=True)
class Tables:
    """Name the parquet catalogs of a run. uris: files, folders or patterns that replace the values of --catalog.

    allowed: prefixes from which images may be read because --catalog names them.
    """

    uris: tuple[str, ...]
    allowed: tuple[str, ...] = ()


def tabulate(
    catalogs: Sequence[str],
    folder: str,
    label: str | None,
    known: Collection[str],
    detector: bool,
    written: Sequence[str] = (),
) -> Tables:
    """Write a table to `folder` for each of `catalogs` that is a folder of images or a CSV; other catalogs stay as is.

    folder: URI that all machines of the cluster can read. A table's name is a hash of its rows, so that the same images
    give the same URI. label: for rows that have none (--label); one of `known`, the labels for which the label map has
    a rule for all product types. detector: whether the run has a detector that labels rows without a label. written:
    folders that the run writes, in which no image may lie. Raises ConfigurationError that names --catalog or --label,
    and StorageWriteError.
    """
    if label is not None and label not in known:
        raise ConfigurationError(f"--label: {not_in_label_map('rule for', label, known)}")
    uris: list[str] = []
    allowed: list[str] = []
    for uri in catalogs:
        table, prefix = _table(uri)
        if table is None:
            if label is not None:
                raise ConfigurationError(
                    f"--label is for folders of images and CSV files, but --catalog {uri} is parquet; add a column "
                    "'label' to it"
                )
            uris.append(uri)
            continue
        if label is None and not detector and "label" not in table.column_names:
            raise ConfigurationError(
                f"--catalog {uri}: these images have no labels; give --label, one of "
                f"{', '.join(known)}, or a --detector"
            )
        _check_outside(table, uri, written)
        data = parquet_bytes(_labelled(table, label), _ROW_GROUP)
        uris.append(storage.join(folder, f"{hashlib.sha256(data).hexdigest()[:32]}.parquet"))
        if not storage.exists(uris[-1]):
            write_object(uris[-1], data)
        if prefix is not None:
            logger.info("--catalog %s: images below %s may be read", uri, prefix)
            allowed.append(prefix)
    return Tables(tuple(uris), tuple(allowed))


def _table(uri: str) -> tuple[pa.Table | None, str | None]:
    """Return the rows of a catalog (None for parquet), and the folder that may be read because --catalog names it."""
    with storage.as_configuration_error(uri, "--catalog", "read"):
        if storage.is_pattern(uri) or uri.lower().endswith(PARQUET_SUFFIXES):
            return None, None
        fs, path = storage.resolve(uri)
        if uri.lower().endswith(".csv") and fs.isfile(path):
            parent = uri.rpartition("/")[0]
            # Not the root of a disk or bucket: a CSV there must not open all of it.
            is_folder = "/" in parent.partition("://")[2] if "://" in uri else bool(parent)
            return _of_csv(uri, parent or "/"), parent if is_folder else None
        if not fs.isdir(path):
            return None, None
    return _of_folder(uri), uri


def _of_folder(uri: str) -> pa.Table | None:
    """Return the rows of a folder; None if it has parquet files or no image.

    The walk ends at the first parquet file, so that large partitioned folders are not listed.
    """
    ids: list[str] = []
    others: list[str] = []
    for folder in walk(uri, "--catalog", logger.warning):
        if any(name.lower().endswith(PARQUET_SUFFIXES) and not is_hidden(name) for name in folder.files):
            return None
        for name in folder.files:
            (ids if is_image(name) else others).append(folder.key(name))
    if others and ids:
        logger.warning(
            "--catalog %s: %d files are left out because their names are not those of images, such as %s",
            *(uri, len(others), others[0]),
        )
    for id_ in ids:
        if not is_text(id_):
            raise ConfigurationError(
                f"--catalog {uri}: the name {id_!a} is not UTF-8 and cannot be an image_id; rename it"
            )
    if not ids:
        return None
    uris = [storage.join(uri, id_) for id_ in ids]
    return pa.table({"image_id": pa.array(ids, pa.string()), "uri": pa.array(uris, pa.string())})


def _check_outside(table: pa.Table, uri: str, written: Sequence[str]) -> None:
    """Raise ConfigurationError if an image lies in a folder that the run writes: --overwrite would remove it."""
    prefixes = tuple(f"{folder}/" for folder in written)
    for image in table.column("uri").to_pylist():
        if (image if "://" in image else posixpath.normpath(image)).startswith(prefixes):
            raise ConfigurationError(
                f"--catalog {uri}: {image} lies in a folder that the run writes, and --overwrite would remove it; give "
                "another --output"
            )


def _of_csv(uri: str, parent: str) -> pa.Table:
    """Return the rows of a CSV in the folder `parent`. Raises ConfigurationError that names --catalog."""
    try:
        table = csv.read_csv(
            pa.py_buffer(storage.read_bytes(uri)),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(_COLUMNS, pa.string()),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"--catalog {uri}: not a readable CSV: {error}; write it as UTF-8 with a header line and commas"
        ) from error
    counted = Counter(table.column_names)
    twice = [name for name in _COLUMNS if counted[name] > 1]
    if "uri" not in counted or twice:
        what = (
            f"there are two columns {twice[0]!r}" if twice else "column 'uri' (where the image is) is missing"
        )
        raise ConfigurationError(f"--catalog {uri}: {what}; its columns are {', '.join(table.column_names)}")
    table = table.select([name for name in _COLUMNS if name in counted])
    if table.column("uri").null_count:
        number = table.column("uri").is_null().to_pylist().index(True)
        raise ConfigurationError(
            f"--catalog {uri}: row {number} (from 0) has no uri; give it one, or remove it"
        )
    written = table.column("uri")
    ids = pc.coalesce(table.column("image_id"), written) if "image_id" in counted else written
    full = pa.array([_beside(parent, text) for text in written.to_pylist()], pa.string())
    table = table.set_column(table.column_names.index("uri"), "uri", full)
    if "image_id" in counted:
        return table.set_column(table.column_names.index("image_id"), "image_id", ids)
    return table.add_column(0, "image_id", ids)


def _beside(parent: str, uri: str) -> str:
    """Return `uri` with relative paths joined to `parent`. Dots stay in the path: `AllowedUris` judges them."""
    return uri if "://" in uri or is_file_uri(uri) or posixpath.isabs(uri) else storage.join(parent, uri)


def _labelled(table: pa.Table, label: str | None) -> pa.Table:
    """Return `table` with `label` in the rows that have none."""
    if label is None:
        return table
    value = pa.scalar(label, pa.string())
    if "label" not in table.column_names:
        return table.append_column("label", pa.repeat(value, table.num_rows))
    index = table.column_names.index("label")
    return table.set_column(index, "label", pc.fill_null(table.column("label"), value))
