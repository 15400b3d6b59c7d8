"""Inspects one unit of shards: decodes every image once, at a small size, and keeps 50 bytes per row."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.checking.hashes import DECODED_SIDE, NO_HASH, content_hash, perceptual_hash
from pipelines.checking.tally import ASPECTS, SIDES, Example, Tally, bin_of
from pipelines.contracts.hashing import hash_number
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.sampling import sample_hash
from pipelines.contracts.schemas import SHARD
from pipelines.contracts.splits import TEST, TRAIN
from pipelines.images.decode import DecodeLimits, ImageError, decode_with_size
from pipelines.storage.parquet_units import UNIT, Unit, read_unit

logger = logging.getLogger(__name__)

SIDE_NAMES = ("source", "target")
PAIRED, UNPAIRED = "paired", "unpaired"
#: Counted instead of an unknown split or pairing.
OTHER = "other"
#: Relative difference from which on two aspect ratios differ; rounding a side to whole pixels causes less.
ASPECT_TOLERANCE = 0.02

#: The input of a task: the number of a unit, and the unit.
WORK = pa.schema([("number", pa.int64()), ("unit", pa.struct(UNIT))])
#: The output of a task: counts as JSON, and the arrays of `Rows` as bytes.
INSPECTED = pa.schema(
    [
        ("number", pa.int64()),
        ("tally", pa.string()),
        *((name, pa.binary()) for name in ("ids", "keys", "splits", "looks", "contents")),
    ]
)

#: Values of `Rows.splits`.
IS_TRAIN, IS_TEST, IS_NEITHER = 0, 1, 2


@dataclass(frozen=True)
class Rows:
    """All rows of the shards in their order, with 50 bytes each.

    N rows; image 2 * i is row i's source, image 2 * i + 1 its target.

    ids, keys: (N,) uint64, hashes of image_id, and of image_id with defect. splits: (N,) uint8, IS_TRAIN, IS_TEST or
    IS_NEITHER. looks: (2N,) uint64, perceptual hashes or NO_HASH. contents: (2N,) uint64, hashes of bytes, 0 if there
    are none.
    """

    ids: NDArray[np.uint64]
    keys: NDArray[np.uint64]
    splits: NDArray[np.uint8]
    looks: NDArray[np.uint64]
    contents: NDArray[np.uint64]

    @staticmethod
    def concatenate(parts: "list[Rows]") -> "Rows":
        """Join parts, of which there must be at least one."""
        return Rows(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.keys for part in parts]),
            np.concatenate([part.splits for part in parts]),
            np.concatenate([part.looks for part in parts]),
            np.concatenate([part.contents for part in parts]),
        )


def work(number: int, unit: Unit) -> pa.Table:
    """Return a unit as one row of WORK."""
    return pa.Table.from_arrays(
        [pa.array([number], pa.int64()), unit.table().to_struct_array().combine_chunks()], schema=WORK
    )


def inspect_units(table: pa.Table, label_map: LabelMap) -> Iterator[pa.Table]:
    """Yield a table of INSPECTED for each row of WORK. Raises StorageReadError if a shard cannot be read."""
    units = Unit.from_table(pa.Table.from_struct_array(table["unit"]))
    for number, unit in zip(table["number"].to_pylist(), units, strict=True):
        tally, rows = _Inspection(number, unit, label_map).run()
        arrays = {name: getattr(rows, name).tobytes() for name in INSPECTED.names[2:]}
        yield pa.Table.from_pylist([{"number": number, "tally": tally.to_json(), **arrays}], INSPECTED)


def from_table(table: pa.Table) -> Iterator[tuple[int, Tally, Rows]]:
    """Yield (number of the unit, counts, rows) of each row of INSPECTED."""
    for row in table.to_pylist():
        yield (
            row["number"],
            Tally.from_json(row["tally"]),
            Rows(
                np.frombuffer(row["ids"], np.uint64),
                np.frombuffer(row["keys"], np.uint64),
                np.frombuffer(row["splits"], np.uint8),
                np.frombuffer(row["looks"], np.uint64),
                np.frombuffer(row["contents"], np.uint64),
            ),
        )


@dataclass(frozen=True)
class _Look:
    """A decoded image: its shrunk pixels, and its stored size."""

    pixels: NDArray[np.uint8]
    width: int
    height: int


#: Not masks and photos, which show the same as sources and targets.
_COLUMNS = [name for name in SHARD.names if name not in ("mask", "photo")]


class _Inspection:
    """The state of one unit's inspection."""

    def __init__(self, number: int, unit: Unit, label_map: LabelMap) -> None:
        self._number, self._unit, self._label_map = number, unit, label_map
        self._tally = Tally()

    def run(self) -> tuple[Tally, Rows]:
        """Inspect every row of the unit."""
        ids, keys, splits, looks, contents = [], [], [], [], []
        for first, table in read_unit(self._unit, _COLUMNS):
            for position, row in enumerate(table.to_pylist(), first):
                self._row(position, row)
                name, defect = row["image_id"] or "", row["defect"] or ""
                # Rows without an id never count as rows of the same id.
                parts = (name,) if name else ("", self._unit.uri, position)
                ids.append(hash_number("health", *parts) >> 192)
                keys.append(hash_number("health", *parts, defect) >> 192)
                splits.append({TRAIN: IS_TRAIN, TEST: IS_TEST}.get(row["split"], IS_NEITHER))
                for side in SIDE_NAMES:
                    contents.append(content_hash(row[side]) if row[side] is not None else 0)
                looks += self._images(position, row)
        rows = Rows(
            np.array(ids, np.uint64),
            np.array(keys, np.uint64),
            np.array(splits, np.uint8),
            np.array(looks, np.uint64),
            np.array(contents, np.uint64),
        )
        return self._tally, rows

    def _row(self, position: int, row: dict[str, Any]) -> None:
        """Count the row, and find what is wrong with its small columns."""
        defect, pairing, split = (str(row[name]) for name in ("defect", "pairing", "split"))
        product_type = row["product_type"] or "unknown"
        # All unknown values are counted under one key, so that arbitrary text cannot make the counts grow.
        kind = pairing if pairing in (PAIRED, UNPAIRED) else OTHER
        side = split if split in (TRAIN, TEST) else OTHER
        self._tally.counts["rows", side, defect, kind] += 1
        self._tally.counts["products", product_type, defect, side] += 1
        if row["image_id"]:
            inside = position - self._unit.first
            self._tally.sample(defect, [(sample_hash(row["image_id"]), inside)])
        else:
            self._find("no_image_id", position, row, "image_id is empty")
        known = self._label_map.defects.get(defect)
        if known is None:
            names = ", ".join(self._label_map.defects)
            self._find("unknown_defect", position, row, f"defect {defect!r}; the label map has {names}")
        elif row["group"] != known.group:
            text = f"group {row['group']!r}; the label map says {known.group!r}"
            self._find("wrong_group", position, row, text)
        if split not in (TRAIN, TEST):
            self._find("unknown_split", position, row, f"split {split!r}; no job reads the row")
        if pairing not in (PAIRED, UNPAIRED):
            self._find("unknown_pairing", position, row, f"pairing {pairing!r}")
        missing = [name for name in SIDE_NAMES if row[name] is None]
        # In the training split, training may make a pair's source itself.
        made = pairing == PAIRED and split == TRAIN and missing == ["source"]
        if len(missing) > (0 if pairing == PAIRED else 1) and not made:
            self._find("missing_image", position, row, f"no {' and no '.join(missing)}, pairing {pairing!r}")

    def _images(self, position: int, row: dict[str, Any]) -> list[int]:
        """Return the two perceptual hashes; count sizes, and compare the two images of a pair."""
        looks = [self._decode(position, row, side) for side in SIDE_NAMES]
        source, target = looks
        if source is not None and target is not None and row["pairing"] == PAIRED:
            self._compare(position, row, source, target)
        return [NO_HASH if look is None else perceptual_hash(look.pixels) for look in looks]

    def _decode(self, position: int, row: dict[str, Any], side: str) -> _Look | None:
        data = row[side]
        if data is None:
            return None
        self._tally.counts["images", side] += 1
        try:
            pixels, (width, height) = decode_with_size(data, DecodeLimits(), DECODED_SIDE)
        except ImageError as error:
            self._find("unreadable", position, row, f"{side}: {error.code}: {error.message}")
            self._tally.counts["unreadable", error.code] += 1
            return None
        self._tally.counts["size", side, str(bin_of(min(width, height), SIDES))] += 1
        self._tally.counts["aspect", side, str(bin_of(width / height, ASPECTS))] += 1
        return _Look(pixels, width, height)

    def _compare(self, position: int, row: dict[str, Any], source: _Look, target: _Look) -> None:
        sizes = f"source {source.width}x{source.height}, target {target.width}x{target.height}"
        if (source.width, source.height) != (target.width, target.height):
            self._find("different_size", position, row, sizes)
            ratio = source.width * target.height / (source.height * target.width)
            if max(ratio, 1 / ratio) > 1 + ASPECT_TOLERANCE:
                self._find("different_aspect", position, row, sizes)
        elif np.array_equal(source.pixels, target.pixels):
            self._find("identical_pair", position, row, "source and target show the same pixels")

    def _find(self, finding: str, position: int, row: dict[str, Any], text: str) -> None:
        names = (str(row["image_id"] or ""), str(row["defect"]))
        self._tally.find(finding, Example(self._number, position, self._unit.uri, *names, text))
