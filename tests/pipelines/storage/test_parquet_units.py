from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.storage import parquet_units
from pipelines.storage.parquet_units import READ_ROWS, StorageReadError, Unit, joined, list_units, read_unit


def accept(schema: pa.Schema, uri: str) -> None:
    pass


def write(path: Path, first: int, rows: int, row_group_size: int = 10) -> Path:
    table = pa.table({"n": pa.array(range(first, first + rows), pa.int64()), "blob": [b"x" * 100] * rows})
    pq.write_table(table, path, row_group_size=row_group_size, compression="none", use_dictionary=False)
    return path


def numbers(units: tuple[Unit, ...]) -> list[int]:
    return [
        number for unit in units for _, table in read_unit(unit, ["n"]) for number in table["n"].to_pylist()
    ]


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    group=st.integers(1, 60),
    unit_bytes=st.integers(1, 5000),
    unit_rows=st.integers(1, 40),
    most_pieces=st.integers(1, 9),
    join=st.integers(1, 100),
    limit=st.none() | st.integers(1, 150),
)
def test_units_are_every_row_once_in_order_up_to_the_limit(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    group: int,
    unit_bytes: int,
    unit_rows: int,
    most_pieces: int,
    join: int,
    limit: int | None,
) -> None:
    folder = tmp_path_factory.mktemp("units")
    for index, size in enumerate(sizes):
        write(folder / f"{index}.parquet", sum(sizes[:index]), size, group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_units, "UNIT_BYTES", unit_bytes)
        patch.setattr(parquet_units, "UNIT_ROWS", unit_rows)
        patch.setattr(parquet_units, "MOST_PIECES", most_pieces)
        listing = list_units([str(folder)], "--catalog", accept, limit)
        found = numbers(listing.units)
        wholes = tuple(joined(listing.units, join))
        found_again = numbers(wholes)
    expected = list(range(sum(sizes)))[:limit]
    assert found == found_again == expected
    # These rows are small.
    assert all(unit.rows <= max(unit_rows, -(-group // most_pieces)) for unit in listing.units)
    assert all(len(unit.row_groups) == 1 for unit in listing.units if unit.skip)
    assert all(unit.rows <= max(join, unit_rows, group) for unit in wholes)
    assert listing.rows == sum(unit.rows for unit in listing.units) == len(expected)


def test_large_files_are_cut_and_know_their_rows_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_units, "UNIT_BYTES", 3000)
    file = write(tmp_path / "a.parquet", 0, 50)  # row groups of about 1,300 bytes
    units = list_units([str(file)], "--catalog", accept).units
    assert len(units) == 3
    starts = [first for unit in units for first, _ in read_unit(unit, ["n"])]
    values = [table["n"][0].as_py() for unit in units for _, table in read_unit(unit, ["n"])]
    assert starts == values


def test_rows_with_images_stay_together_where_those_that_name_images_are_cut(tmp_path: Path) -> None:
    columns = {"uri": ["s3://a/b.jpg"] * 600, "image": [b"x" * parquet_units.SMALL_ROW_BYTES] * 600}
    for name, kept in (("small", ["uri"]), ("large", ["uri", "image"])):
        table = pa.table({column: columns[column] for column in kept})
        pq.write_table(table, tmp_path / f"{name}.parquet", compression="none", use_dictionary=False)
    small, large = (
        list_units([str(tmp_path / f"{name}.parquet")], "--catalog", accept).units
        for name in ("small", "large")
    )
    assert [unit.rows for unit in small] == [256, 256, 88]
    assert [unit.rows for unit in large] == [600]
    limited = list_units([str(tmp_path / "small.parquet")], "--catalog", accept, limit=300).units
    assert [unit.rows for unit in limited] == [256, 44]


def test_a_piece_reads_its_own_row_group_only(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", 0, 2000, row_group_size=300)
    units = list_units([str(file)], "--catalog", accept).units
    assert {unit.row_groups for unit in units} == {(index,) for index in range(7)}
    many = write(tmp_path / "b.parquet", 0, 2000, row_group_size=64)
    assert [unit.rows for unit in list_units([str(many)], "--catalog", accept).units] == [256] * 7 + [208]


def test_tables_are_small(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", 0, 100, 100)
    (unit,) = list_units([str(file)], "--catalog", accept).units
    assert {table.num_rows for _, table in read_unit(unit, ["n"])} <= set(range(1, READ_ROWS + 1))


def test_absent_columns_are_left_out(tmp_path: Path) -> None:
    (unit,) = list_units([str(write(tmp_path / "a.parquet", 0, 3))], "--catalog", accept).units
    ((_, table),) = read_unit(unit, ["n", "colour"])
    assert table.column_names == ["n"]


def test_a_unit_travels_as_a_table() -> None:
    units = [Unit("s3://a/b.parquet", (3, 4), 7, 120, 55), Unit("c", (0,), 0, 0, 1)]
    assert Unit.from_table(pa.concat_tables([unit.table() for unit in units])) == units


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(ConfigurationError, match=r"--catalog .*broken.parquet: not a readable parquet file"):
        list_units([str(tmp_path)], "--catalog", accept)
    with pytest.raises(ConfigurationError, match=r"--reference.*nowhere"):
        list_units([str(tmp_path / "nowhere")], "--reference", accept)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match=r"--catalog: no .parquet file at .*empty"):
        list_units([str(tmp_path / "empty")], "--catalog", accept)


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "new") if request.param == "local" else request.getfixturevalue("s3_folder")


def put(folder: str, *names: str) -> None:
    """Files with one row, its number the file's place in `names`; `.txt` files are no parquet."""
    for number, name in enumerate(names):
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.table({"n": [number]}), buffer)
        content = b"text" if name.endswith(".txt") else buffer.getvalue().to_pybytes()
        storage.write_bytes(storage.join(folder, name), content)


def found(*uris: str) -> list[int]:
    return sorted(numbers(list_units(uris, "--catalog", accept).units))


def test_files_are_named_by_patterns_folders_and_themselves(folder: str) -> None:
    put(
        folder,
        "day 1/a.parquet",
        "day 1/b.PQ",
        "day 2/x=1/c.parquet",
        "day 2/d.txt",
        "_old/e.parquet",
        "day 1/_f.pq",
    )
    put(storage.join(folder, "odd"), "[a]*.parquet", "a.parquet", "000000_0")
    for pattern, numbers_there in {
        "day*": [0, 1, 2],
        "day ?/*.parquet": [0],
        "day [12]/*": [0, 1, 2],
        "day*/": [0, 1, 2],
        "*/x=1/*.parquet": [2],
        "d*/[!a]*": [1, 2],
        "odd/[a]*.parquet": [0],  # a file of this very name
        "odd/[ab]*.parquet": [1],
        "odd/000000_0": [2],  # whatever its name: it is the one that is meant
        "_o*/*.parquet": [4],
        "*": [0, 0, 1, 1, 2],
    }.items():
        assert found(storage.join(folder, pattern) + "/" * pattern.endswith("/")) == numbers_there, pattern
    assert found(storage.join(folder, "day 1/a*"), storage.join(folder, "day 2")) == [0, 2]
    for pattern, told in {
        "night*/*.parquet": "nothing matches",
        "day*/*.txt": r"no .parquet file .*d.txt",
        "**/*.parquet": "name the folder",
        "day 1/a*' '": "nothing matches",
    }.items():
        with pytest.raises(ConfigurationError, match=f"--catalog.*{told}"):
            found(storage.join(folder, pattern))


def test_a_pattern_follows_links(tmp_path: Path) -> None:
    put(str(tmp_path), "all/day 1/a.parquet", "elsewhere/b.parquet")
    (tmp_path / "all" / "day 2").symlink_to(tmp_path / "elsewhere")
    assert found(f"{tmp_path}/all/day*/*.parquet") == found(f"{tmp_path}/all/*") == [0, 1]


def test_what_several_names_lead_to_is_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Matches of a pattern, or places that are named, may be links to each other, or to what is around them."""
    put(str(tmp_path), "all/day 2/a.parquet", "elsewhere/b.parquet")
    for name, target in {"all/day 1": "day 2", "all/day 3": ".", "elsewhere/back": "../all"}.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "all" / "last.parquet").symlink_to("day 2/a.parquet")
    for uris in (
        ["all"],
        ["all/*"],
        ["all/day*"],
        ["all/day 1", "all/day 2"],
        ["all/day 1/*", "all/day 2/*"],
    ):
        listing = list_units([str(tmp_path / uri) for uri in uris], "--catalog", accept)
        assert [unit.uri for unit in listing.units] == [str(tmp_path / "all/day 2/a.parquet")]
    assert found(str(tmp_path / "all"), str(tmp_path / "elsewhere")) == [0, 1]
    caplog.clear()
    assert found(f"{tmp_path}/all/*") == [0]
    assert [
        m
        for m in caplog.messages
        if "links to other files" in m and "all/day 1/a.parquet; each file is read once" in m
    ]


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    put(str(tmp_path), "a.parquet")
    (tmp_path / "shop").symlink_to(tmp_path / "mnt" / "shop")
    with pytest.raises(ConfigurationError, match=r"--catalog: .*/shop is a link.*mnt/shop.*mounted"):
        found(str(tmp_path))


def test_what_is_left_out_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    put(str(tmp_path), "a.parquet", "b.txt", "c.txt")
    assert found(str(tmp_path)) == [0]
    assert "--catalog: 2 files are not read" in caplog.text
    assert "b.txt" in caplog.text
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(ConfigurationError, match=r"no .parquet file at .*2 others, such as .*b.txt.*\.pq"):
        found(str(tmp_path))


def test_columns_may_stand_in_the_path(tmp_path: Path) -> None:
    put(str(tmp_path), "colour=red/a.parquet", "colour=green/b.parquet")

    def check(schema: pa.Schema, uri: str) -> None:
        assert schema.names == ["n", "colour"]

    units = list_units([str(tmp_path)], "--catalog", check, in_path=("colour", "n")).units
    columns = ("colour", "n")
    rows = [
        row for unit in units for _, t in read_unit(unit, columns, in_path=columns) for row in t.to_pylist()
    ]
    assert rows == [{"n": 1, "colour": "green"}, {"n": 0, "colour": "red"}]
    # Nothing of the file itself is asked for.
    only = [t.to_pylist() for unit in units for _, t in read_unit(unit, ["colour"], in_path=columns)]
    assert only == [[{"colour": "green"}], [{"colour": "red"}]]
    assert [t.column_names for unit in units for _, t in read_unit(unit, columns)] == [["n"], ["n"]]


def test_a_file_that_vanished_is_no_rows_failure(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", 0, 3)
    (unit,) = list_units([str(file)], "--catalog", accept).units
    file.unlink()
    with pytest.raises(StorageReadError, match=r"cannot read .*a.parquet"):
        list(read_unit(unit, ["n"]))


def test_text_that_is_not_utf_8_is_reported_with_its_file(tmp_path: Path) -> None:
    text = pa.Array.from_buffers(pa.string(), 1, pa.array([b"caf\xe9"], pa.binary()).buffers())
    pq.write_table(pa.table({"n": text}), tmp_path / "latin.parquet")
    (unit,) = list_units([str(tmp_path)], "--catalog", accept).units
    with pytest.raises(ConfigurationError, match=r"latin.parquet: column 'n' in rows 0 to 0: .*UTF-8"):
        list(read_unit(unit, ["n"]))


def test_a_schema_that_does_not_serve_is_refused_before_reading(tmp_path: Path) -> None:
    def refuse(schema: pa.Schema, uri: str) -> None:
        raise ConfigurationError(f"{uri}: {schema.names}")

    with pytest.raises(ConfigurationError, match=r"a.parquet: \['n', 'blob'\]"):
        list_units([str(write(tmp_path / "a.parquet", 0, 3))], "--catalog", refuse)


def test_a_file_that_is_named_twice_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 0, 3, 3)
    with pytest.raises(ConfigurationError, match=r"--catalog: .*/a.parquet is named twice"):
        list_units([str(tmp_path), str(tmp_path / "a.parquet")], "--catalog", accept)
