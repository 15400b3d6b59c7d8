import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import storage
from pipelines.images.decode import ImageError
from pipelines.preparation.unit import cells as module
from pipelines.preparation.unit.cells import Cells, ChangedSourceError
from pipelines.storage.parquet_units import StorageReadError

ROWS = 60


def content(column: str, row: int) -> bytes | None:
    return None if row % 7 == 3 else f"{column}{row}".encode() * (row % 5)


def write(path: Path, row_group_size: int) -> str:
    columns = {
        column: pa.array([content(column, row) for row in range(ROWS)], pa.binary()) for column in ("a", "b")
    }
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("cells")
    return [write(folder / f"{size}.parquet", size) for size in (1, 7, 25, 100)]


@settings(max_examples=60, deadline=None)
@given(
    wanted=st.lists(
        st.tuples(
            st.integers(0, 3), st.integers(0, ROWS - 1), st.sampled_from("ab"), st.sampled_from(["", "x"])
        ),
        max_size=30,
    )
)
def test_any_cell_can_be_read_in_any_order(files: list[str], wanted: list[tuple[int, int, str, str]]) -> None:
    with Cells() as cells:
        for file, row, column, role in wanted:
            assert cells.read(files[file], row, column, role) == content(column, row)


def test_ascending_rows_open_a_file_once(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    parquet_file = pq.ParquetFile

    def counting(*arguments: object, **options: object) -> pq.ParquetFile:
        opened.append(arguments)
        return parquet_file(*arguments, **options)

    monkeypatch.setattr(module.pq, "ParquetFile", counting)
    with Cells() as cells:
        for row in range(ROWS):
            assert cells.read(files[2], row, "a", "source") == content("a", row)
            assert cells.read(files[2], row, "b", "mask") == content("b", row)
    assert len(opened) == 2


def test_files_are_closed(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_CURSORS", 2)
    with Cells() as cells:
        for file in files:
            cells.read(file, 0, "a")
            assert len(cells._open) <= 2
        held = list(cells._open.values())
    assert not cells._open
    assert all(cursor._file.closed for cursor in held)


@pytest.mark.parametrize(("row", "column"), [(ROWS, "a"), (-1, "a"), (0, "absent")])
def test_absent_rows_and_columns_are_missing(files: list[str], row: int, column: str) -> None:
    with Cells() as cells, pytest.raises(ImageError) as caught:
        cells.read(files[1], row, column)
    assert caught.value.code == "missing"


def test_a_file_that_cannot_be_read_is_not_a_rows_fault(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no parquet")
    with Cells() as cells:
        for name in ("absent.parquet", "text.parquet"):
            with pytest.raises(StorageReadError, match=name):
                cells.read(str(tmp_path / name), 0, "a")


def test_a_row_group_that_is_shorter_than_its_footer_says_is_not_a_rows_fault(
    files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *_, **__: iter(()))
    with Cells() as cells, pytest.raises(StorageReadError, match="row group 0 ends before row 5"):
        cells.read(files[3], 5, "a")


def test_cells_on_s3(files: list[str], s3_folder: str) -> None:
    uri = storage.join(s3_folder, "a.parquet")
    storage.write_bytes(uri, Path(files[1]).read_bytes())
    with Cells() as cells:
        assert [cells.read(uri, row, "b") for row in (0, 30, 59)] == [
            content("b", row) for row in (0, 30, 59)
        ]


def test_a_file_that_was_rewritten_gives_none_of_its_rows(tmp_path: Path) -> None:
    uri = write(tmp_path / "a.parquet", 7)
    before = storage.version(uri)
    with Cells() as cells:
        assert cells.read(uri, 5, "a", version=before) == content("a", 5)
    write(tmp_path / "b.parquet", 7)
    # A file of the same size and, on a coarse clock, the same time would go unnoticed.
    (tmp_path / "b.parquet").replace(uri)
    os.utime(uri, (1, 1))
    with (
        Cells() as cells,
        pytest.raises(ChangedSourceError, match=r"a\.parquet was rewritten .* until a run has"),
    ):
        cells.read(uri, 5, "a", version=before)
