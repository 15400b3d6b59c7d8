"""The records that preparation passes between its steps: an *entry* names images, a *record* holds their bytes.

Readers list entries. These are small, so a plan over millions of images is a table. Workers read the bytes and turn
entries into records. Nothing is decoded here.
"""

from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

#: The halves of a picture that holds two images (A|B), as in pix2pix's datasets.
LEFT, RIGHT = "left", "right"


class Locator(NamedTuple):
    """The location of an image's bytes: a file of its own, or a cell of a parquet file."""

    uri: str
    row: int | None = None  # row number in the parquet file, from 0; None if the file is the image
    column: str | None = None  # binary, or a struct with `bytes`
    part: str | None = None  # LEFT or RIGHT half; None for the whole picture
    version: str | None = None  # of the parquet file when its rows were numbered, see `storage.version`


@dataclass(frozen=True)
class Entry:
    """One item that a reader lists.

    With a `defect`, `source` shows it and `target` does not; both together are a pair, one alone is unpaired. Without a
    `defect`, the entry is a photo to clean up (`source`, perhaps with `mask`) or a clean product image (`target`) from
    which defects are made.
    """

    image_id: str
    source: Locator | None = None
    target: Locator | None = None
    mask: Locator | None = None
    defect: str | None = None
    product_type: str | None = None
    split: str | None = None  # 'train' or 'test' if the dataset fixes it; None: by the hash of image_id


@dataclass(frozen=True)
class Record:
    """An entry with its encoded bytes.

    error: (code, message) if an image could not be read; the record then has no bytes. mask_error: the code if only the
    mask could not be read; the photo is then used without one.
    """

    entry: Entry
    source: bytes | None = None
    target: bytes | None = None
    mask: bytes | None = None
    error: tuple[str, str] | None = None
    mask_error: str | None = None


_LOCATOR = pa.struct(
    [
        ("uri", pa.string()),
        ("row", pa.int64()),
        ("column", pa.string()),
        ("part", pa.string()),
        ("version", pa.string()),
    ]
)

#: Entries as a table: the plan of a preparation.
ENTRIES = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        ("source", _LOCATOR),
        ("target", _LOCATOR),
        ("mask", _LOCATOR),
        ("defect", pa.string()),
        ("product_type", pa.string()),
        ("split", pa.string()),
    ]
)
