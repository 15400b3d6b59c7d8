"""What preparation passes on: an *entry* says what a reader found and where, a *record* has the bytes themselves.

Readers list entries, which are small, so that a plan over millions of images is a table; workers turn a run of entries
into records. Nothing here is decoded.
"""

from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

#: Halves of one picture that holds two (A|B), as pix2pix's datasets have them.
LEFT, RIGHT = "left", "right"


class Locator(NamedTuple):
    """Where an image's bytes are: a file of its own, or a cell of a parquet file."""

    uri: str
    row: int | None = None  # number of the row in the parquet file, from 0; None: the file is the image
    column: str | None = None  # binary, or struct with `bytes`
    part: str | None = None  # LEFT or RIGHT half; None: the whole picture
    version: str | None = None  # of a cell's file when its rows were numbered, see `storage.objects.version`


@dataclass(frozen=True)
class Entry:
    """One thing that a reader found.

    With `defect`: `source` shows it, `target` is without it; both are a pair, one alone is unpaired. Without: a photo
    (`source`, perhaps with `mask`) to be cleaned up, or a clean product image (`target`), from which defects are made.
    """

    image_id: str
    source: Locator | None = None
    target: Locator | None = None
    mask: Locator | None = None
    defect: str | None = None
    product_type: str | None = None
    split: str | None = (
        None  # 'train' or 'test' where the reader's dataset says so; None: by hash of image_id
    )


@dataclass(frozen=True)
class Record:
    """An entry with its encoded bytes.

    error: (code, message) of an image that could not be read; the record then has none. mask_error: the code where that
    holds of the mask alone: the photo serves without, whether its mask is absent or damaged.
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
