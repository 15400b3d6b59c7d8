"""Problems of a dataset are reported before training starts, all at once, with counts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import ConfigurationError
from pipelines.contracts.schemas import SHARD
from pipelines.images.encode import encode_image
from pipelines.shards.index import (
    PAIRED,
    SOURCE,
    TARGET,
    TEST,
    VALIDATION,
    build_index,
    check_defects,
    rows_by_defect,
)
from pipelines.shards.source import open_source
from tests.training_data import write_dataset

Rows = list[dict]


def dataset(folder: Path, change: Callable[[Rows], Rows] = lambda rows: rows, row_group_size: int = 8) -> str:
    """Write the tiny dataset with `change` applied to the first shard's rows."""
    path = write_dataset(folder / "set") / "shards" / "part-0.parquet"
    rows = change(pq.read_table(path).to_pylist())
    pq.write_table(pa.Table.from_pylist(rows, SHARD), path, row_group_size=row_group_size)
    return str(folder / "set")


def index_of(uri: str):
    source = open_source([uri])
    return build_index(source.shards, source.label_map)


def test_the_index_has_task_split_and_images_of_every_row(tmp_path: Path) -> None:
    def change(rows: Rows) -> Rows:
        rows[0] = {**rows[0], "pairing": "unpaired", "source": None}  # a clean image only
        rows[1] = {**rows[1], "pairing": "unpaired"}  # two images that are not a pair
        return rows

    source = open_source([dataset(tmp_path, change)])
    index = build_index(source.shards, source.label_map)
    rows = [row for shard in source.shards for row in pq.read_table(shard).to_pylist()]
    assert len(index.types) == len(rows) == index.starts[-1]
    assert index.units.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0]]
    for row, type_, kind in zip(rows, index.types, index.kinds, strict=True):
        assert type_ == source.label_map.defects[row["defect"]].id
        assert bool(kind & SOURCE) == (row["source"] is not None)
        assert bool(kind & TARGET) == (row["target"] is not None)
        assert bool(kind & PAIRED) == (row["pairing"] == "paired")
        assert bool(kind & TEST) == (row["split"] == "test")
        assert bool(kind & VALIDATION) == (row["image_id"] in ("p12", "p13"))  # by their hashes
    counts = rows_by_defect(index, source.label_map)
    assert counts["wrong_angle"] == {"pairs": 10, "unpaired": 0, "validation": 2, "test": 4}


def test_shards_without_statistics_are_read_instead(tmp_path: Path) -> None:
    uri = dataset(tmp_path)
    path = Path(uri) / "shards" / "part-0.parquet"
    expected = index_of(uri)
    pq.write_table(pq.read_table(path), path, row_group_size=8, write_statistics=False)
    np.testing.assert_array_equal(index_of(uri).kinds, expected.kinds)


def test_a_pair_without_a_target_is_reported_beside_an_unpaired_row_with_one(tmp_path: Path) -> None:
    """There are as many nulls as unpaired rows, but in other rows."""

    def change(rows: Rows) -> Rows:
        rows[0] = {**rows[0], "target": None}
        rows[1] = {**rows[1], "pairing": "unpaired"}
        return rows

    with pytest.raises(ConfigurationError, match="1 rows lack an image"):
        index_of(dataset(tmp_path, change))


def test_a_row_group_of_sources_alone_has_no_targets(tmp_path: Path) -> None:
    def change(rows: Rows) -> Rows:
        return [
            {**row, "pairing": "unpaired", "target": None} if n < 8 else row for n, row in enumerate(rows)
        ]

    kinds = index_of(dataset(tmp_path, change)).kinds
    assert (kinds[:8] & (SOURCE | TARGET) == SOURCE).all()
    assert (kinds[8:16] & TARGET > 0).all()


def tiny(rows: Rows) -> Rows:
    return [{**rows[0], "source": encode_image(np.zeros((1, 1, 3), np.uint8), "png")}, *rows[1:]]


PROBLEMS: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "a pixel": (tiny, "1 sampled images cannot be used: too_small"),
    "no image": (lambda rows: [{**r, "target": None} for r in rows], r"\d+ rows lack an image"),
    "unknown defect": (
        lambda rows: [{**r, "defect": "scratch"} if r["defect"] == "watermark" else r for r in rows],
        "8 rows have the defect 'scratch', which the label map lacks",
    ),
    "other group": (
        lambda rows: [{**r, "group": "angle"} if r["defect"] == "watermark" else r for r in rows],
        "8 rows have another group than the label map gives",
    ),
    "odd pairing": (lambda rows: [{**r, "pairing": "maybe"} for r in rows], "24 rows have a pairing"),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_problem_is_named_with_its_count(problem: str, tmp_path: Path) -> None:
    change, complaint = PROBLEMS[problem]
    with pytest.raises(ConfigurationError, match=complaint):
        index_of(dataset(tmp_path, change))


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    uri = dataset(tmp_path, tiny)
    (Path(uri) / "shards" / "part-1.parquet").write_bytes(b"PAR1junk")
    (Path(uri) / "shards" / "part-2.parquet").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"2 shards cannot be read .*too_small"):
        index_of(uri)


def test_missing_columns_are_named(tmp_path: Path) -> None:
    uri = dataset(tmp_path)
    path = Path(uri) / "shards" / "part-0.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["split"]), path)
    with pytest.raises(ConfigurationError, match=r"1 shards lack columns .*part-0\.parquet: split"):
        index_of(uri)


def test_a_task_without_rows_is_an_error_unless_allowed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri = dataset(tmp_path, lambda rows: [row for row in rows if row["defect"] != "watermark"])
    part = Path(uri) / "shards" / "part-1.parquet"
    part.unlink()
    source = open_source([uri])
    index = build_index(source.shards, source.label_map)
    with pytest.raises(
        ConfigurationError, match=r"lacks 1 of the label map's 3 defects \(watermark: no training rows"
    ):
        check_defects(index, source.label_map, pairs=True, unpaired=True, allow_missing=False)
    check_defects(index, source.label_map, pairs=True, unpaired=True, allow_missing=True)
    assert "untrained defects: watermark" in caplog.text


def test_a_task_of_the_wrong_kind_of_rows_is_an_error(tmp_path: Path) -> None:
    def change(rows: Rows) -> Rows:
        return [{**row, "pairing": "unpaired", "target": None} for row in rows]

    uri = dataset(tmp_path, change)
    (Path(uri) / "shards" / "part-1.parquet").unlink()
    source = open_source([uri])
    index = build_index(source.shards, source.label_map)
    for unpaired in (True, False):
        with pytest.raises(ConfigurationError, match="nothing that this recipe learns from"):
            check_defects(index, source.label_map, pairs=True, unpaired=unpaired, allow_missing=True)
