from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.correction.tabulate import Tables, tabulate

KNOWN = ("non_white_background", "watermark")
#: A camera names some of its pictures with a line in front.
IMAGES = ("b.JPG", "shirts/a.png", "shirts/deep/a.png", "broken.tiff", "_MG_1234.JPG", "old.jfif")


def tables(
    tmp_path: Path, *catalogs: Path, label: str | None = "watermark", detector: bool = False
) -> Tables:
    return tabulate([str(uri) for uri in catalogs], str(tmp_path / "tables"), label, KNOWN, detector)


def rows(found: Tables) -> list[dict[str, Any]]:
    return [row for uri in found.uris for row in pq.read_table(uri).to_pylist()]


def write(path: Path, data: bytes = b"image") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_folder_of_images_has_their_paths_as_ids(tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    for name in (*IMAGES, "notes.txt", ".hidden.jpg", "_thumbs/a.jpg"):
        write(folder / name)
    found = tables(tmp_path, folder)
    assert found.allowed == (str(folder),)
    assert {row["image_id"]: (row["uri"], row["label"]) for row in rows(found)} == {
        name: (str(folder / name), "watermark") for name in IMAGES
    }


def test_the_same_folder_gives_the_same_table_and_another_image_another(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "a.jpg")
    first = tables(tmp_path, tmp_path / "photos")
    assert tables(tmp_path, tmp_path / "photos") == first
    write(tmp_path / "photos" / "b.jpg")
    assert tables(tmp_path, tmp_path / "photos").uris != first.uris


def test_a_csv_names_images_beside_it_and_elsewhere(tmp_path: Path) -> None:
    text = "\ufeffuri,label,price\na.jpg,non_white_background,1\n/mnt/b.jpg,,2\ns3://shop/c.jpg,watermark,3\n"
    found = tables(tmp_path, write(tmp_path / "in" / "list.csv", text.encode()))
    assert found.allowed == (str(tmp_path / "in"),)
    assert rows(found) == [
        {"image_id": "a.jpg", "uri": str(tmp_path / "in" / "a.jpg"), "label": "non_white_background"},
        {"image_id": "/mnt/b.jpg", "uri": "/mnt/b.jpg", "label": "watermark"},
        {"image_id": "s3://shop/c.jpg", "uri": "s3://shop/c.jpg", "label": "watermark"},
    ]


def test_a_csv_may_have_ids_types_and_hashes(tmp_path: Path) -> None:
    text = "label,image_id,uri,sha256,product_type\nwatermark,007,a.jpg,00ff,shoe\n,,b.jpg,,\n"
    first, second = rows(tables(tmp_path, write(tmp_path / "list.CSV", text.encode()), label=None))
    assert first["image_id"] == "007"
    assert (first["sha256"], first["product_type"]) == ("00ff", "shoe")
    assert (second["image_id"], second["label"], second["sha256"]) == ("b.jpg", None, None)


def test_parquet_stays_as_it_is(tmp_path: Path) -> None:
    write(tmp_path / "catalog" / "a.parquet")
    write(tmp_path / "catalog" / "preview.jpg")
    mixed = (tmp_path / "catalog", tmp_path / "b.parquet", tmp_path / "*.parquet", tmp_path / "nothing")
    assert tables(tmp_path, *mixed, label=None) == Tables(tuple(map(str, mixed)))
    assert not (tmp_path / "tables").exists()
    with pytest.raises(ConfigurationError, match="--label is for folders of images and CSV files"):
        tables(tmp_path, tmp_path / "catalog")


def test_images_of_which_nothing_is_said_need_a_label_or_a_detector(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "a.jpg")
    with pytest.raises(ConfigurationError, match="--label, one of non_white_background, watermark"):
        tables(tmp_path, tmp_path / "photos", label=None)
    assert "label" not in rows(tables(tmp_path, tmp_path / "photos", label=None, detector=True))[0]


def test_an_unknown_label_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "a.jpg")
    with pytest.raises(
        ConfigurationError, match=r"--label: .* no rule for .watermrk.; did you mean .watermark.\?"
    ):
        tables(tmp_path, tmp_path / "photos", label="watermrk")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("url,label\na.jpg,watermark\n", "'uri' .* is missing"),
        ("uri,label\n,watermark\n", "row 0 .* has no uri"),
        ("uri,uri\na.jpg,b.jpg\n", "two columns 'uri'"),
        ("uri,label\na.jpg,watermark,more\n", "not a readable CSV"),
        ("", "not a readable CSV"),
    ],
)
def test_a_wrong_csv_is_refused_with_the_reason(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        tables(tmp_path, write(tmp_path / "list.csv", text.encode()))


def test_a_csv_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="write it as UTF-8"):
        tables(tmp_path, write(tmp_path / "list.csv", "uri,label\nschön.jpg,watermark\n".encode("latin-1")))


def test_a_folder_on_s3(s3_folder: str, tmp_path: Path) -> None:
    for name in ("a.jpg", "shirts/b.png"):
        storage.write_bytes(storage.join(s3_folder, "photos", name), b"image")
    storage.write_bytes(storage.join(s3_folder, "photos", "list.csv"), b"uri\na.jpg\n")
    photos = storage.join(s3_folder, "photos")
    found = tabulate([photos, f"{photos}/list.csv"], str(tmp_path), "watermark", KNOWN, False)
    assert [(row["image_id"], row["uri"]) for row in rows(found)] == [
        ("a.jpg", f"{photos}/a.jpg"),
        ("shirts/b.png", f"{photos}/shirts/b.png"),
        ("a.jpg", f"{photos}/a.jpg"),
    ]
    assert found.allowed == (photos, photos)


def test_what_is_left_out_of_a_folder_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "photos" / "a.jpg")
    write(tmp_path / "photos" / "notes.txt")
    tables(tmp_path, tmp_path / "photos")
    assert (
        "1 files are left out because their names are not those of images, such as notes.txt" in caplog.text
    )


def test_a_link_to_a_disk_that_is_gone_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "photos" / "a.jpg")
    (tmp_path / "photos" / "disk2").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigurationError, match="disk2 is a link, and what it leads to is not there"):
        tables(tmp_path, tmp_path / "photos")


def test_no_image_lies_where_the_run_writes(tmp_path: Path) -> None:
    listed = write(tmp_path / "list.csv", b"uri\nimages/a.jpg\n")
    written = [str(tmp_path / "images"), str(tmp_path / "manifest")]
    with pytest.raises(ConfigurationError, match=r"images/a\.jpg lies in a folder that the run writes"):
        tabulate([str(listed)], str(tmp_path / "tables"), "watermark", KNOWN, False, written)


def test_a_csv_at_the_top_of_a_bucket_does_not_open_the_bucket(s3_folder: str, tmp_path: Path) -> None:
    bucket = "/".join(s3_folder.split("/")[:3])
    storage.write_bytes(f"{bucket}/top.csv", b"uri\na.jpg\n")
    assert tabulate([f"{bucket}/top.csv"], str(tmp_path), "watermark", KNOWN, False).allowed == ()
