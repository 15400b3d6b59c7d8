"""Readers of the public datasets in their official layouts, with a new split.

The official splits are pooled, and repeated files are dropped by the hash of their content. In each domain the first
80% by hash are for training; domains that are not paired are split separately. Photos that two datasets share are on
the same side in both.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.cluster.ahead import map_ahead
from pipelines.contracts.splits import TEST, TEST_SHARE, TRAIN
from pipelines.images.decode import ImageError
from pipelines.images.uploads import read_image
from pipelines.preparation.entries import LEFT, RIGHT, Entry, Locator
from pipelines.preparation.readers.base import Counted, Notes
from pipelines.preparation.readers.public_facts import PublicDataset
from pipelines.preparation.readers.walk import check_folder
from pipelines.storage.file_names import is_image, stem
from pipelines.storage.walk import walk

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublicReader:
    """One or several public datasets below `root`, in folders of their names; a single one may be in `root` itself.

    Ids are paths without extension, such as `facades/train/12`. Every file is read once while listing, to hash its
    content. An id and a hash of each are in memory, some 300 bytes.
    """

    flag: str
    root: str
    datasets: tuple[PublicDataset, ...]

    @property
    def name(self) -> str:
        return f"{self.flag}: {', '.join(dataset.name for dataset in self.datasets)} at {self.root}"

    def check(self) -> None:
        check_folder(self.root, self.flag)
        for dataset in self.datasets:
            counts = self._counts[dataset.name]
            for domain in _domains(dataset):
                if not any(counts.get(folder) for folder in domain):
                    raise ConfigurationError(
                        f"{self.flag}: {dataset.name}: no images in {' or '.join(domain)} of {self._home(dataset)}; "
                        f"the official layout is {dataset.name}/{{{','.join(dataset.reported)}}}/*.jpg"
                        + (", each with A on the left and B on the right" if dataset.is_paired else "")
                    )

    def describe(self) -> dict[str, Any]:
        return {"reader": "public", "root": self.root, "images": self._counts}

    def entries(self, notes: Notes) -> Iterator[Entry]:
        sides: dict[bytes, str] = {}
        for dataset in self.datasets:
            self._compare_counts(dataset, notes)
            notes.add(
                f"{self.flag}: {dataset.name}: the official folders are pooled, and one image in five is held back by "
                "hash of its content (as the paper does): figures on the official test folder do not compare"
            )
            for number, folders in enumerate(_domains(dataset)):
                contents = self._contents(dataset, folders, notes)
                assign_sides(contents, sides)
                for digest in sorted(contents):
                    image_id, uri = contents[digest]
                    yield _entry(dataset, number, image_id, uri, sides[digest])

    def _home(self, dataset: PublicDataset) -> str:
        """Return the dataset's folder."""
        home = storage.join(storage.absolute(self.root), dataset.name)
        fs, path = storage.resolve(home)
        with storage.as_configuration_error(home, self.flag, "read"):
            return home if len(self.datasets) > 1 or fs.isdir(path) else storage.absolute(self.root)

    def _files(self, dataset: PublicDataset, folder: str) -> list[str]:
        """Return the names of the images in an official folder, sorted; empty if there is no such folder."""
        uri = storage.join(self._home(dataset), folder)
        fs, path = storage.resolve(uri)
        if not fs.isdir(path):
            return []
        top = next(walk(uri, self.flag))
        return [name for name in top.files if is_image(name)]

    @cached_property
    def _counts(self) -> dict[str, dict[str, int]]:
        """Return images by dataset and official folder; an absent folder is listed if images are reported for it."""
        counts: dict[str, dict[str, int]] = {}
        for dataset in self.datasets:
            files = {folder: len(self._files(dataset, folder)) for folder in dataset.folders}
            counts[dataset.name] = {
                folder: count for folder, count in files.items() if count or folder in dataset.reported
            }
        return counts

    def _compare_counts(self, dataset: PublicDataset, notes: Notes) -> None:
        for folder, count in self._counts[dataset.name].items():
            reported = dataset.reported.get(folder, 0)
            if count != reported:
                notes.add(
                    f"{self.flag}: {dataset.name}/{folder} has {count} images; {reported} are commonly reported"
                )

    def _contents(
        self, dataset: PublicDataset, folders: Iterable[str], notes: Notes
    ) -> dict[bytes, tuple[str, str]]:
        """Return {hash of content: (id, URI)} of the pictures in `folders`; of equal pictures the first id."""
        home = self._home(dataset)
        files = sorted(
            (f"{dataset.name}/{folder}/{stem(name)}", storage.join(home, folder, name))
            for folder in folders
            for name in self._files(dataset, folder)
        )
        logger.info("reading %d files of %s to compare their contents", len(files), dataset.name)
        contents: dict[bytes, tuple[str, str]] = {}
        repeated = Counted()
        for file, digest in map_ahead(_digest, files):
            if contents.setdefault(digest, file) != file:
                repeated.add(f"{file[0]} (as {contents[digest][0]})")
        if repeated.count:
            notes.add(
                f"{self.flag}: {repeated.count} files repeat another's content and are dropped: {repeated}"
            )
        return contents


def assign_sides(digests: Iterable[bytes], sides: dict[bytes, str]) -> None:
    """Assign each content a side in `sides`: the first 80% by hash train. A content that has a side keeps it."""
    ordered = sorted(digests)
    # At least one is for tests, unless it is the only one.
    n_test = max(round(TEST_SHARE * len(ordered)), min(1, len(ordered) - 1))
    for rank, digest in enumerate(ordered):
        sides.setdefault(digest, TRAIN if rank < len(ordered) - n_test else TEST)


def _digest(file: tuple[str, str]) -> bytes:
    """Return the SHA-256 of a file's content, or of its id if it cannot be read (its record reports that later)."""
    image_id, uri = file
    try:
        return hashlib.sha256(read_image(uri)).digest()
    except ImageError:
        return hashlib.sha256(f"unreadable\0{image_id}".encode()).digest()


def _domains(dataset: PublicDataset) -> tuple[tuple[str, ...], ...]:
    """Return the folders whose images are split together: all of a paired dataset, else those of A and those of B."""
    if dataset.is_paired:
        return (dataset.folders,)
    return tuple(tuple(name for name in dataset.folders if name.endswith(side)) for side in "AB")


def _entry(dataset: PublicDataset, domain: int, image_id: str, uri: str, split: str) -> Entry:
    """Return the entry with A as source and B as target, or the reverse if the task runs from B to A."""
    a: Locator | None = None
    b: Locator | None = None
    if dataset.is_paired:
        a, b = Locator(uri, part=LEFT), Locator(uri, part=RIGHT)
    elif domain == 0:
        a = Locator(uri)
    else:
        b = Locator(uri)
    source, target = (b, a) if dataset.is_reversed else (a, b)
    return Entry(image_id, source, target, defect=dataset.name, split=split)
