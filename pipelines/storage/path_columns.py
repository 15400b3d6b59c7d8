"""Read columns from a file's path, where Hive, Spark and pyarrow write the columns of partitioned folders:

    uploads/product_type=running%20shoe/part-0.parquet

All folders above a file count, including those that the command line names. If one of them is hidden (.name, a
program's own folder), only the folders below it count. Values are percent-decoded text.
"""

from collections.abc import Collection, Mapping
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from model.errors import ConfigurationError

#: The value that stands for null.
NULL = "__HIVE_DEFAULT_PARTITION__"


def path_columns(uri: str, names: Collection[str]) -> dict[str, str | None]:
    """Return those of the columns `names` that the path of the file `uri` contains, with their values.

    Raises ConfigurationError if two folders of the path disagree, or if a value is not UTF-8.
    """
    columns: dict[str, str | None] = {}
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
                f"{uri}: folder {folder}: its percent-encoded text is not UTF-8; rename it"
            ) from error
        if columns.setdefault(unquote(name), value) != value:
            raise ConfigurationError(
                f"{uri}: two of its folders give different values for {name}: {columns[unquote(name)]!r} and "
                f"{value!r}; rename one"
            )
    return columns


def add_path_columns(table: pa.Table, columns: Mapping[str, str | None], uri: str, first: int) -> pa.Table:
    """Return `table` with the columns of its file's path added. first: number of its first row in the file `uri`.

    Raises ConfigurationError that names the row if the table has such a column with another value.
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


def disagreement(where: str, name: str, own: str | None, value: str | None) -> ConfigurationError:
    """Return the error for a row whose column `name` is `own` while its path gives `value`. where: names the row."""
    return ConfigurationError(
        f"{where} has {name} {own!r}, but its folder gives {name}={NULL if value is None else value}; correct one of "
        "the two, or leave the column out of the file"
    )
