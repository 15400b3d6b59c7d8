from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import storage
from pipelines.images.decode import decode_image
from pipelines.preparation.entries import LEFT, RIGHT, Entry, Locator, Record
from pipelines.preparation.unit.resolve import beside, records
from tests.hostile_images import drawing, encode, with_orientation
from tests.image_trees import two_sided


def one(entry: Entry) -> Record:
    (record,) = records([entry])
    assert record.entry == entry
    return record


def code(entry: Entry) -> str:
    record = one(entry)
    assert record.error is not None
    assert record.error[1]
    assert record.source is record.target is record.mask is None
    return record.error[0]


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_folder")


def test_files_come_as_they_are(folder: str) -> None:
    entries = []
    for number in range(30):
        uris = [storage.join(folder, f"{role} {number}.jpg") for role in ("source", "target", "mask")]
        for uri in uris:
            storage.write_bytes(uri, uri.encode())
        entries.append(Entry(str(number), *map(Locator, uris)))
    results = list(records(entries))
    assert [record.entry for record in results] == entries
    for entry, record in zip(entries, results, strict=True):
        assert record.error is None
        for role in ("source", "target", "mask"):
            assert getattr(record, role) == getattr(entry, role).uri.encode()


@settings(max_examples=25, deadline=None)
@given(
    width=st.integers(16, 40),
    height=st.integers(16, 40),
    seed=st.integers(0, 99),
    fmt=st.sampled_from(["PNG", "JPEG"]),
)
def test_halves_are_cut_without_loss_and_never_swapped(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, seed: int, fmt: str
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, 2 * width, 3), np.uint8)
    data = encode(pixels, fmt)
    path = tmp_path_factory.mktemp("halves") / "both"
    path.write_bytes(data)
    whole = decode_image(data)
    record = one(Entry("x", Locator(str(path), part=RIGHT), Locator(str(path), part=LEFT)))
    assert record.source is not None
    assert record.target is not None
    assert (decode_image(record.source) == whole[:, width:]).all()
    assert (decode_image(record.target) == whole[:, :width]).all()


def test_halves_are_those_of_the_upright_picture(tmp_path: Path) -> None:
    data, upright = with_orientation(3, "PNG")  # stored upside down
    (tmp_path / "a.png").write_bytes(data)
    record = one(Entry("x", source=Locator(str(tmp_path / "a.png"), part=LEFT)))
    assert record.source is not None
    assert (decode_image(record.source) == upright[:, : upright.shape[1] // 2]).all()


def test_a_picture_of_two_halves_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.preparation.unit import resolve

    reads: list[str] = []
    decodes: list[int] = []
    monkeypatch.setattr(resolve, "read_image", lambda uri: reads.append(uri) or Path(uri).read_bytes())
    monkeypatch.setattr(
        resolve, "decode_image_apart", lambda data: decodes.append(len(data)) or decode_image(data)
    )
    (tmp_path / "a.jpg").write_bytes(two_sided(1)[0])
    path = str(tmp_path / "a.jpg")
    assert one(Entry("x", Locator(path, part=LEFT), Locator(path, part=RIGHT))).error is None
    assert (len(reads), len(decodes)) == (1, 1)


def test_a_fault_of_an_image_is_its_records_error(tmp_path: Path) -> None:
    def file(name: str, data: bytes) -> str:
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    good = Locator(file("good.png", encode(drawing(), "PNG")))
    odd = file("odd.png", encode(drawing(63), "PNG"))
    half = file("half.jpg", two_sided(1)[0][:200])
    assert code(Entry("a", Locator(str(tmp_path / "absent.png")))) == "missing"
    assert code(Entry("b", good, Locator(str(tmp_path / "absent.png")), defect="blur")) == "missing"
    assert code(Entry("c", Locator(str(tmp_path)), mask=good)) == "unreadable"
    assert code(Entry("d", Locator("http://127.0.0.1/a.png"))) == "scheme_not_allowed"
    assert code(Entry("e", Locator(odd, part=LEFT))) == "odd_width"
    assert code(Entry("f", Locator(half, part=LEFT))) == "truncated"
    assert code(Entry("g")) == "no_image"
    assert code(Entry("h", mask=good)) == "no_image"
    assert one(Entry("i", good)).error is None


def test_an_absent_mask_is_none_but_a_storage_failure_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(encode(drawing(), "PNG"))
    photo = Locator(str(tmp_path / "good.png"))
    absent = one(Entry("a", photo, mask=Locator(str(tmp_path / "absent.png"))))
    assert absent.source is not None
    assert (absent.mask, absent.error, absent.mask_error) == (None, None, "missing")
    # A folder has the mask's name: as with a storage failure, it is unknown whether there is a mask.
    assert code(Entry("b", photo, mask=Locator(str(tmp_path)))) == "unreadable"


def struct(data: bytes | None, path: str | None) -> dict[str, bytes | str | None]:
    return {"bytes": data, "path": path}


def test_cells_of_tables(folder: str, tmp_path: Path) -> None:
    """Cells hold bytes, structs with bytes, or structs with only a path; null counts as if the entry had no locator."""
    table = pa.table(
        {
            "plain": pa.array([b"0", None, b"2", b"3"], pa.binary()),
            "struct": [struct(b"s0", "a"), struct(None, "pictures/b.jpg"), None, struct(None, None)],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=3)
    uri = storage.join(folder, "t.parquet")
    storage.write_bytes(uri, (tmp_path / "t.parquet").read_bytes())
    storage.write_bytes(storage.join(folder, "pictures/b.jpg"), b"beside")
    entries = [
        Entry(str(row), Locator(uri, row, "struct"), mask=Locator(uri, row, "plain")) for row in range(4)
    ]
    first, second, third, fourth = records(entries)
    assert (first.source, first.mask, first.error) == (b"s0", b"0", None)
    assert (second.source, second.mask, second.error) == (b"beside", None, None)
    assert third.error is not None
    assert third.error[0] == "no_image"
    assert fourth.error is not None
    pair = one(Entry("p", Locator(uri, 2, "struct"), Locator(uri, 2, "plain"), defect="blur"))
    assert (pair.source, pair.target, pair.error) == (None, b"2", None)


@pytest.mark.parametrize("values", [[5], ["p.jpg"], [{"bytes": "text", "path": "p.jpg"}], [[1, 2]]])
def test_a_cell_that_no_longer_holds_bytes_is_its_images_error(tmp_path: Path, values: list[object]) -> None:
    path = tmp_path / "changed.parquet"
    pq.write_table(pa.table({"image": values}), path)
    [record] = records([Entry("p", Locator(str(path), 0, "image"))])
    assert record.error is not None
    assert record.error[0] == "missing"


def test_halves_of_a_cell(tmp_path: Path) -> None:
    data, a, b = two_sided(5, format="PNG")
    pq.write_table(pa.table({"ab": pa.array([data], pa.binary())}), tmp_path / "t.parquet")
    cell = Locator(str(tmp_path / "t.parquet"), 0, "ab")
    record = one(Entry("x", cell._replace(part=LEFT), cell._replace(part=RIGHT)))
    assert record.source is not None
    assert record.target is not None
    assert (decode_image(record.source) == a).all()
    assert (decode_image(record.target) == b).all()


@pytest.mark.parametrize(
    ("table", "uri", "expected"),
    [
        ("/data/t.csv", "a/b.jpg", "/data/a/b.jpg"),
        ("/data/t.csv", "./b.jpg", "/data/b.jpg"),
        ("s3://bucket/x/t.csv", "../b.jpg", "s3://bucket/b.jpg"),
        ("/data/sub/t.csv", "../b.jpg", "/data/b.jpg"),
        ("/data/t.csv", "/elsewhere/b.jpg", "/elsewhere/b.jpg"),
        ("/data/t.csv", "s3://bucket/b.jpg", "s3://bucket/b.jpg"),
        ("/t.csv", "b.jpg", "/b.jpg"),
        ("/data/t.csv", ".", "/data"),
    ],
)
def test_a_relative_uri_is_relative_to_its_table(table: str, uri: str, expected: str) -> None:
    assert beside(table, uri) == expected


def test_entries_are_drawn_as_records_are_asked_for() -> None:
    drawn = []

    def entries():
        for number in range(10_000):
            drawn.append(number)
            yield Entry(str(number))

    results = records(entries())
    next(results)
    assert len(drawn) < 100
