from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.correction.inspect import image_check
from pipelines.correction.inspect.image_check import ImageCheck, alerts, check_images
from pipelines.published.parts import read_part


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_check, "_OF_A_PART", 3)


@pytest.fixture
def manifest(tmp_path: Path) -> list[str]:
    """Parts of 30, 5 and 25 rows, of which every fifth has no image; the images are there."""
    (tmp_path / "images").mkdir()
    parts = []
    for part, rows in enumerate((30, 5, 25)):
        images = [tmp_path / "images" / f"{part}-{row}.jpg" if row % 5 else None for row in range(rows)]
        for image in filter(None, images):
            image.write_bytes(b"x")
        parts.append(str(tmp_path / f"{part}.parquet"))
        uris = [None if image is None else str(image) for image in images]
        pq.write_table(pa.table({"output_uri": pa.array(uris, pa.string())}), parts[-1])
    return parts


def test_a_whole_output_raises_no_alert(manifest: list[str]) -> None:
    check = check_images(manifest, 12, "run")
    assert check == ImageCheck(12)
    assert alerts({"images_check": check.describe()}) == []


def test_all_images_are_looked_for_if_they_are_few(manifest: list[str], tmp_path: Path) -> None:
    (tmp_path / "images" / "1-3.jpg").unlink()
    (tmp_path / "images" / "2-1.jpg").unlink()
    check = check_images(manifest, 60, "run")
    assert check is not None
    assert (check.checked, check.missing) == (24 + 4 + 20, 2)
    assert {Path(uri).name for uri in check.examples} == {"1-3.jpg", "2-1.jpg"}
    assert {*check.parts} == {manifest[1], manifest[2]}
    (alert,) = alerts({"images_check": check.describe()})
    assert alert.startswith(f"2 of 48 images that were looked for are gone, such as {check.examples[0]}; ")


@pytest.mark.parametrize("run", ["a", "b", "c"])
def test_the_number_of_rows_finds_all_images_of_parts_that_are_smaller_than_a_sample(
    run: str, manifest: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_check, "_OF_A_PART", 40)
    assert check_images(manifest, 60, run) == ImageCheck(24 + 4 + 20)


def test_every_run_looks_for_other_images(manifest: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(storage, "exists", lambda uri: not asked.append(uri))
    seen = []
    for run in ("a", "b", "a"):
        asked.clear()
        check_images(manifest, 12, run)
        assert len({*asked}) == 12
        seen.append({*asked})
    assert seen[0] == seen[2] != seen[1]


def test_few_parts_are_read(manifest: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(
        image_check, "read_part", lambda uri, columns: (read.append(uri), read_part(uri, columns))[1]
    )
    assert check_images(manifest, 4, "run") == ImageCheck(4)
    assert len({*read}) == 2


def test_nothing_is_looked_for_if_it_is_off_or_there_is_no_manifest(manifest: list[str]) -> None:
    assert check_images(manifest, 0, "run") is None
    assert check_images([], 200, "run") is None
    assert alerts({}) == alerts({"images_check": None}) == []


def test_a_storage_that_fails_costs_only_the_check(
    manifest: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(uri: str) -> bool:
        raise PermissionError("no HEAD for you")

    monkeypatch.setattr(storage, "exists", fail)
    assert check_images(manifest, 10, "run") is None
    assert "no HEAD for you" in caplog.text


def test_a_manifest_that_cannot_be_read_costs_only_the_check(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert check_images([str(tmp_path / "gone.parquet")], 10, "run") is None
    assert "gone.parquet" in caplog.text
