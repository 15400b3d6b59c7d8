import json
from pathlib import Path

import pyarrow as pa
import pytest

from model.errors import ConfigurationError
from pipelines.preparation.entries import ENTRIES
from pipelines.preparation.readers.sources import Sources, open_sources
from pipelines.preparation.unit.resolve import records
from tests.image_trees import two_sided, write_tree
from tests.photo_tables import record, write_table


def ids(sources: Sources) -> list[str]:
    return [entry.image_id for entry in sources.entries()]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Return a folder with image folders and tables of several kinds."""
    write_table(tmp_path / "table.parquet", [record("a"), record("b")])
    write_tree(tmp_path / "folder", {"1.jpg": b"1", "x/2.jpg": b"2"})
    write_tree(tmp_path / "marked", {"3.jpg": b"3"})
    write_tree(tmp_path / "plain", {"3.png": b"3", "4.png": b"4"})
    return tmp_path


def test_photos_may_be_tables_and_folders(mixed: Path) -> None:
    sources = open_sources([f"{mixed}/table.parquet", f"{mixed}/folder"], None, None)
    assert ids(sources) == ["a", "b", "1.jpg", "x/2.jpg"]
    assert sources.label_map is None
    assert [record.error for record in records(sources.entries())] == [None] * 4
    assert sources.describe()["sources"][0]["rows"] == 2
    json.dumps(sources.describe())


def test_a_folder_with_tables_is_read_as_tables(mixed: Path) -> None:
    write_tree(mixed / "both", {"m.csv": b"image_id,uri\n7,i/1.jpg\n", "i/1.jpg": b"1", "i/stray.jpg": b"2"})
    assert ids(open_sources([f"{mixed}/both"], None, None)) == ["7"]


def test_a_file_of_sources_mixes_readers(mixed: Path) -> None:
    text = """
    version: 1
    sources:
      - {reader: photos, uri: folder, product_type: shoes, id_prefix: f/}
      - {reader: paired, source: marked, target: plain, defect: watermark}
    """
    (mixed / "sources.yaml").write_text(text)
    sources = open_sources([f"{mixed}/table.parquet"], None, f"{mixed}/sources.yaml")
    assert sources.notes() == []
    entries = list(sources.entries())
    assert [entry.image_id for entry in entries] == ["a", "b", "f/1.jpg", "f/x/2.jpg", "3", "4"]
    assert entries[-1].source is None
    assert [note for note in sources.notes() if "target/4" in note] == sources.notes() != []


def test_entries_fit_the_plans_schema(mixed: Path) -> None:
    rows = [
        {
            "image_id": entry.image_id,
            **{
                role: locator and locator._asdict()
                for role, locator in (
                    ("source", entry.source),
                    ("target", entry.target),
                    ("mask", entry.mask),
                )
            },
            "defect": entry.defect,
            "product_type": entry.product_type,
            "split": entry.split,
        }
        for entry in open_sources([f"{mixed}/table.parquet", f"{mixed}/folder"], None, None).entries()
    ]
    table = pa.Table.from_pylist(rows, ENTRIES)
    assert table.to_pylist() == rows


def test_a_benchmark_brings_its_label_map(tmp_path: Path) -> None:
    write_tree(tmp_path / "facades" / "train", {f"{n}.jpg": two_sided(n)[0] for n in range(5)})
    sources = open_sources([], ("facades", str(tmp_path)), None)
    assert sources.label_map is not None
    assert list(sources.label_map.defects) == ["facades"]
    assert len(ids(sources)) == 5
    assert any("400 are commonly reported" in note for note in sources.notes())
    assert sources.describe()["sources"][0]["images"]["facades"]["train"] == 5


def test_an_id_that_comes_twice_is_listed_twice_because_the_plan_counts_it(mixed: Path) -> None:
    write_table(mixed / "twice.parquet", [record("a"), record("b"), record("a")])
    assert ids(open_sources([f"{mixed}/twice.parquet"], None, None)) == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("photos", "benchmark", "message"),
    [
        ([], None, "nothing to read; give --photos"),
        (["folder", "folder/"], None, "--photos: the same URI is given twice"),
        (["absent"], None, "--photos: cannot read .*absent.*does not exist"),
        (["empty"], None, r"--photos: no images at .*empty"),
        (["folder/1.jpg"], None, r"--photos: no \.parquet, \.pq or \.csv file at .*1\.jpg"),
        (["folder"], ("facades", "folder"), "--benchmark .* cannot be combined"),
        (
            [],
            ("facade", "folder"),
            "--benchmark: unknown benchmark 'facade'; did you mean 'facades'\\? choose one of paired4, unpaired4, maps",
        ),
        ([], ("facades", "folder"), "--root: facades: no images in train or val or test"),
    ],
)
def test_sources_that_cannot_be_opened(
    mixed: Path,
    monkeypatch: pytest.MonkeyPatch,
    photos: list[str],
    benchmark: tuple[str, str] | None,
    message: str,
) -> None:
    (mixed / "empty").mkdir()
    monkeypatch.chdir(mixed)
    with pytest.raises(ConfigurationError, match=message):
        open_sources(photos, benchmark, None)
