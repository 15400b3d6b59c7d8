"""Readers of image folders: pairs in two trees, two unpaired trees, and plain folders.

Ids are paths below the root, so they stay the same if the root moves.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.preparation.entries import Entry, Locator
from pipelines.preparation.readers.base import Counted, Notes
from pipelines.preparation.readers.walk import check_images, walk_images
from pipelines.storage.file_names import stem
from pipelines.storage.walk import Folder

Unmatched = Literal["unpaired", "error"]


@dataclass(frozen=True)
class ImageFolder:
    """Photos to clean up, or (clean) product images without a defect, from which defects are made.

    An image's id is its path below `root`, extension included.
    """

    flag: str
    root: str
    clean: bool = False
    product_type: str | None = None
    id_prefix: str = ""  # set it if two sources have files of the same names

    @property
    def name(self) -> str:
        return f"{self.flag}: {self.root}"

    def check(self) -> None:
        check_images(self.root, self.flag)

    def describe(self) -> dict[str, Any]:
        return {"reader": "clean" if self.clean else "photos", "folder": self.root}

    def entries(self, notes: Notes) -> Iterator[Entry]:
        root = storage.absolute(self.root)
        for folder in walk_images(self.root, self.flag, notes):
            for name in folder.files:
                locator = Locator(storage.join(root, folder.key(name)))
                image_id = self.id_prefix + folder.key(name)
                if self.clean:
                    yield Entry(image_id, target=locator, product_type=self.product_type)
                else:
                    yield Entry(image_id, source=locator, product_type=self.product_type)


@dataclass(frozen=True)
class PairedFolders:
    """Images with a defect in one tree and the same images without it in another, matched by path without extension.

    The path is the pair's id. An image without a partner is noted, and is then unpaired or an error.
    """

    flag: str
    source: str
    target: str
    defect: str
    product_type: str | None = None
    unmatched: Unmatched = "unpaired"  # 'error' if a missing partner means that a copy went wrong
    id_prefix: str = ""

    @property
    def name(self) -> str:
        return f"{self.flag}: {self.source} with {self.target}"

    def check(self) -> None:
        check_images(self.source, self.flag)
        check_images(self.target, self.flag)
        if storage.absolute(self.source).rstrip("/") == storage.absolute(self.target).rstrip("/"):
            raise ConfigurationError(f"{self.flag}: source and target are the same folder, {self.source}")

    def describe(self) -> dict[str, Any]:
        folders = {"source": self.source, "target": self.target, "defect": self.defect}
        return {"reader": "paired", **folders, "unmatched": self.unmatched}

    def entries(self, notes: Notes) -> Iterator[Entry]:
        alone = Counted()
        roots = [storage.absolute(root) for root in self._roots]
        pairs = 0
        for parts, sources, targets in self._folders(notes):
            for key in sorted(sources.keys() | targets.keys()):
                path = "/".join((*parts, key))
                source = _locator(roots[0], parts, sources.get(key))
                target = _locator(roots[1], parts, targets.get(key))
                if source and target:
                    pairs += 1
                else:
                    alone.add(f"{'source' if source else 'target'}/{path}")
                    self._check_alone(alone)
                image_id = self.id_prefix + path
                yield Entry(image_id, source, target, defect=self.defect, product_type=self.product_type)
        if not pairs:
            raise ConfigurationError(
                f"{self.name}: no two files match by their paths without extension (one is {alone}); give both files "
                "of a pair the same name, or use reader: unpaired"
            )
        if alone.count:
            notes.add(f"{self.name}: {alone.count} images without a partner are unpaired: {alone}")

    def _folders(self, notes: Notes) -> Iterator[tuple[tuple[str, ...], dict[str, str], dict[str, str]]]:
        """Yield each folder's files on either side, by name without extension."""
        trees = [self._tree(side, notes) for side in (0, 1)]
        in_order = heapq.merge(*trees, key=lambda item: (item[1].parts, item[0]))
        for parts, group in groupby(in_order, key=lambda item: item[1].parts):
            names: list[dict[str, str]] = [{}, {}]
            for side, folder in group:
                names[side] = self._by_stem(folder, self._roots[side])
            yield parts, names[0], names[1]

    @property
    def _roots(self) -> tuple[str, str]:
        return self.source, self.target

    def _tree(self, side: int, notes: Notes) -> Iterator[tuple[int, Folder]]:
        for folder in walk_images(self._roots[side], self.flag, notes):
            yield side, folder

    def _by_stem(self, folder: Folder, root: str) -> dict[str, str]:
        names: dict[str, str] = {}
        for name in folder.files:
            if (other := names.setdefault(stem(name), name)) != name:
                raise ConfigurationError(
                    f"{self.flag}: {folder.key(other)} and {folder.key(name)} in {root} differ by extension only, so "
                    "it is not clear which one is paired; rename one"
                )
        return names

    def _check_alone(self, alone: Counted) -> None:
        if self.unmatched == "error":
            raise ConfigurationError(
                f"{self.name}: {alone} has no partner with the same path without extension; add it, or allow it with "
                "unmatched: unpaired"
            )


def _locator(root: str, parts: tuple[str, ...], name: str | None) -> Locator | None:
    return None if name is None else Locator(storage.join(root, *parts, name))


@dataclass(frozen=True)
class UnpairedFolders:
    """Images with a defect in one tree and others without it in another; one of the trees may be absent.

    Ids are `source/PATH` and `target/PATH`, extension included: equal names mean nothing here.
    """

    flag: str
    source: str | None
    target: str | None
    defect: str
    product_type: str | None = None
    id_prefix: str = ""

    @property
    def name(self) -> str:
        return f"{self.flag}: {' and '.join(root for _, root in self._sides())}"

    def _sides(self) -> list[tuple[str, str]]:
        return [(side, root) for side, root in (("source", self.source), ("target", self.target)) if root]

    def check(self) -> None:
        if not self._sides():
            raise ConfigurationError(f"{self.flag}: name a folder as source, target, or both")
        for _, root in self._sides():
            check_images(root, self.flag)

    def describe(self) -> dict[str, Any]:
        return {"reader": "unpaired", **dict(self._sides()), "defect": self.defect}

    def entries(self, notes: Notes) -> Iterator[Entry]:
        for side, root in self._sides():
            absolute = storage.absolute(root)
            for folder in walk_images(root, self.flag, notes):
                for name in folder.files:
                    locator = Locator(storage.join(absolute, folder.key(name)))
                    yield Entry(
                        f"{self.id_prefix}{side}/{folder.key(name)}",
                        source=locator if side == "source" else None,
                        target=locator if side == "target" else None,
                        defect=self.defect,
                        product_type=self.product_type,
                    )
