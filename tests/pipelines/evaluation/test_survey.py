from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import ConfigurationError
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.sampling import sample_hash
from pipelines.contracts.schemas import SHARD
from pipelines.evaluation.survey import GRID_ROWS, Survey, grid_set, is_compared, take_survey
from pipelines.shards.source import list_shards

MAP = LabelMap.default()


def rows(
    count: int, split: str = "test", pairing: str = "paired", defect: str = "watermark"
) -> list[dict[str, Any]]:
    group = "background"
    return [
        {
            "image_id": f"{pairing}{index}",
            "split": split,
            "pairing": pairing,
            "defect": defect,
            "group": group,
        }
        for index in range(count)
    ]


def survey(folder: Path, records: list[dict[str, Any]], samples: int = 10, files: int = 1) -> Survey:
    step = -(-len(records) // files)
    paths = []
    for part in range(files):
        paths.append(str(folder / f"{part}.parquet"))
        table = pa.Table.from_pylist(records[part * step : (part + 1) * step], SHARD)
        pq.write_table(table, paths[-1], row_group_size=7)
    return take_survey(list_shards(paths), samples, MAP)


def test_the_sample_is_of_the_smallest_hashes_of_each_split_however_rows_are_stored(tmp_path: Path) -> None:
    records = [*rows(40), *rows(30, "train")]
    one = survey(tmp_path, records)
    many = survey(tmp_path, records[::-1], files=5)
    ids = [row["image_id"] for row in rows(40)]
    expected = set(sorted(ids, key=sample_hash)[:10])
    for total in (one, many):
        sample = total.sample(floor=True)
        compared = {row["image_id"] for row in rows(40) if is_compared(sample, row)}
        assert compared == expected
        assert sum(is_compared(sample, row) for row in rows(30, "train")) == 10
        assert not any(is_compared(sample, row) for row in rows(40, defect="wrong_angle"))
        assert not any(is_compared(sample, row) for row in rows(40, "validation"))
        assert (total.rows("test", "watermark"), total.rows("train", "watermark")) == (40, 30)
        assert (total.sampled_rows(floor=True), total.sampled_rows(floor=False)) == (20, 10)


def test_without_a_floor_no_training_row_is_read(tmp_path: Path) -> None:
    sample = survey(tmp_path, [*rows(4), *rows(4, "train")]).sample(floor=False)
    assert not any(is_compared(sample, row) for row in rows(4, "train"))


def test_pictures_show_pairs_where_there_are_any(tmp_path: Path) -> None:
    unpaired = rows(20, pairing="unpaired")
    both = survey(tmp_path, [*rows(20), *unpaired], samples=50).sample(floor=False)
    pictured = [row for row in rows(20) if both.has(grid_set("watermark", "paired"), row["image_id"])]
    assert len(pictured) == GRID_ROWS
    assert not any(both.has(grid_set("watermark", "unpaired"), row["image_id"]) for row in unpaired)
    alone = survey(tmp_path, unpaired).sample(floor=False)
    assert sum(alone.has(grid_set("watermark", "unpaired"), row["image_id"]) for row in unpaired) == GRID_ROWS


def test_data_without_a_test_split_or_with_a_foreign_defect_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"--data: no row has split 'test' \(9 rows in all\).*prepare more"
    ):
        survey(tmp_path, rows(9, "train"))
    with pytest.raises(ConfigurationError, match="--data: rows of 'dust', which its label map lacks"):
        survey(tmp_path, [*rows(3), *rows(1, defect="dust")])


def test_a_shard_without_a_column_is_named(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(rows(2), SHARD).drop_columns(["pairing"])
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(ConfigurationError, match=r"--data: .*x\.parquet lacks the columns pairing"):
        list_shards([str(tmp_path / "x.parquet")])
