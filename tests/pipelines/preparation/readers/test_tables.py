import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.preparation.readers.tables import TableReader
from tests.image_trees import listed, read, write_tree
from tests.photo_tables import record, write_table

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=5).filter(
    lambda text: text.strip() != ""
)
IDS = st.lists(TEXTS, min_size=1, max_size=12, unique=True)


def write(path: Path, columns: Mapping[str, Any], row_group_size: int = 5) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path, row_group_size=row_group_size)
    return str(path)


def write_csv(path: Path, rows: list[list[str]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return str(path)


@settings(max_examples=30, deadline=None)
@given(ids=IDS, group=st.integers(1, 12), data=st.data())
def test_a_photo_table_gives_its_bytes(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], group: int, data: st.DataObject
) -> None:
    """The project's photo tables have the columns image_id, image, mask, product_type."""
    masks = [data.draw(st.none() | st.binary(max_size=3)) for _ in ids]
    rows = [record(key, image=key.encode(), mask=mask) for key, mask in zip(ids, masks, strict=True)]
    path = write_table(tmp_path_factory.mktemp("photos") / "a.parquet", rows, group)
    records, notes = read(TableReader("--photos", str(path)))
    assert notes == []
    assert [(key, r.source, r.mask) for key, r in records.items()] == [
        (key, key.encode(), mask) for key, mask in zip(ids, masks, strict=True)
    ]
    assert {r.entry.product_type for r in records.values()} == {"shirt"}
    assert all(r.target is r.entry.defect is None for r in records.values())


@settings(max_examples=30, deadline=None)
@given(ids=IDS, parquet=st.booleans(), data=st.data())
def test_a_manifest_gives_the_images_of_its_uris(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], parquet: bool, data: st.DataObject
) -> None:
    """Rows are pairs, or unpaired images if a cell is blank, with a defect of the row or of the source."""
    folder = tmp_path_factory.mktemp("manifest")
    header = ["image_id", "source_uri", "target_uri", "defect", "product_type", "comment"]
    rows, expected = [], {}
    for number, key in enumerate(ids):
        sides = data.draw(st.sampled_from(["st", "s", "t"]))
        defect = data.draw(st.sampled_from(["", "blur", "watermark"]))
        write_tree(folder, {f"x/{side}{number}.jpg": f"{side}{number}".encode() for side in sides})
        uris = [f"x/{side}{number}.jpg" if side in sides else "" for side in "st"]
        rows.append([key, *uris, defect, "", "a, b"])
        contents = [f"{side}{number}".encode() if side in sides else None for side in "st"]
        expected[key] = (*contents, defect or "wrong_angle", "shoes")
    if parquet:
        columns = [list(column) for column in zip(*rows, strict=True)]
        uri = write(folder / "m.parquet", dict(zip(header, columns, strict=True)))
    else:
        uri = write_csv(folder / "m.csv", [header, *rows])
    records, _ = read(TableReader("x", uri, "wrong_angle", "shoes"))
    assert {
        key: (r.source, r.target, r.entry.defect, r.entry.product_type) for key, r in records.items()
    } == expected


def struct(data: bytes | None, path: str | None) -> dict[str, bytes | str | None]:
    return {"bytes": data, "path": path}


@settings(max_examples=25, deadline=None)
@given(paths=st.lists(st.none() | TEXTS, min_size=1, max_size=12, unique=True), group=st.integers(1, 5))
def test_hugging_faces_images_have_ids_from_paths_or_rows(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str | None], group: int
) -> None:
    folder = tmp_path_factory.mktemp("hub")
    images = [struct(str(number).encode(), path) for number, path in enumerate(paths)]
    write(folder / "data/train-00000-of-00001.parquet", {"photo": images, "label": [0] * len(paths)}, group)
    records, notes = read(TableReader("x", str(folder), columns={"image": "photo"}))
    ids = [
        f"data/train-00000-of-00001#{number}" if path is None else path for number, path in enumerate(paths)
    ]
    assert {key: r.source for key, r in records.items()} == {
        key: str(number).encode() for number, key in enumerate(ids)
    }
    assert len(notes) == (None in paths)
    rows, quiet = read(TableReader("x", str(folder), columns={"image": "photo"}, ids="row", id_prefix="hub/"))
    assert list(rows) == [f"hub/data/train-00000-of-00001#{number}" for number in range(len(paths))]
    assert quiet == []


def test_hugging_faces_pairs(tmp_path: Path) -> None:
    images = {"before": [struct(b"b0", "0.png")], "after": [struct(b"a0", "1.png")], "key": [7]}
    names = {"source": "before", "target": "after", "image_id": "key"}
    records, _ = read(TableReader("x", write(tmp_path / "a.parquet", images), "watermark", columns=names))
    assert (records["7"].source, records["7"].target, records["7"].entry.defect) == (
        b"b0",
        b"a0",
        "watermark",
    )


def test_ids_may_be_taken_from_paths(tmp_path: Path) -> None:
    uri = write(tmp_path / "a.parquet", {"image_id": ["1"], "image": [struct(b"x", "p.png")]})
    assert list(read(TableReader("x", uri))[0]) == ["1"]
    assert list(read(TableReader("x", uri, ids="path"))[0]) == ["p.png"]


def test_a_row_gives_its_bytes_or_else_its_uri(tmp_path: Path) -> None:
    """These are the catalog's columns: `image`, or else `uri`."""
    write_tree(tmp_path, {"1.jpg": b"from uri"})
    images = pa.array([b"bytes", None, b"bytes too"], pa.binary())
    for name, size in (("mixed", 3), ("apart", 1)):
        uri = write(
            tmp_path / f"{name}.parquet",
            {"image_id": ["a", "b", "c"], "image": images, "uri": [None, "1.jpg", None]},
            size,
        )
        records, _ = read(TableReader("x", uri))
        assert [r.source for r in records.values()] == [b"bytes", b"from uri", b"bytes too"]
    known = write(
        tmp_path / "known.parquet", {"image_id": ["a"], "image": [b"bytes"], "uri": ["http://elsewhere"]}
    )
    assert read(TableReader("x", known))[0]["a"].source == b"bytes"


def test_columns_may_be_in_a_tables_path(tmp_path: Path) -> None:
    """Hive's folders work for parquet and CSV, with the names that columns have in the files."""
    write_tree(tmp_path, {"1.jpg": b"1"})
    folder = tmp_path / "kind=running%20shoe"
    write(folder / "defect=blur" / "a.pq", {"image_id": ["a"], "image": [b"a"], "kind": ["running shoe"]})
    write_csv(folder / "b.csv", [["image_id", "uri", "kind"], ["b", str(tmp_path / "1.jpg"), "running shoe"]])
    write(tmp_path / "kind=__HIVE_DEFAULT_PARTITION__" / "c.parquet", {"image_id": ["c"], "image": [b"c"]})
    reader = TableReader("x", str(tmp_path), product_type="mug", columns={"product_type": "kind"})
    records, _ = read(reader)
    values = {key: (r.source, r.entry.defect, r.entry.product_type) for key, r in records.items()}
    assert values == {
        "a": (b"a", "blur", "running shoe"),
        "b": (b"1", None, "running shoe"),
        "c": (b"c", None, "mug"),
    }
    for name, other in (("a.pq", ["running shoe", "mug"]), ("b.csv", ["running shoe", ""])):
        rows = [["image_id", "uri", "kind"], *([str(n), "1.jpg", kind] for n, kind in enumerate(other))]
        if name.endswith("csv"):
            write_csv(folder / name, rows)
        else:
            write(folder / name, dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True)))
        with pytest.raises(ConfigurationError, match=rf"{name}, row 1.* has kind .*kind=running shoe"):
            read(TableReader("x", str(folder / name), columns={"product_type": "kind"}))


def test_file_uris_of_rows_are_percent_decoded_and_paths_are_not(tmp_path: Path) -> None:
    write_tree(tmp_path, {"my 1.jpg": b"decoded", "my%201.jpg": b"literal"})
    uris = [
        (tmp_path / "my 1.jpg").as_uri(),
        f"file:{tmp_path}/my%201.jpg",
        "my%201.jpg",
        f"{tmp_path}/my%201.jpg",
    ]
    uri = write_csv(tmp_path / "a.csv", [["image_id", "uri"], *([str(n), uri] for n, uri in enumerate(uris))])
    records, _ = read(TableReader("x", uri))
    assert [record.source for record in records.values()] == [b"decoded", b"decoded", b"literal", b"literal"]


def test_a_text_column_of_images_holds_uris(tmp_path: Path) -> None:
    write_tree(tmp_path, {"i/1.jpg": b"1", "i/1.png": b"m"})
    uri = write_csv(tmp_path / "a.csv", [["image_id", "image", "mask"], ["007", "i/1.jpg", "i/1.png"]])
    records, _ = read(TableReader("x", uri))
    assert (records["007"].source, records["007"].mask) == (b"1", b"m")


def test_a_csv_as_spreadsheets_write_it(tmp_path: Path) -> None:
    write_tree(tmp_path, {"i/1.jpg": b"1", "a,b.jpg": b"2"})
    text = '\ufeffimage_id,uri\r\n"x ""1""\nnext",i/1.jpg\r\n\r\n2,"a,b.jpg"\r\n'
    (tmp_path / "a.csv").write_bytes(text.encode())
    records, _ = read(TableReader("x", str(tmp_path / "a.csv")))
    assert {key: r.source for key, r in records.items()} == {'x "1"\nnext': b"1", "2": b"2"}


def test_clean_products_are_targets(tmp_path: Path) -> None:
    uri = write(tmp_path / "a.parquet", {"image_id": ["a"], "image": [b"1"], "mask": [b"m"]})
    (entry,) = listed(TableReader("x", uri, clean=True))
    assert (entry.source, entry.mask, entry.defect) == (None, None, None)
    assert read(TableReader("x", uri, clean=True))[0]["a"].target == b"1"


def test_rows_without_an_id_or_an_image_are_not_lost(tmp_path: Path) -> None:
    columns = {"image_id": ["a", None, " "], "uri": ["1.jpg", "1.jpg", None]}
    uri = write(tmp_path / "t.parquet", columns)
    write_tree(tmp_path, {"1.jpg": b"1"})
    records, notes = read(TableReader("x", uri))
    assert {key: r.error and r.error[0] for key, r in records.items()} == {
        "a": None,
        "t#1": None,
        "t#2": "no_image",
    }
    assert "2 rows are named after file and row: t#1, t#2" in notes[0]


def test_an_unreadable_image_is_a_record(tmp_path: Path) -> None:
    uri = write_csv(tmp_path / "a.csv", [["image_id", "uri"], ["a", "absent.jpg"], ["b", "ftp://x/a.jpg"]])
    records, _ = read(TableReader("x", uri))
    assert [r.error[0] for r in records.values() if r.error] == ["missing", "scheme_not_allowed"]


def test_tables_on_s3(s3_folder: str, tmp_path: Path) -> None:
    write_tree(
        s3_folder, {"t/i/1.jpg": b"1", "t/b.csv": b"image_id,uri\n1,i/1.jpg\n2,../up.jpg\n", "up.jpg": b"2"}
    )
    path = write(tmp_path / "a.parquet", {"image_id": ["3"], "image": [b"3"]})
    storage.write_bytes(f"{s3_folder}/t/a.parquet", Path(path).read_bytes())
    reader = TableReader("x", f"{s3_folder}/t")
    records, _ = read(reader)
    assert {key: r.source for key, r in records.items()} == {"1": b"1", "2": b"2", "3": b"3"}


def test_rows_are_counted_if_that_is_cheap(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"image_id": ["3", "4"], "image": [b"3", b"4"]})
    assert TableReader("x", str(tmp_path)).describe()["rows"] == 2
    write_csv(tmp_path / "b.csv", [["image_id", "uri"], ["1", "a"]])
    described = TableReader("x", str(tmp_path)).describe()
    assert "rows" not in described
    assert described["files"] == 2


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"image_id": ["a"]}, {}, "no column with images"),
        ({"image": [b"1"]}, {}, r"no column image_id \(.*ids: row"),
        ({"image_id": [1.5], "image": [b"1"]}, {}, "column image_id of type double"),
        ({"image_id": ["a"], "image": [1]}, {}, "column image of type int64"),
        ({"image_id": ["a"], "image": [{"path": "x"}]}, {}, "column image of type struct"),
        ({"image_id": ["a"], "image": [b"1"], "source": [b"1"]}, {}, "both image or uri and source"),
        ({"image_id": ["a"], "source": [b"1"], "target": [b"1"]}, {}, "pairs without a defect"),
        (
            {"image_id": ["a"], "image": [b"1"], "target": [b"1"]},
            {"clean": True},
            "targets in a table of clean",
        ),
        ({"image_id": ["a"], "image": [b"1"]}, {"columns": {"mask": "m"}}, r"no column m \(for mask\)"),
        ({"image_id": ["a"], "image": [b"1"]}, {"columns": {"picture": "m"}}, "unknown column 'picture'"),
    ],
)
def test_unfit_columns_are_refused(
    tmp_path: Path, columns: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    uri = write(tmp_path / "a.parquet", columns)
    with pytest.raises(ConfigurationError, match=message):
        TableReader("x", uri, **options).check()


def test_a_pair_without_a_defect_names_its_row(tmp_path: Path) -> None:
    rows = [["image_id", "source_uri", "target_uri", "defect"], ["a", "s", "t", "blur"], ["b", "s", "t", ""]]
    with pytest.raises(ConfigurationError, match=r"a\.csv, row 1 .* without a defect"):
        listed(TableReader("x", write_csv(tmp_path / "a.csv", rows)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"image_id,uri\n", "no rows"),
        (b"image_id,uri\na,b,c\n", r"line 2: 3 fields, the header has 2"),
        (b'image_id,uri\na,"b\n', r"after line 1"),
        (b"image_id,uri\n\xff,b\n", r"a\.csv, after line 1: .*utf-8"),
        (b"image_id;uri\na;b\n", "no column with images.*its columns are image_id;uri"),
    ],
)
def test_an_unfit_csv_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    reader = TableReader("x", str(tmp_path / "a.csv"))
    with pytest.raises(ConfigurationError, match=message):
        listed(reader)


def test_no_tables_and_no_rows_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no \.parquet, \.pq or \.csv file"):
        TableReader("x", str(tmp_path)).check()
    uri = write(
        tmp_path / "a.parquet", {"image_id": pa.array([], pa.string()), "image": pa.array([], pa.binary())}
    )
    with pytest.raises(ConfigurationError, match="no rows"):
        TableReader("x", uri).check()
    (tmp_path / "b.parquet").write_text("x")
    with pytest.raises(ConfigurationError, match=r"b\.parquet: not a readable parquet file"):
        TableReader("x", str(tmp_path)).check()


def test_images_alone_are_named_after_file_and_row(tmp_path: Path) -> None:
    """Also if there is no column of text at all, and if a column's name looks like a struct's field."""
    write(tmp_path / "a.parquet", {"photo.jpg": [b"1", b"2", b"3"]}, 2)
    records, _ = read(TableReader("x", str(tmp_path), columns={"image": "photo.jpg"}, ids="row"))
    assert {key: r.source for key, r in records.items()} == {"a#0": b"1", "a#1": b"2", "a#2": b"3"}


def test_text_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    ids = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    uri = write(tmp_path / "a.parquet", {"image_id": ids, "image": [b"1"]})
    with pytest.raises(ConfigurationError, match=r"a\.parquet: cannot be read from row 0 on: .*UTF"):
        listed(TableReader("x", uri))
