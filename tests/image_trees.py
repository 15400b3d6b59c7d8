"""Writes small trees of images for the tests of readers: drawn pictures, or arbitrary bytes to be read unchanged."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from pipelines import storage
from pipelines.preparation.entries import Entry, Record
from pipelines.preparation.readers.base import Notes, Reader
from pipelines.preparation.unit.resolve import records
from tests.hostile_images import encode

#: Names as teams give them: with blanks, dots, characters that are special in URIs and patterns, and other scripts.
NAMES = st.text("ab1 .-#%?&+[]*~'é鞋", min_size=1, max_size=6).filter(
    lambda name: not name.startswith((".", "_", "~")) and name.strip() == name
)
SUFFIXES = st.sampled_from([".jpg", ".JPEG", ".png", ".webp"])


@st.composite
def trees(draw: st.DrawFn, max_size: int = 6) -> dict[str, bytes]:
    """Draw paths of images, of up to three names, with their contents; no name is both a file and a folder."""
    stems = draw(st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=max_size, unique_by=tuple))
    return {
        "/".join([*(f"{folder}_" for folder in folders), name + draw(SUFFIXES)]): draw(st.binary(max_size=20))
        for *folders, name in stems
    }


def write_tree(root: str | Path, files: Mapping[str, bytes]) -> str:
    """Write files below `root`, a folder or a URI, and return it; a folder is created even for no files."""
    if "://" not in str(root):
        Path(root).mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        storage.write_bytes(f"{root}/{path}", data)
    return str(root)


def read(reader: Reader) -> tuple[dict[str, Record], list[str]]:
    """Return all of a reader's records by id, and its notes; ids must be unique."""
    reader.check()
    notes = Notes()
    all_records = list(records(reader.entries(notes)))
    assert len({record.entry.image_id for record in all_records}) == len(all_records)
    return {record.entry.image_id: record for record in all_records}, notes.all()


def listed(reader: Reader) -> list[Entry]:
    """Check the reader, and return its entries."""
    reader.check()
    return list(reader.entries(Notes()))


def two_sided(seed: int, side: int = 16, format: str = "JPEG") -> tuple[bytes, np.ndarray, np.ndarray]:
    """Draw a picture with reddish A on the left and bluish B on the right, by seed; return it and both halves."""
    level = np.random.default_rng(seed).integers(0, 80, (2, side, side, 1))
    a = np.concatenate([255 - level[0], level[0], level[0]], axis=-1).astype(np.uint8)
    b = np.concatenate([level[1], level[1], 255 - level[1]], axis=-1).astype(np.uint8)
    return encode(np.concatenate([a, b], axis=1), format), a, b


def is_reddish(pixels: np.ndarray) -> bool:
    """Return True for A of `two_sided`, False for B."""
    return float(pixels[..., 0].mean()) > float(pixels[..., 2].mean())


def by_split(entries: Iterable[Entry]) -> dict[str | None, int]:
    """Count the entries of each side."""
    counts: dict[str | None, int] = {}
    for entry in entries:
        counts[entry.split] = counts.get(entry.split, 0) + 1
    return counts
