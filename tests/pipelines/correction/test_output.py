import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.contracts.schemas import MANIFEST
from pipelines.correction.inspect.known import build_known
from pipelines.correction.output import check_output, check_whole, remove_run
from pipelines.correction.rows import to_table
from pipelines.published.layout import RunFolder
from pipelines.published.records import write_run
from pipelines.published.row_keys import to_keys
from tests.manifests import keys_of


def used(folder: Path) -> Path:
    for name in (
        "images/a/x.jpg",
        "manifest/part.parquet",
        "manifests/1/part.parquet",
        "report/index.html",
        "run.json",
        "_SUCCESS",
        "notes.txt",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


def test_checking_writes_nothing(tmp_path: Path) -> None:
    check_output(str(tmp_path / "new"), ())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("output", ["/data/out", "/data/out/deep", "/data/uploads/out"])
def test_an_output_that_a_catalogs_pattern_means_is_refused(output: str) -> None:
    for catalog in ("/data/*", "/data/[!x]*/", "/dat?", "/data"):
        with pytest.raises(ConfigurationError, match="lies inside --catalog"):
            check_output(output, ("/other", catalog))
    check_output(output, ("/data/*.parquet", "/data/x*", "/data/*/day*", "/data/out*/a/b/c"))


def test_replacing_removes_a_runs_files_and_nothing_else(tmp_path: Path) -> None:
    output = used(tmp_path / "out")
    remove_run(str(output))
    assert [path.name for path in output.iterdir()] == ["notes.txt"]


def corrected(folder: Path, model: str, *image_ids: str) -> None:
    """Write manifest rows, and their images as `model` made them."""
    rows = []
    for name in image_ids:
        image = folder / "images" / f"{name}.{model}"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_text(model)
        rows.append(
            {"image_id": name, "status": "corrected", "output_uri": str(image), "image_key": key(name, model)}
        )
    target = folder / ("manifest" if model == "old" else f".run/journal/000-{model}")
    target.mkdir(parents=True)
    pq.write_table(to_table(rows, MANIFEST), target / "part.parquet")


def key(name: str, model: str) -> bytes:
    return f"{name} {model}".encode().ljust(16, b"_")


class KilledError(Exception):
    """Simulates SIGKILL."""


def test_a_removal_that_is_interrupted_leaves_no_row_whose_image_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    corrected(output, "old", "a", "b", "c")
    corrected(output, "new", "a", "d")  # by a run that was killed
    shutil.copytree(output / "manifest", output / "manifests" / "old")
    remove = storage.remove
    left = []
    for deadly in range(20):
        interrupted = tmp_path / f"interrupted {deadly}"
        shutil.copytree(output, interrupted)
        calls = iter(range(20))

        def dies(uri: str, deadly: int = deadly, calls: Iterator[int] = calls) -> None:
            if next(calls) == deadly:
                raise KilledError
            remove(uri)

        with monkeypatch.context() as patch:
            patch.setattr(storage, "remove", dies)
            try:
                remove_run(str(interrupted))
            except KilledError:
                pass
            else:
                break
        known, _ = build_known(RunFolder(str(interrupted)).layers(), retry_failed=())
        true = [key(*path.name.split(".")) for path in interrupted.glob("images/*")]
        assert set(keys_of(known.images)) <= set(to_keys(true).tolist())
        left.append(len(known.images))
        kept = interrupted / "manifests" / "old" / "part.parquet"
        if kept.exists():
            uris = pq.read_table(kept, columns=["output_uri"])["output_uri"].to_pylist()
            assert {Path(uri).name for uri in uris} <= {path.name for path in interrupted.glob("images/*")}
    assert left[0] == 4
    assert left[-1] == 0


@pytest.mark.parametrize("inside", ["catalog/out", "catalog"])
def test_an_output_inside_the_catalog_is_refused(tmp_path: Path, inside: str) -> None:
    with pytest.raises(ConfigurationError, match="lies inside --catalog"):
        check_output(str(tmp_path / inside), (str(tmp_path / "catalog"),))
    check_output(str(tmp_path / "catalog-out"), (str(tmp_path / "catalog"),))


def test_a_catalog_that_would_be_overwritten_is_refused(tmp_path: Path) -> None:
    for catalog in ("out/images", "out/images/x.parquet", "out/report", "out/.run/x.parquet"):
        with pytest.raises(ConfigurationError, match=r"--catalog .* lies in one of them"):
            check_output(str(tmp_path / "out"), (str(tmp_path / catalog),))
    check_output(str(tmp_path / "out"), (str(tmp_path / "out" / "catalog"),))


def test_a_file_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match=r"--output .*file: is a file; give a folder"):
        check_output(str(tmp_path / "file"), ())


def test_on_s3_as_on_a_disk(s3_folder: str) -> None:
    storage.write_bytes(f"{s3_folder}/manifest/a.parquet", b"x")
    storage.write_bytes(f"{s3_folder}/run.json", b"{}")
    check_output(s3_folder, ())
    remove_run(s3_folder)
    assert not storage.exists(f"{s3_folder}/manifest/a.parquet")


def test_a_runs_description_waits_beside_the_last_ones(tmp_path: Path) -> None:
    write_run(str(tmp_path), {"state": "running", "path": tmp_path})
    run = json.loads((tmp_path / ".run" / "run.json").read_text())
    assert run == {"state": "running", "path": str(tmp_path)}
    assert not (tmp_path / "run.json").exists()


@pytest.mark.parametrize(("rows", "share"), [(5, 0.5), (0, 1.0), (10, 0.0), (11, 0.0)])
def test_a_catalog_may_shrink_by_the_share_that_is_tolerated(rows: int, share: float) -> None:
    check_whole(rows, 10, share)


@pytest.mark.parametrize(("rows", "share"), [(4, 0.5), (0, 0.99), (9, 0.0)])
def test_half_a_catalog_does_not_empty_the_manifest(rows: int, share: float) -> None:
    with pytest.raises(
        ConfigurationError,
        match=f"{rows} rows and the manifest in --output 10, of which {10 - rows}.*--max-dropped 1",
    ):
        check_whole(rows, 10, share)


def test_other_files_below_the_output_are_not_removed(tmp_path: Path) -> None:
    """A shop's own folder of photos may have the same name as a run's folder of corrections."""
    shop = tmp_path / "shop"
    (shop / "images").mkdir(parents=True)
    (shop / "images" / "mug.jpg").write_bytes(b"a seller's photo")
    catalog = (str(shop / "uploads.parquet"),)
    check_output(str(shop), catalog)
    with pytest.raises(ConfigurationError, match=r"--overwrite would remove images in .*nothing there says"):
        check_output(str(shop), catalog, overwrite=True)
    with pytest.raises(ConfigurationError, match=r"--allow-uri .*shop/images lies in one of them"):
        check_output(str(shop), catalog, {"--allow-uri": (str(shop / "images"),)})
    (shop / "manifest").mkdir()
    (shop / "manifest" / "march.parquet").write_bytes(b"a shop's own")
    with pytest.raises(ConfigurationError, match=r"would replace manifest in there, but nothing says"):
        check_output(str(shop), catalog)
    (shop / ".run").mkdir()
    (shop / ".run" / "run.json").write_text("{}")
    check_output(str(shop), catalog, overwrite=True)
