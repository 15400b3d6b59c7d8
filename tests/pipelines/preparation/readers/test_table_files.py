"""Tests of table files of any make: the content of rows, and errors with file, row and remedy."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ConfigurationError
from pipelines.preparation.readers.table_files import Columns, TableFile, holds_tables, open_tables

COLUMNS = Columns(text=("image_id", "uri", "score"), images=("image",), fractions=("score",))
#: CSV's own rules are Python's; ours decide which cells are blank and which row is which.
CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6)


def opened(path: Path, columns: Columns = COLUMNS) -> TableFile:
    (table,) = open_tables(str(path), columns, "--photos")
    return table


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), max_size=5))
def test_csv_and_parquet_of_the_same_cells_give_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    quoted = "".join(
        ",".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row) + "\n" for row in cells
    )
    csv = opened(written(folder / "a.csv", "image_id,uri\n" + quoted))
    names, uris = ([row[index] for row in cells] for index in (0, 1))
    pq.write_table(
        pa.table({"image_id": pa.array(names, pa.string()), "uri": pa.array(uris, pa.string())}),
        folder / "b.parquet",
    )
    parquet = opened(folder / "b.parquet")
    expected = [
        {name: cell for name, cell in zip(("image_id", "uri"), row, strict=True) if cell.strip()}
        for row in cells
    ]
    assert [dict(row.values) for row in csv.rows()] == expected
    assert [dict(row.values) for row in parquet.rows()] == expected
    assert [row.number for row in csv.rows()] == list(range(len(cells)))


def test_images_are_located_by_their_cell_or_else_by_their_uri(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": b"1", "path": "a.jpg"}, {"bytes": None, "path": "b.jpg"}], kind)
    pq.write_table(pa.table({"image": images, "uri": ["x.jpg", "y.jpg"]}), tmp_path / "t.parquet")
    first, second = opened(tmp_path / "t.parquet").rows()
    assert (first.path("image"), second.path("image")) == ("a.jpg", "b.jpg")
    located = second.image("image", "uri")
    assert located is not None
    assert located.uri == str(tmp_path / "y.jpg")  # the column may have a null, so only the URI is sure
    pq.write_table(pa.table({"image": [b"1"], "uri": ["x.jpg"]}), tmp_path / "t.parquet")
    (only,) = opened(tmp_path / "t.parquet").rows()
    located = only.image("image", "uri")
    assert located is not None
    assert (located.uri, located.row, located.column) == (str(tmp_path / "t.parquet"), 0, "image")


def test_columns_may_have_other_names_and_be_in_the_path(tmp_path: Path) -> None:
    columns = Columns(text=("image_id", "product_type"), images=(), names={"image_id": "sku"})
    table = opened(written(tmp_path / "product_type=mug" / "a.csv", "sku,other\n7,x\n"), columns)
    (row,) = table.rows()
    assert row.values == {"image_id": "7", "product_type": "mug"}
    assert row.default_id == "a#0"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "image_id,uri\na,b,c\n",
            r"line 2: 3 fields, the header has 2; put fields that hold a comma in quotes",
        ),
        ('image_id,uri\n"a,b\n', r"after line"),
        ("\n\n", "is empty; a CSV table begins with a line of column names"),
    ],
)
def test_a_broken_csv_is_refused_by_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        list(opened(written(tmp_path / "a.csv", text)).rows())


def test_unfit_columns_are_named_with_the_known_ones(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image_id": [1.5], "image": ["a.jpg"]}), tmp_path / "a.parquet")
    with pytest.raises(ConfigurationError, match=r"column image_id of type double .* known columns"):
        opened(tmp_path / "a.parquet")
    with pytest.raises(ConfigurationError, match="unknown column 'pic'"):
        Columns(text=("image_id",), images=(), names={"pic": "x"})


def test_a_folder_holds_tables_if_these_come_before_images(tmp_path: Path) -> None:
    written(tmp_path / "a" / "list.csv", "uri\n")
    written(tmp_path / "a" / "images" / "1.jpg", "")
    written(tmp_path / "b" / "1.jpg", "")
    written(tmp_path / "b" / "deep" / "list.csv", "uri\n")
    assert holds_tables(str(tmp_path / "a"), "--photos")
    assert not holds_tables(str(tmp_path / "b"), "--photos")
