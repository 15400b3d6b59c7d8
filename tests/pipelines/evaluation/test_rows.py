from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines.contracts.label_map import LabelMap
from pipelines.evaluation.rows import (
    BATCH,
    COMPARED,
    COMPARED_SIDE,
    DECODED,
    SAMPLED,
    Input,
    decode_rows,
    read_rows,
    source,
    square,
)
from pipelines.evaluation.survey import take_survey
from pipelines.images.resize import resize_bicubic
from pipelines.shards.source import list_shards, open_source
from tests.catalogs import picture
from tests.hostile_images import encode
from tests.training_data import write_dataset

INPUTS = (Input(32, "stretch"), Input(32, "letterbox"), COMPARED)


def sampled(**columns: object) -> dict:
    return {
        "row": "a#0",
        "image_id": "a",
        "defect": "watermark",
        "split": "test",
        "paired": True,
        "shown": False,
        "source": encode(picture(1), "PNG"),
        "target": encode(picture(2), "PNG"),
        **columns,
    }


def test_only_sampled_rows_are_read_and_training_rows_bring_their_target_alone(tmp_path: Path) -> None:
    dataset = open_source([str(write_dataset(tmp_path / "set", photos=40))])
    units = list_shards(dataset.shards)
    survey = take_survey(units, 6, LabelMap.default())
    tables = [table for unit in units for table in read_rows(unit.table(), survey.sample(floor=True))]
    assert all(table.schema == SAMPLED and table.num_rows <= BATCH for table in tables)
    rows = [row for table in tables for row in table.to_pylist()]
    assert len({row["row"] for row in rows}) == len(rows) == survey.sampled_rows(floor=True) == 36
    assert all((row["source"] is None) == (row["split"] == "train") for row in rows)
    assert {row["shown"] for row in rows if row["split"] == "train"} == {False}


def test_images_are_squares_of_every_size_straight_from_the_stored_pixels() -> None:
    table = pa.Table.from_pylist([sampled(), sampled(row="a#1", target=None, paired=False)] * 10, SAMPLED)
    tables = list(decode_rows(table, INPUTS))
    assert all(one.schema == DECODED for one in tables)
    rows = [row for one in tables for row in one.to_pylist()]
    assert len(rows) == 20
    for wanted, size in zip(INPUTS, ((32, 32), (32, 23), (256, 256)), strict=True):
        np.testing.assert_array_equal(source(rows[0], INPUTS, wanted), resize_bicubic(picture(1), *size))
    np.testing.assert_array_equal(
        square(rows[0]["target"]), resize_bicubic(picture(2), COMPARED_SIDE, COMPARED_SIDE)
    )
    assert rows[1]["target"] is None
    assert (rows[0]["width"], rows[0]["height"]) == (60, 44)


def test_of_a_row_that_cannot_be_decoded_neither_image_counts() -> None:
    table = pa.Table.from_pylist([sampled(target=b"broken"), sampled()], SAMPLED)
    (decoded,) = decode_rows(table, (COMPARED,))
    broken, whole = decoded.to_pylist()
    assert (broken["problem"], broken["sources"], broken["target"]) == ("unknown_format", None, None)
    assert whole["problem"] is None
