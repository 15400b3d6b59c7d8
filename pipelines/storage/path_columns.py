"""Columns that stand in a file's path and not in the file, as Hive, Spark and pyarrow write partitioned folders:

    uploads/product_type=running%20shoe/part-0.parquet

All folders above a file count, also those that a command line names; of a file in a hidden folder (.name), which is a
program's own, only those below that. Values are percent-decoded text.
"""

from collections.abc import Collection, Mapping
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from model.errors import ConfigurationError

#: The value that stands for null.
NULL = "__HIVE_DEFAULT_PARTITION__"


def path_columns(uri: str, names: Collection[str]) -> dict[str, str | None]:
    """Those of the columns `names` that stand in the path of the file `uri`, with its value in all its rows.

    Raises ConfigurationError where two folders of the path disagree, or a value is not UTF-8.
    """
    found: dict[str, str | None] = {}
    folders = uri.split("/")[:-1]
    hidden = [number for number, folder in enumerate(folders) if folder.startswith(".") and folder.strip(".")]
    for folder in folders[hidden[-1] :] if hidden else folders:
        name, equals, text = folder.partition("=")
        if not equals or unquote(name) not in names:
            continue
        try:
            value = None if text == NULL else unquote(text, errors="strict")
        except UnicodeDecodeError as error:
            raise ConfigurationError(
                f"{uri}: folder {folder}: its percent signs are no UTF-8; rename it"
            ) from error
        if found.setdefault(unquote(name), value) != value:
            raise ConfigurationError(
                f"{uri}: its folders say that {name} is {found[unquote(name)]!r} and that it is {value!r}; rename one"
            )
    return found


def add_path_columns(table: pa.Table, columns: Mapping[str, str | None], uri: str, first: int) -> pa.Table:
    """`table`, rows of the file `uri` from number `first` on, with the columns that stand in its path.

    Raises ConfigurationError, with the row, where the table has such a column and it says something else.
    """
    for name, value in columns.items():
        if name not in table.column_names:
            column = (
                pa.nulls(table.num_rows, pa.string()) if value is None else pa.repeat(value, table.num_rows)
            )
            table = table.append_column(pa.field(name, pa.string()), column)
            continue
        own = table.column(name).cast(pa.string())
        same = own.is_null() if value is None else pc.fill_null(pc.equal(own, value), False)
        row = pc.index(same, False).as_py()
        if row >= 0:
            raise disagreement(f"{uri}: row {first + row}", name, own[row].as_py(), value)
    return table


def disagreement(place: str, name: str, own: str | None, value: str | None) -> ConfigurationError:
    """The complaint about a row at `place` whose column `name` is `own`, where its path says `value`."""
    return ConfigurationError(
        f"{place} has {name} {own!r}, and its folder says {name}={NULL if value is None else value}; correct one of "
        "the two, or leave the column out of the file"
    )
