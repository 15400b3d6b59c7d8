from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import ConfigurationError
from pipelines.contracts.schemas import CATALOG
from pipelines.correction.catalog import (
    IMAGE_ROW,
    check_catalog,
    count_unlabelled,
    list_catalog,
    read_label_rows,
    read_rows,
    read_small_rows,
    read_unlabelled,
)

LABEL = pa.struct([("label", pa.string()), ("score", pa.float64())])


def read(tmp_path: Path, table: pa.Table) -> list[dict[str, Any]]:
    pq.write_table(table, tmp_path / "catalog.parquet")
    tables = [part for unit in list_catalog([str(tmp_path)]).units for part in read_rows(unit)]
    assert all(part.schema == IMAGE_ROW for part in tables)
    return [row for part in tables for row in part.to_pylist()]


def test_image_bytes_and_labels(tmp_path: Path) -> None:
    labels = [[{"label": "watermark", "score": 0.5}], None, []]
    table = pa.table(
        {
            "image_id": ["a", "b", "c"],
            "image": [b"1", b"2\0", None],
            "labels": pa.array(labels, pa.list_(LABEL)),
            "product_type": ["mug", None, "shoe"],
            "colour": ["red", "red", "blue"],
        }
    )
    first, second, third = read(tmp_path, table)
    assert first == {
        "image_id": "a",
        "image": b"1",
        "source_uri": None,
        "labels": [{"label": "watermark", "score": 0.5}],
        "product_type": "mug",
    }
    assert (second["image"], second["labels"], second["product_type"]) == (b"2\0", [], None)
    assert (third["image"], third["labels"]) == (None, [])


def test_image_structs_uris_and_a_plain_label(tmp_path: Path) -> None:
    image = pa.array(
        [{"bytes": b"1", "path": "p1"}, {"bytes": None, "path": "p2"}, None],
        pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string())]),
    )
    table = pa.table(
        {
            "image_id": pa.array(["a", "b", "c"], pa.large_string()),
            "image": image,
            "uri": [None, None, "s3://x/c.jpg"],
            "label": pa.array(["watermark", None, "clean"]).dictionary_encode(),
        }
    )
    rows = [(row["image"], row["source_uri"], row["labels"]) for row in read(tmp_path, table)]
    assert rows == [
        (b"1", "p1", [{"label": "watermark", "score": None}]),
        (None, "p2", []),
        (None, "s3://x/c.jpg", [{"label": "clean", "score": None}]),
    ]


def test_labels_are_read_without_images(tmp_path: Path) -> None:
    labels = [[{"label": "watermark", "score": None}, None, {"label": None, "score": 1.0}]]
    columns = {
        "image_id": ["a"],
        "uri": ["x"],
        "labels": pa.array(labels, pa.list_(LABEL)),
        "product_type": ["mug"],
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    (unit,) = list_catalog([str(tmp_path)]).units
    assert list(read_label_rows(unit)) == [("a", [("watermark", None)], "mug")]


def test_the_projects_own_schema_is_accepted() -> None:
    check_catalog(CATALOG, "x")


def test_scores_may_be_whole_numbers(tmp_path: Path) -> None:
    labels = pa.array(
        [[{"label": "watermark", "score": 1}]],
        pa.list_(pa.struct([("label", pa.string()), ("score", pa.int8())])),
    )
    table = pa.table({"image_id": ["a"], "uri": ["x"], "labels": labels})
    assert read(tmp_path, table)[0]["labels"] == [{"label": "watermark", "score": 1.0}]


def test_columns_that_are_null_throughout_are_accepted(tmp_path: Path) -> None:
    table = pa.table(
        {"image_id": ["a"], "image": pa.nulls(1), "labels": pa.nulls(1), "product_type": pa.nulls(1)}
    )
    assert read(tmp_path, table)[0]["labels"] == []


def test_all_complaints_come_at_once_with_file_and_column() -> None:
    schema = pa.schema(
        [("image_id", pa.int64()), ("picture", pa.binary()), ("labels", pa.list_(pa.string()))]
    )
    with pytest.raises(ConfigurationError) as caught:
        check_catalog(schema, "s3://shop/a.parquet")
    text = str(caught.value)
    assert text.startswith("--catalog s3://shop/a.parquet: ")
    assert "column 'image_id' is int64, not string" in text
    assert "column 'labels' is list<" in text
    assert "neither 'image' (encoded bytes) nor 'uri'" in text


def test_missing_id_and_labels_are_named() -> None:
    with pytest.raises(
        ConfigurationError, match=r"'image_id' \(string\) is missing.*neither 'labels'.*nor 'label'"
    ):
        check_catalog(pa.schema([("uri", pa.string())]), "x")


def write(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def test_columns_in_the_path_are_columns(tmp_path: Path) -> None:
    """Hive's folders count as columns in every way to read a catalog."""
    catalog = tmp_path / "catalog"
    for kind, name in (("running%20shoe", "a"), ("__HIVE_DEFAULT_PARTITION__", "b")):
        path = catalog / "dt=2026-11-01" / f"product_type={kind}"
        write(path / "label=watermark" / "0.parquet", image_id=[name], uri=["x"])
        write(path / "label=__HIVE_DEFAULT_PARTITION__" / "0.parquet", image_id=[f"{name}0"], uri=["x"])
    units = list_catalog([str(catalog)]).units
    expected = {
        "a": ([("watermark", None)], "running shoe", False),
        "a0": ([], "running shoe", True),
        "b": ([("watermark", None)], None, False),
        "b0": ([], None, True),
    }
    small = {row.image_id: row[1:4] for unit in units for row in read_small_rows(unit)}
    assert small == expected
    labelled = {name: (labels, kind) for unit in units for name, labels, kind in read_label_rows(unit)}
    assert labelled == {name: one[:2] for name, one in expected.items()}
    rows = {row["image_id"]: row for unit in units for table in read_rows(unit) for row in table.to_pylist()}
    assert {name: row["product_type"] for name, row in rows.items()} == {
        n: one[1] for n, one in expected.items()
    }
    assert rows["a"]["labels"] == [{"label": "watermark", "score": None}]
    bare = {
        row.image_id: row.unlabelled for unit in units for every in read_unlabelled(unit) for row in every
    }
    assert bare == {name: one[2] for name, one in expected.items()}
    assert count_unlabelled(units) == 2
    # A file or folder of it, given alone, has the same columns.
    part = catalog / "dt=2026-11-01" / "product_type=running%20shoe"
    for uri in (part, part / "label=watermark", part / "label=watermark" / "0.parquet"):
        rows = [row for unit in list_catalog([str(uri)]).units for row in read_label_rows(unit)]
        assert ("a", [("watermark", None)], "running shoe") in rows


def test_a_column_in_path_and_file_must_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "product_type=shirt" / "a.parquet"
    columns = {"image_id": ["a", "b"], "uri": ["x", "y"], "label": ["clean", "clean"]}
    write(path, **columns, product_type=["shirt", "shirt"])
    (unit,) = list_catalog([str(tmp_path)]).units
    assert [row.product_type for row in read_small_rows(unit)] == ["shirt", "shirt"]
    write(path, **columns, product_type=["shirt", "dress"])
    (unit,) = list_catalog([str(tmp_path)]).units
    with pytest.raises(
        ConfigurationError, match=r"a.parquet: row 1 .*product_type 'dress'.*product_type=shirt"
    ):
        list(read_small_rows(unit))
    labels = pa.array([[{"label": "clean", "score": 0.9}]], pa.list_(LABEL))
    write(tmp_path / "label=watermark" / "b.parquet", image_id=["a"], uri=["x"], labels=labels)
    with pytest.raises(ConfigurationError, match=r"b.parquet: .*'labels'.*label=watermark"):
        list_catalog([str(tmp_path / "label=watermark")])
    write(tmp_path / "labels=watermark" / "c.parquet", image_id=["a"], uri=["x"])
    with pytest.raises(ConfigurationError, match=r"c.parquet: column 'labels' is string.*'label'"):
        list_catalog([str(tmp_path / "labels=watermark")])


def test_a_folder_that_is_called_like_a_column_of_no_text_says_nothing(tmp_path: Path) -> None:
    labels = pa.array([[{"label": "clean", "score": 0.9}]], pa.list_(LABEL))
    path = tmp_path / "labels=2026" / "image=small" / "a.parquet"
    write(path, image_id=["a"], image=pa.array([b"1"]), labels=labels)
    (unit,) = list_catalog([str(tmp_path)]).units
    (row,) = read_small_rows(unit)
    assert row.labels == [("clean", 0.9)]
    assert [table.column("image").to_pylist() for table in read_rows(unit)] == [[b"1"]]


def test_scores_that_stand_beside_labels_are_not_left_out_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    columns = {"image_id": ["a", "b"], "uri": ["x", "y"], "score": [0.2, 0.9]}
    write(tmp_path / "a.parquet", **columns, label=["clean", "watermark"])
    list_catalog([str(tmp_path)])
    (message,) = caplog.messages
    assert "--catalog has a column 'score' beside 'label', which is not read" in message
    labels = pa.array([[{"label": "clean", "score": 0.9}]] * 2, pa.list_(LABEL))
    write(tmp_path / "a.parquet", **columns, labels=labels)
    list_catalog([str(tmp_path)])
    assert caplog.messages == [message]


def test_wrong_types_come_with_a_remedy(tmp_path: Path) -> None:
    cases = {
        "image_id": (pa.array([7]), "cast it to text"),
        "image": (pa.array(["a.jpg"]), "'uri'"),
        "labels": (pa.array(["clean"]), "'label'"),
        "sha256": (pa.array([b"1"]), "hexadecimal"),
    }
    for name, (column, remedy) in cases.items():
        columns = {"image_id": ["a"], "uri": ["x"], "label": ["clean"], name: column}
        with pytest.raises(ConfigurationError, match=rf"column '{name}' is .*{remedy}"):
            check_catalog(pa.table(columns).schema, "x")
    with pytest.raises(ConfigurationError, match=r"'image_id'.*its columns are id, photo"):
        check_catalog(pa.schema([("id", pa.string()), ("photo", pa.string())]), "x")


def test_linked_folders_belong_to_the_catalog(tmp_path: Path) -> None:
    for path in ("catalog/a", "tonight"):
        (tmp_path / path).mkdir(parents=True)
        table = pa.table({"image_id": [path], "uri": ["x"], "label": ["clean"]})
        pq.write_table(table, tmp_path / path / "a.parquet")
    (tmp_path / "catalog" / "b").symlink_to(tmp_path / "tonight")
    (tmp_path / "catalog" / "a" / "loop").symlink_to(tmp_path / "catalog")
    listing = list_catalog([str(tmp_path / "catalog")])
    assert [row[0] for unit in listing.units for row in read_label_rows(unit)] == ["catalog/a", "tonight"]


def test_the_limit_takes_the_first_rows(tmp_path: Path) -> None:
    table = pa.table({"image_id": [f"{n}" for n in range(40)], "uri": ["x"] * 40, "label": ["clean"] * 40})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    listing = list_catalog([str(tmp_path)], limit=10)
    ids = [row[0] for unit in listing.units for row in read_label_rows(unit)]
    assert ids == [f"{n}" for n in range(10)]
    assert listing.rows == 10
