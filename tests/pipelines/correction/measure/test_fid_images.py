import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.correction.inspect.survey import CLEAN
from pipelines.correction.measure.fid_images import BATCH, SOURCE, read_source
from pipelines.correction.rows import SAMPLE, to_table
from pipelines.metrics.reference import Reference, read_reference


def images(rows: list[dict[str, Any]], reference: Reference) -> list[tuple[str, str, bytes]]:
    tables = read_source(pa.Table.from_pylist(rows, SOURCE), reference)
    return [(row["set"], row["image_id"], row["image"]) for table in tables for row in table.to_pylist()]


def test_samples_become_sets_before_and_after_and_the_clean_ones_the_reference(tmp_path: Path) -> None:
    rows = [
        {"image_id": "a", "route": "watermark", "before": b"1", "after": b"2"},
        {"image_id": "b", "route": CLEAN, "before": b"3"},
    ]
    pq.write_table(to_table(rows, SAMPLE), tmp_path / "part.parquet")
    sets = images([{"sample_part": str(tmp_path / "part.parquet")}], read_reference(None, ("watermark",), 5))
    assert sets == [
        ("before/watermark", "a", b"1"),
        ("after/watermark", "a", b"2"),
        ("reference/", "b", b"3"),
    ]


def test_reference_images_come_from_their_units(tmp_path: Path) -> None:
    columns = {"image_id": ["a", "b"], "image": [b"1", b"2"], "defect": [None, "watermark"]}
    pq.write_table(pa.table(columns), tmp_path / "r.parquet")
    reference = read_reference(str(tmp_path), ("watermark",), 5)
    rows = [{"reference_unit": json.dumps(vars(unit))} for unit in reference.units]
    assert images(rows, reference) == [("reference/", "a", b"1"), ("reference/watermark", "b", b"2")]


def test_many_images_come_in_small_tables(tmp_path: Path) -> None:
    ids = [f"{number}" for number in range(2 * BATCH + 1)]
    pq.write_table(pa.table({"image_id": ids, "image": [b"x"] * len(ids)}), tmp_path / "r.parquet")
    reference = read_reference(str(tmp_path), (), 1000)
    rows = [{"reference_unit": json.dumps(vars(unit))} for unit in reference.units]
    tables = list(read_source(pa.Table.from_pylist(rows, SOURCE), reference))
    assert [table.num_rows for table in tables] == [BATCH, BATCH, 1]
