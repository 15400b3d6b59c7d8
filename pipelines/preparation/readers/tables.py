"""The reader of tables of photos, pairs and clean images: parquet or CSV, with the bytes inside or their URIs.

Columns: `image_id`; `image` or `uri` for a photo; `source`, `source_uri`, `target`, `target_uri` for pairs, where one
alone is unpaired; `mask`, `mask_uri` (8-bit grey PNG of the photo's size, 255 is product); `defect`; `product_type`.
Others are ignored. A relative URI is relative to its table. An image column may hold encoded bytes, Hugging Face's
struct{bytes, path}, or URIs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from model.errors import ConfigurationError
from pipelines.preparation.entries import Entry, Locator
from pipelines.preparation.readers.base import Counted, Notes
from pipelines.preparation.readers.table_files import Columns, Row, TableFile, open_tables, unfit

Ids = Literal["auto", "path", "row"]

TEXT = ("image_id", "uri", "source_uri", "target_uri", "mask_uri", "defect", "product_type")
IMAGES = ("image", "source", "target", "mask")
_SOURCES, _TARGETS = ("image", "uri", "source", "source_uri"), ("target", "target_uri")


@dataclass(frozen=True)
class TableReader:
    """Tables at or below `uri`.

    With a defect, a row is a pair or an unpaired image of one side. Without one, it is a photo, perhaps with a mask; or
    a product image without defects, if it is in the columns target, target_uri or if `clean` is set.
    """

    flag: str
    uri: str
    defect: str | None = None  # of rows that name none
    product_type: str | None = None  # of rows that name none
    clean: bool = False  # `image` and `uri` are clean product images, from which defects are made
    columns: Mapping[str, str] = field(default_factory=dict)  # columns' names in the files, if different
    # Where ids come from. 'auto': column image_id, else the path in an image struct, else file and row. 'row': file and
    # row, for a dataset whose paths repeat; such ids change if the files are divided differently.
    ids: Ids = "auto"
    id_prefix: str = ""

    @property
    def name(self) -> str:
        return f"{self.flag}: {self.uri}"

    @cached_property
    def _tables(self) -> list[TableFile]:
        return open_tables(self.uri, Columns(TEXT, IMAGES, self.columns), self.flag)

    def check(self) -> None:
        for table in self._tables:
            if complaints := list(self._complaints(table)):
                raise unfit(table, complaints)
        if all(table.row_count == 0 for table in self._tables):
            raise ConfigurationError(f"{self.flag}: no rows in {self.uri}; give tables with at least one row")

    def _complaints(self, table: TableFile) -> Iterator[str]:
        sources, targets = table.present(_SOURCES), table.present(_TARGETS)
        if not sources and not targets:
            yield "no column with images: image or uri, or source, target (with or without _uri)"
        if len({column.partition("_")[0] for column in sources} - {"uri"}) > 1 or (
            "uri" in sources and table.present(("source", "source_uri"))
        ):
            yield "both image or uri and source, which mean the same"
        if self.clean and targets:
            yield "a column of targets in a table of clean images (reader: clean takes image or uri)"
        if sources and targets and not self.defect and not table.present(("defect",)):
            yield "pairs without a defect: add a column defect, or defect: NAME"
        has_ids = table.present(("image_id",)) if self.ids == "auto" else self.ids == "row"
        if not has_ids and not table.structs:
            yield "no column image_id (to name images after file and row: ids: row)"

    def describe(self) -> dict[str, Any]:
        counts = [table.row_count for table in self._tables]
        rows = {} if None in counts else {"rows": sum(count or 0 for count in counts)}
        return {
            "reader": "clean" if self.clean else "table",
            "uri": self.uri,
            "files": len(self._tables),
            **rows,
        }

    def entries(self, notes: Notes) -> Iterator[Entry]:
        nameless, empty = Counted(), True
        for table in self._tables:
            for row in table.rows():
                empty = False
                yield self._entry(row, nameless)
        if empty:
            raise ConfigurationError(f"{self.flag}: no rows in {self.uri}; give tables with at least one row")
        if nameless.count and self.ids != "row":
            notes.add(f"{self.name}: {nameless.count} rows are named after file and row: {nameless}")

    def _entry(self, row: Row, nameless: Counted) -> Entry:
        source = row.image("image", "uri") or row.image("source", "source_uri")
        target = row.image("target", "target_uri")
        if self.clean:
            source, target = None, source
        defect = row.values.get("defect", self.defect)
        if source and target and not defect:
            raise ConfigurationError(
                f"{self.flag} {row.location}: a source and a target without a defect; name it, or leave out one of them"
            )
        return Entry(
            self.id_prefix + self._image_id(row, nameless),
            source,
            target,
            self._mask(row, source),
            defect,
            row.values.get("product_type", self.product_type),
        )

    def _mask(self, row: Row, source: Locator | None) -> Locator | None:
        return row.image("mask", "mask_uri") if source else None

    def _image_id(self, row: Row, nameless: Counted) -> str:
        if self.ids == "auto" and "image_id" in row.values:
            return row.values["image_id"]
        paths = (row.path(column) for column in ("image", "source", "target"))
        path = next((path for path in paths if path), None) if self.ids != "row" else None
        if path is None:
            nameless.add(row.default_id)
        return path or row.default_id
