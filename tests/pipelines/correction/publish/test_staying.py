from pathlib import Path

import pyarrow.parquet as pq

from pipelines.contracts.schemas import MANIFEST
from pipelines.correction.inspect.pending import PLAN
from pipelines.correction.publish.staying import find_staying, keep
from pipelines.correction.rows import REFRESHED, to_table
from pipelines.published.row_keys import KeySet, id_keys
from tests.manifests import key, manifest, staying


def test_rows_stay_or_get_new_values_or_go() -> None:
    rows = manifest("a", "b", "c", "d", input_version="v1", output_uri="/a.jpg")
    sorted_out = keep(rows, KeySet(id_keys(["d"])), staying(["a", "d"], "c"))
    kept = sorted_out.rows
    assert sorted_out.new.num_rows == 0  # only the version has changed, which is for the next run alone
    assert sorted_out.gone["image_id"].to_pylist() == ["b", "d"]
    assert [(one["image_id"], one["row_key"], one["input_version"]) for one in kept.to_pylist()] == [
        ("a", key("a"), "v1"),
        ("c", key("new c"), "v2"),
    ]
    assert kept["output_uri"].to_pylist() == ["/a.jpg", "/a.jpg"]


def test_new_values_come_from_all_parts(tmp_path: Path) -> None:
    plan = [{"row_key": key(name), "pending": name != "a"} for name in "abcd"]
    pq.write_table(to_table(plan, PLAN), tmp_path / "plan.parquet")
    parts = []
    for names in ("db", "c"):
        rows = [
            {
                "image_key": key(f"i{name}"),
                "row_key": key(f"new {name}"),
                "source_uri": None if name == "b" else f"s3://new/{name}",
                "product_type": {"b": "shirt", "c": "shoe"}.get(name),
                "input_version": "v2",
            }
            for name in names
        ]
        parts.append(str(tmp_path / f"{names}.parquet"))
        pq.write_table(to_table(rows, REFRESHED), parts[-1])
    old = manifest("a", "b", "c", "d", "e", source_uri="s3://old", product_type="bag", input_version="v1")
    sorted_out = keep(old, KeySet(), find_staying([str(tmp_path / "plan.parquet")], parts))
    kept = sorted_out.rows
    assert sorted_out.new["source_uri"].to_pylist() == [None, "s3://new/c", "s3://new/d"]
    assert sorted_out.gone["image_id"].to_pylist() == ["e", "b", "c", "d"]
    assert set(sorted_out.gone["source_uri"].to_pylist()) == {"s3://old"}
    assert kept.schema == MANIFEST
    names = ("image_id", "row_key", "source_uri", "product_type", "input_version")
    assert [tuple(one[name] for name in names) for one in kept.to_pylist()] == [
        ("a", key("a"), "s3://old", "bag", "v1"),
        ("b", key("new b"), None, "shirt", "v2"),
        ("c", key("new c"), "s3://new/c", "shoe", "v2"),
        ("d", key("new d"), "s3://new/d", None, "v2"),
    ]
    assert keep(old, KeySet(), find_staying([str(tmp_path / "plan.parquet")], [])).rows.num_rows == 1


def test_a_row_without_keys_goes() -> None:
    rows = to_table([{"image_id": "a", "status": "failed"}], MANIFEST)
    assert keep(rows, KeySet(), staying(["a"], "a")).rows.num_rows == 0
