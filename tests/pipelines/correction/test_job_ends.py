"""Runs that end before the whole catalog is done."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from jobs import correct_catalog
from model.errors import RunError, TooManyFailedError
from pipelines.correction import job as correction_job
from pipelines.correction.plan import CorrectionConfig, resolve
from pipelines.correction.stream import totals
from pipelines.images.encode import encode_image
from pipelines.storage.lock import Lock, locked
from tests.catalogs import picture, read_parquet, row, rows, tree, write_bundle, write_catalog

pytestmark = pytest.mark.ray


@pytest.fixture
def config(tmp_path: Path) -> CorrectionConfig:
    write_bundle(tmp_path / "bundle")
    return CorrectionConfig(
        (str(tmp_path / "catalog"),),
        str(tmp_path / "out"),
        model=str(tmp_path / "bundle"),
        fid=False,
        allow_uri=(str(tmp_path),),
    )


def test_a_catalog_of_which_nothing_can_be_read_ends_early_and_keeps_what_was_done(
    ray_local: None, config: CorrectionConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totals, "HOPELESS", 12)
    gone = [row(f"i{number}", "watermark", uri=str(tmp_path / "gone")) for number in range(12)]
    write_catalog(tmp_path / "catalog" / "a.parquet", gone)
    with pytest.raises(TooManyFailedError, match=r"12 of them with missing \(i0: cannot read .*/gone"):
        correction_job.run(resolve(config))
    assert "_SUCCESS" not in tree(tmp_path / "out")
    kept = [one for part in (tmp_path / "out").rglob("part-*.parquet") for one in read_parquet(part.parent)]
    assert {one["error_code"] for one in kept} == {"missing"}


def test_a_run_whose_lock_was_broken_does_not_publish(
    ray_local: None, config: CorrectionConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_catalog(tmp_path / "catalog" / "a.parquet", rows(4))
    confirm = Lock.confirm

    def break_first(lock: Lock) -> None:
        with locked(config.output, break_lock=True):
            confirm(lock)

    monkeypatch.setattr(Lock, "confirm", break_first)
    with locked(config.output) as lock, pytest.raises(RunError, match=r"was lost: taken by .*@"):
        correction_job.run(resolve(config), lock)
    assert "_SUCCESS" not in tree(tmp_path / "out")


def test_a_second_run_is_refused_before_it_touches_anything(config: CorrectionConfig, tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog" / "a.parquet", rows(4))
    flags = ["--catalog", str(tmp_path / "catalog"), "--output", config.output, "--no-fid"]
    flags += ["--model", str(tmp_path / "bundle")]
    with locked(config.output):
        before = tree(tmp_path / "out")
        assert correct_catalog.main([*flags, "--dry-run"]) == 0
        with pytest.raises(correct_catalog.command.ConfigurationError, match="another run is at work"):
            correct_catalog.main(flags)
        assert tree(tmp_path / "out") == before


def test_a_catalogs_table_that_another_run_has_removed_is_an_error_with_a_remedy(
    config: CorrectionConfig, tmp_path: Path
) -> None:
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "a.png").write_bytes(encode_image(picture(1), "png"))
    plan = resolve(replace(config, label="watermark"))
    shutil.rmtree(tmp_path / "out" / ".catalog")
    with pytest.raises(RunError, match=r"another run ended there .*give the same command again"):
        correction_job.run(plan)
