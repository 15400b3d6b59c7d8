"""Prepares rows of shards for the networks: samples, decodes and resizes them. Plain functions over tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipelines.contracts.sampling import Sample
from pipelines.contracts.schemas import SHARD
from pipelines.contracts.splits import TEST
from pipelines.evaluation.survey import grid_set, is_compared
from pipelines.images.decode import ImageError, decode_image
from pipelines.images.fit import fit_inside, fitted_size
from pipelines.images.resize import resize_bicubic
from pipelines.storage.parquet_units import Unit, read_unit

#: Side at which images are compared, whatever the bundles' own sides: that of FID.
COMPARED_SIDE = 256
#: Rows per table; decoded, each has 0.4 MB, and more with bundles of other sizes than 256.
BATCH = 16

#: A sampled row. row: its unique name. shown: it is in its defect's picture. Training rows have no source.
SAMPLED = pa.schema(
    [
        ("row", pa.string()),
        ("image_id", pa.string()),
        ("defect", pa.string()),
        ("split", pa.string()),
        ("paired", pa.bool_()),
        ("shown", pa.bool_()),
        ("source", pa.binary()),
        ("target", pa.binary()),
    ]
)
#: The same with pixels, raw uint8 RGB. sources: one for every Input; target: as COMPARED. width, height: of the stored
#: image. problem: `ImageError.code`.
DECODED = pa.schema(
    [
        *(field for field in SAMPLED if field.name not in ("source", "target")),
        ("sources", pa.list_(pa.binary())),
        ("target", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("problem", pa.string()),
    ]
)


def read_rows(table: pa.Table, sample: Sample) -> Iterator[pa.Table]:
    """Yield tables of SAMPLED, at most BATCH rows each, for a table of `parquet_units.UNIT`."""
    batch: list[dict[str, Any]] = []
    for unit in Unit.from_table(table):
        for first, part in read_unit(unit, SHARD.names):
            for number, row in enumerate(part.to_pylist(), first):
                if is_compared(sample, row):
                    batch.append(_sampled(row, f"{unit.uri}#{number:09}", sample))
                if len(batch) == BATCH:
                    yield pa.Table.from_pylist(batch, SAMPLED)
                    batch = []
    if batch:
        yield pa.Table.from_pylist(batch, SAMPLED)


class Input(NamedTuple):
    """Form in which a bundle takes images: the side of its square in pixels, and how they are fitted to it
    (`pipelines.images.fit`).
    """

    side: int
    fit: str


#: Form in which images are compared: squares of COMPARED_SIDE; the aspect ratio is lost.
COMPARED = Input(COMPARED_SIDE, "stretch")


def decode_rows(table: pa.Table, inputs: Sequence[Input]) -> Iterator[pa.Table]:
    """Yield tables of DECODED for a table of SAMPLED, a row for each row, with the source in each form of `inputs`.

    Every form is made directly from the stored pixels.
    """
    for start in range(0, table.num_rows, BATCH):
        rows = table.slice(start, BATCH).to_pylist()
        yield pa.Table.from_pylist([_decoded(row, inputs) for row in rows], DECODED)


def square(pixels: bytes) -> np.ndarray:
    """Return the raw pixels of a square image as uint8 (side,side,3)."""
    side = round((len(pixels) / 3) ** 0.5)
    return np.frombuffer(pixels, np.uint8).reshape(side, side, 3)


def source(row: Mapping[str, Any], inputs: Sequence[Input], wanted: Input) -> np.ndarray:
    """Return a DECODED row's source in the form `wanted`, one of `inputs`: uint8 (h,w,3), not padded."""
    width, height = fitted_size(row["width"], row["height"], *wanted)
    return np.frombuffer(row["sources"][inputs.index(wanted)], np.uint8).reshape(height, width, 3).copy()


def _sampled(row: dict[str, Any], name: str, sample: Sample) -> dict[str, Any]:
    is_test = row["split"] == TEST
    return {
        "row": name,
        "image_id": row["image_id"],
        "defect": row["defect"],
        "split": row["split"],
        "paired": row["pairing"] == "paired",
        "shown": is_test and sample.has(grid_set(row["defect"], row["pairing"]), row["image_id"]),
        "source": row["source"] if is_test else None,
        "target": row["target"],
    }


def _decoded(row: dict[str, Any], inputs: Sequence[Input]) -> dict[str, Any]:
    decoded: dict[str, Any] = {name: row[name] for name in SAMPLED.names if name in DECODED.names}
    decoded |= {"sources": None, "target": None, "width": None, "height": None, "problem": None}
    try:
        if row["target"] is not None:
            image = decode_image(row["target"])
            decoded["height"], decoded["width"] = image.shape[:2]
            decoded["target"] = resize_bicubic(image, COMPARED_SIDE, COMPARED_SIDE).tobytes()
        if row["source"] is not None:
            image = decode_image(row["source"])
            decoded["height"], decoded["width"] = image.shape[:2]
            size = image.shape[1], image.shape[0]
            decoded["sources"] = [fit_inside(image, size, *wanted).tobytes() for wanted in inputs]
    except ImageError as error:  # neither image counts, so that all sets have the same photos
        decoded |= {"sources": None, "target": None, "problem": error.code}
    return decoded
