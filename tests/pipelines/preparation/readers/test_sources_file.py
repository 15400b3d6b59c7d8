from pathlib import Path

import pytest

from model.errors import ConfigurationError
from pipelines.preparation.readers.folders import ImageFolder, PairedFolders, UnpairedFolders
from pipelines.preparation.readers.products import ProductFolders, ProductTable
from pipelines.preparation.readers.public import PublicReader
from pipelines.preparation.readers.sources_file import read_sources
from pipelines.preparation.readers.tables import TableReader
from tests.image_trees import write_tree

EVERY = """
version: 1
sources:
  - {reader: photos, uri: folder, product_type: shirt, id_prefix: a/}
  - {reader: photos, uri: t.csv, columns: {image_id: key}, ids: row}
  - {reader: clean, uri: folder}
  - {reader: clean, uri: /elsewhere.parquet}
  - {reader: table, uri: s3://bucket/pairs, defect: watermark, product_type: shoes}
  - {reader: paired, source: ./folder/x, target: ../target, defect: blur, unmatched: error}
  - {reader: unpaired, source: folder, defect: wrong_angle}
  - {reader: products, uri: folder, main: front}
  - {reader: products, uri: t.csv, defect: tilt, columns: {product_id: sku}}
  - reader: public
    dataset: maps
    root: .
"""


def test_every_reader_with_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, {"folder/1.jpg": b"1", "t.csv": b"a\n", "s.yaml": EVERY.encode()})
    from pipelines.preparation.readers import sources_file

    holds_tables = sources_file.holds_tables
    monkeypatch.setattr(
        sources_file, "holds_tables", lambda uri, flag: uri == "/elsewhere.parquet" or holds_tables(uri, flag)
    )
    monkeypatch.chdir(tmp_path.parent)  # relative URIs are relative to the file, not to the working directory
    flags = [f"{tmp_path.name}/s.yaml, line {number + 4}, sources[{number}]" for number in range(10)]
    assert read_sources(f"{tmp_path.name}/s.yaml") == [
        ImageFolder(flags[0], f"{tmp_path}/folder", product_type="shirt", id_prefix="a/"),
        TableReader(flags[1], f"{tmp_path}/t.csv", columns={"image_id": "key"}, ids="row"),
        ImageFolder(flags[2], f"{tmp_path}/folder", clean=True),
        TableReader(flags[3], "/elsewhere.parquet", clean=True),
        TableReader(flags[4], "s3://bucket/pairs", "watermark", "shoes"),
        PairedFolders(
            flags[5], f"{tmp_path}/folder/x", f"{tmp_path.parent}/target", "blur", unmatched="error"
        ),
        UnpairedFolders(flags[6], f"{tmp_path}/folder", None, "wrong_angle"),
        ProductFolders(flags[7], f"{tmp_path}/folder", main="front"),
        ProductTable(flags[8], f"{tmp_path}/t.csv", "tilt", columns={"product_id": "sku"}),
        PublicReader(flags[9], str(tmp_path), sources_file.datasets_of("maps")),
    ]


def test_relative_uris_of_a_file_on_s3(s3_folder: str) -> None:
    text = "version: 1\nsources: [{reader: paired, source: a, target: b, defect: blur}]\n"
    write_tree(s3_folder, {"s.yaml": text.encode()})
    (reader,) = read_sources(f"{s3_folder}/s.yaml")
    assert isinstance(reader, PairedFolders)
    assert (reader.source, reader.target) == (f"{s3_folder}/a", f"{s3_folder}/b")


def test_complaints_come_together_with_their_lines(tmp_path: Path) -> None:
    text = """version: 2
sources:
  - {reader: foto, uri: x}
  - {uri: x}
  - photos
  - {reader: photos, url: x}
  - {reader: paired, source: a, target: b, defect: "my defect", unmatched: maybe}
  - {reader: table, uri: 5, ids: number}
  - {reader: table, uri: x, columns: {picture: x}}
  - {reader: products, uri: x, columns: {mask: x}}
  - {reader: public, dataset: map, root: x}
  - {reader: [photos], uri: x}
  - {reader: photos, uri: x, uri: y}
"""
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_sources(f"{tmp_path}/s.yaml")
    first, *complaints = str(caught.value).splitlines()
    assert first == f"{tmp_path}/s.yaml has 15 problems:"
    problems = [line.strip().split(": ", 1) for line in complaints]
    assert [location for location, _ in problems] == [
        "line 1, version",
        "line 3, sources[0].reader",
        "line 4, sources[1].reader",
        "line 5, sources[2]",
        "line 6, sources[3].uri",
        "line 6, sources[3].url",
        "line 7, sources[4].defect",
        "line 7, sources[4].unmatched",
        "line 8, sources[5].uri",
        "line 8, sources[5].ids",
        "line 9, sources[6].columns",
        "line 10, sources[7].columns",
        "line 11, sources[8].dataset",
        "line 12, sources[9].reader",
        "line 13, sources[10].uri",
    ]
    messages = dict(problems)
    assert messages["line 3, sources[0].reader"].startswith(
        "there is no 'foto'; choose one of 'photos', 'clean', 'table'"
    )
    assert "did you mean 'uri'?" in messages["line 6, sources[3].url"]
    assert "'unpaired' or 'error'" in messages["line 7, sources[4].unmatched"]
    assert "unknown column 'picture'" in messages["line 9, sources[6].columns"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("version: 1\nsources: []\n", "line 2, sources: must not be empty"),
        ("version: 1\n", "line 1, sources: is missing"),
        (
            "version: 1\nsources: [{reader: photos, uri: f, ids: row}]\n",
            "is a folder of images, and ids is for tables",
        ),
        (
            "version: 1\nsources: [{reader: photos, uri: absent}]\n",
            r"line 2, sources\[0\]: .*absent.*does not exist",
        ),
        ("version: 1\nsources: [\n", "line [0-9]+: "),
    ],
)
def test_unfit_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    write_tree(tmp_path, {"s.yaml": text.encode(), "f/1.jpg": b"1"})
    with pytest.raises(ConfigurationError, match=message):
        read_sources(f"{tmp_path}/s.yaml")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--sources: cannot read .*does not exist"):
        read_sources(f"{tmp_path}/absent.yaml")
