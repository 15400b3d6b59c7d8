"""Readers of products' photos, which pair secondary photos with the main one: the secondary has an unwanted angle.

All photos of a product are on the same side of the split, because they show the same product.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, groupby
from typing import Any, NamedTuple

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.contracts.splits import split_of
from pipelines.preparation.entries import Entry, Locator
from pipelines.preparation.readers.base import Counted, NoRepeats, Notes
from pipelines.preparation.readers.table_files import Columns, Row, TableFile, open_tables, unfit
from pipelines.preparation.readers.walk import check_images, walk_images
from pipelines.storage.file_names import stem

TEXT = ("product_id", "image_id", "uri", "role", "position", "product_type")
IMAGES = ("image",)
WRONG_ANGLE = "wrong_angle"
#: The mark of a main photo: the value in column `role`, or a file's name without extension.
MAIN = "main"


class Photo(NamedTuple):
    """One photo of a product; `key` is unique within the product."""

    key: str
    locator: Locator | None
    is_main: bool
    product_type: str | None = None


@dataclass(frozen=True)
class ProductTable:
    """Tables with a row per photo: product_id, image or uri, and role or position. A product's rows are adjacent.

    The main photo is the one with role `main` or, without a column role, the one with the lowest position. A photo is
    identified by its image_id, else by its uri or the path in its image struct. One of them is required: a number
    within the product would change if a photo were inserted before it.
    """

    flag: str
    uri: str
    defect: str = WRONG_ANGLE
    product_type: str | None = None
    main: str = MAIN
    columns: Mapping[str, str] = field(default_factory=dict)
    id_prefix: str = ""

    @property
    def name(self) -> str:
        return f"{self.flag}: {self.uri}"

    @cached_property
    def _tables(self) -> list[TableFile]:
        columns = Columns(TEXT, IMAGES, self.columns, fractions=("position",))
        return open_tables(self.uri, columns, self.flag)

    def check(self) -> None:
        for table in self._tables:
            complaints = [
                f"no column {' or '.join(either)}"
                for either in (("product_id",), ("image", "uri"), ("role", "position"))
                if not table.present(either)
            ]
            if not table.present(("image_id", "uri")) and not table.structs:
                complaints.append("no column image_id to identify the photos, whose bytes are in the table")
            if complaints:
                raise unfit(table, complaints)

    def describe(self) -> dict[str, Any]:
        counts = [table.row_count for table in self._tables]
        rows = {} if None in counts else {"rows": sum(count or 0 for count in counts)}
        return {
            "reader": "products",
            "uri": self.uri,
            "files": len(self._tables),
            **rows,
            "defect": self.defect,
        }

    def entries(self, notes: Notes) -> Iterator[Entry]:
        rows = chain.from_iterable(table.rows() for table in self._tables)
        return pair_up(self._products(rows, notes), self, notes)

    def _products(self, rows: Iterable[Row], notes: Notes) -> Iterator[tuple[str, list[Photo]]]:
        repeats = NoRepeats(
            lambda product_id: ConfigurationError(
                f"{self.name}: rows of product {product_id!r} are not together; sort the table by product_id"
            )
        )
        without = Counted()
        for product_id, group in groupby(rows, key=lambda row: row.values.get("product_id")):
            if product_id is None:
                for row in group:
                    without.add(row.location)
                continue
            repeats.add(product_id, product_id)
            yield product_id, self._photos(list(group))
        repeats.finish()
        if without.count:
            notes.add(f"{self.name}: {without.count} rows without product_id are left out: {without}")

    def _photos(self, rows: list[Row]) -> list[Photo]:
        rows.sort(key=self._position)  # stable: rows of the same position stay in order
        by_role = bool(rows[0].table.present(("role",)))
        return [
            Photo(
                self._key(row),
                row.image("image", "uri"),
                self._is_main(row) if by_role else number == 0,
                row.values.get("product_type"),
            )
            for number, row in enumerate(rows)
        ]

    def _key(self, row: Row) -> str:
        key = row.values.get("image_id") or row.values.get("uri") or row.path("image")
        if key is None:
            raise ConfigurationError(
                f"{self.flag} {row.location}: no image_id, and no uri or path to identify the photo by; give each "
                "photo an image_id that is unique within its product"
            )
        return key

    def _is_main(self, row: Row) -> bool:
        return row.values.get("role", "").strip().casefold() == self.main.casefold()

    def _position(self, row: Row) -> float:
        text = row.values.get("position")
        try:
            return float("inf") if text is None else float(text)
        except ValueError as error:
            raise ConfigurationError(
                f"{self.flag} {row.location}: position {text!r} is not a number"
            ) from error


@dataclass(frozen=True)
class ProductFolders:
    """A folder per product. The main photo is the file named `main`, else the first (2.jpg before 10.jpg)."""

    flag: str
    root: str
    defect: str = WRONG_ANGLE
    product_type: str | None = None
    main: str = MAIN
    id_prefix: str = ""

    @property
    def name(self) -> str:
        return f"{self.flag}: {self.root}"

    def check(self) -> None:
        check_images(self.root, self.flag)

    def describe(self) -> dict[str, Any]:
        return {"reader": "products", "folder": self.root, "defect": self.defect}

    def entries(self, notes: Notes) -> Iterator[Entry]:
        return pair_up(self._products(notes), self, notes)

    def _products(self, notes: Notes) -> Iterator[tuple[str, list[Photo]]]:
        root = storage.absolute(self.root)
        for folder in walk_images(self.root, self.flag, notes):
            if not folder.parts:
                notes.add(
                    f"{self.name}: {len(folder.files)} images belong to no product's folder and are left out"
                )
                continue
            names = sorted(folder.files, key=_natural)
            main = next((name for name in names if stem(name).casefold() == self.main.casefold()), names[0])
            yield (
                "/".join(folder.parts),
                [Photo(name, Locator(storage.join(root, folder.key(name))), name == main) for name in names],
            )


def pair_up(
    products: Iterable[tuple[str, list[Photo]]], settings: ProductTable | ProductFolders, notes: Notes
) -> Iterator[Entry]:
    """Yield a pair of each secondary photo with its product's main one. Alone, either is an unpaired image of its side.

    Ids are PRODUCT/PHOTO. Raises ConfigurationError if there is no pair at all.
    """
    alone, more, pairs = Counted(), Counted(), 0
    for product_id, photos in products:
        mains = [photo for photo in photos if photo.is_main]
        others = [photo for photo in photos if not photo.is_main]
        for photo in mains[1:]:  # a second main photo is neither defective nor the target
            more.add(f"{product_id}/{photo.key}")
        if not (mains and others):
            alone.add(product_id)
        pairs += len(others) if mains else 0
        for photo in others or mains[:1]:
            yield Entry(
                f"{settings.id_prefix}{product_id}/{photo.key}",
                source=None if photo.is_main else photo.locator,
                target=mains[0].locator if mains else None,
                defect=settings.defect,
                product_type=photo.product_type or settings.product_type,
                split=split_of(product_id),
            )
    if more.count:
        notes.add(f"{settings.name}: {more.count} further main photos are left out: {more}")
    if not pairs:
        raise ConfigurationError(
            f"{settings.name}: no product has both a main photo ({settings.main!r}, or the lowest position) and "
            "another one; check the column role, `main:` in the file of --sources, or use reader: unpaired"
        )
    if alone.count:
        notes.add(
            f"{settings.name}: {alone.count} products without both kinds of photos are unpaired: {alone}"
        )


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that orders numbers in names by their value."""
    return [
        (int(part), "") if part.isdecimal() and part.isascii() else (-1, part)
        for part in re.split(r"([0-9]+)", name.casefold())
    ]
