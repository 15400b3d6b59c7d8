"""Reads a few images of the shards a second time: their names, luminance to compare, or pictures to show."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.checking.hashes import luminance
from pipelines.checking.inspect_unit import SIDE_NAMES
from pipelines.checking.similarity import GREY_SIDE, similarity
from pipelines.contracts.schemas import SHARD
from pipelines.images.decode import ImageError, decode_image
from pipelines.images.encode import encode_image
from pipelines.storage.parquet_units import UNIT, Unit, read_unit

#: What to fetch: only the name, raw luminance (GREY_SIDE, GREY_SIDE), or a small JPEG.
NAME, GREY, PICTURE = "name", "grey", "picture"
#: Longer side of a picture, and its JPEG quality; it then has about 8 KB.
PICTURE_SIDE, _QUALITY = 240, 85

#: A unit, and the numbers of the images to fetch (see `inspect_unit.Rows`). first_row: number of its first row.
REQUEST = pa.schema(
    [
        ("unit", pa.struct(UNIT)),
        ("first_row", pa.int64()),
        ("images", pa.list_(pa.int64())),
        ("what", pa.string()),
    ]
)
FETCHED = pa.schema(
    [
        ("image", pa.int64()),
        ("shard", pa.string()),
        ("row", pa.int64()),
        ("image_id", pa.string()),
        ("defect", pa.string()),
        ("product_type", pa.string()),
        ("pixels", pa.binary()),
    ]
)
#: Pairs of luminances, and their similarities.
COMPARED = pa.schema([("pair", pa.int64()), ("test", pa.binary()), ("train", pa.binary())])
SIMILARITIES = pa.schema([("pair", pa.int64()), ("similarity", pa.float64())])


@dataclass(frozen=True)
class FetchedImage:
    """A fetched image. row: counted in its shard. pixels: as requested; None if there is no readable image."""

    image: int
    shard: str
    row: int
    image_id: str
    defect: str
    product_type: str | None
    pixels: bytes | None

    @property
    def side(self) -> str:
        """Side of the image: 'source' or 'target'."""
        return SIDE_NAMES[self.image % 2]


def requests(units: Sequence[Unit], starts: np.ndarray, images: Iterable[int], what: str) -> list[pa.Table]:
    """Return a table of REQUEST for each unit with some of `images`. starts: (units,), number of its first row."""
    wanted: dict[int, list[int]] = defaultdict(list)
    for image in sorted(set(images)):
        wanted[int(np.searchsorted(starts, image // 2, "right")) - 1].append(image)
    return [
        pa.Table.from_arrays(
            [
                units[number].table().to_struct_array().combine_chunks(),
                pa.array([int(starts[number])], pa.int64()),
                pa.array([chosen], pa.list_(pa.int64())),
                pa.array([what]),
            ],
            schema=REQUEST,
        )
        for number, chosen in sorted(wanted.items())
    ]


def look_again(table: pa.Table) -> Iterator[pa.Table]:
    """Yield a table of FETCHED for each row of REQUEST. Raises StorageReadError."""
    units = Unit.from_table(pa.Table.from_struct_array(table["unit"]))
    for unit, request in zip(units, table.drop_columns(["unit"]).to_pylist(), strict=True):
        wanted = defaultdict(list)
        for image in request["images"]:
            wanted[unit.first + image // 2 - request["first_row"]].append(image)
        images = [
            _fetched(image, unit.uri, position, row, request["what"])
            for position, row in _rows(unit, wanted, request["what"])
            for image in wanted[position]
        ]
        yield pa.Table.from_pylist(images, FETCHED)


def _rows(unit: Unit, wanted: Mapping[int, Any], what: str) -> Iterator[tuple[int, dict[str, Any]]]:
    columns = [name for name in SHARD.names if what != NAME or name not in SIDE_NAMES]
    last = max(wanted)
    for first, table in read_unit(unit, columns):
        for offset in range(table.num_rows):
            if first + offset in wanted:
                yield first + offset, table.slice(offset, 1).to_pylist()[0]
        if first + table.num_rows > last:
            return


def _fetched(image: int, shard: str, position: int, row: Mapping[str, Any], what: str) -> dict[str, Any]:
    return {
        "image": image,
        "shard": shard,
        "row": position,
        "image_id": row["image_id"] or "",
        "defect": row["defect"] or "",
        "product_type": row["product_type"],
        "pixels": None if what == NAME else _pixels(row[SIDE_NAMES[image % 2]], what),
    }


def _pixels(data: bytes | None, what: str) -> bytes | None:
    if data is None:
        return None
    try:
        if what == GREY:
            return luminance(decode_image(data, max_side=2 * GREY_SIDE), GREY_SIDE).tobytes()
        return encode_image(decode_image(data, max_side=PICTURE_SIDE), "jpeg", _QUALITY)
    except ImageError:  # the inspection has counted it
        return None


def from_table(table: pa.Table) -> Iterator[FetchedImage]:
    """Return the images of a table of FETCHED."""
    return (FetchedImage(**row) for row in table.to_pylist())


def compare(table: pa.Table) -> Iterator[pa.Table]:
    """Yield a table of SIMILARITIES for a table of COMPARED."""
    similarities = [
        {"pair": row["pair"], "similarity": similarity(_grey(row["test"]), _grey(row["train"]))}
        for row in table.to_pylist()
    ]
    yield pa.Table.from_pylist(similarities, SIMILARITIES)


def _grey(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8).reshape(GREY_SIDE, GREY_SIDE)
