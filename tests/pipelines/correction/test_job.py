from dataclasses import replace
from pathlib import Path

import pytest
import ray

from model.errors import RunError
from pipelines.correction import job as correction_job
from pipelines.correction import survey
from pipelines.correction.config import CorrectionConfig, resolve
from pipelines.correction.job import check_conservation, take_survey
from pipelines.correction.read_catalog import list_catalog
from pipelines.correction.totals import Totals
from pipelines.label_map import LabelMap
from tests.catalogs import rows, tree, write_bundle, write_catalog


def totals(corrected: int, failed: int, blocks: int) -> Totals:
    found = Totals(rows=corrected + failed, blocks=blocks)
    found.statuses.update(corrected=corrected, failed=failed)
    return found


def test_rows_are_conserved_or_the_run_is_refused(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "manifest").mkdir(exist_ok=True)
        (tmp_path / "manifest" / f"part-{name}.parquet").touch()
    output = str(tmp_path)
    check_conservation(10, totals(7, 3, blocks=2), output)
    with pytest.raises(RunError, match="11 in the catalog, 10 with a status"):
        check_conservation(11, totals(7, 3, blocks=2), output)
    with pytest.raises(RunError, match="3 blocks, 2 manifest parts"):
        check_conservation(10, totals(7, 3, blocks=3), output)


@pytest.mark.ray
def test_a_large_catalog_is_surveyed_on_the_cluster_alike(
    ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3):
        write_catalog(
            tmp_path / f"{index}.parquet",
            [{**row, "image_id": f"{index}-{row['image_id']}"} for row in rows(20)],
        )
    listing = list_catalog([str(tmp_path)])
    here = take_survey(listing, LabelMap.default(), 5)
    monkeypatch.setattr(correction_job, "SURVEY_HERE", 0)
    there = take_survey(listing, LabelMap.default(), 5)
    assert there.rows == here.rows
    assert there.sample(5) == here.sample(5)
    assert survey.SURVEY_HERE > 0


@pytest.mark.ray
def test_a_storage_that_fails_while_writing_fails_the_run_with_our_message(
    ray_local: None, tmp_path: Path
) -> None:
    write_catalog(tmp_path / "catalog" / "a.parquet", rows(4))
    config = CorrectionConfig(
        (str(tmp_path / "catalog"),),
        str(tmp_path / "out"),
        model=str(write_bundle(tmp_path / "bundle")),
        fid=False,
    )
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "images").write_text("a file where a folder must be")
    with pytest.raises(RunError, match=r"cannot write .*/out/images/"):
        correction_job.run(resolve(config))
    assert "_SUCCESS" not in tree(tmp_path / "out")
    assert ray.is_initialized()


@pytest.mark.ray
def test_a_bundle_that_changes_while_the_run_goes_is_no_wrong_command_line(
    ray_local: None, tmp_path: Path
) -> None:
    write_catalog(tmp_path / "catalog" / "a.parquet", rows(2))
    bundle = str(write_bundle(tmp_path / "bundle"))
    plan = resolve(
        CorrectionConfig((str(tmp_path / "catalog"),), str(tmp_path / "out"), model=bundle, fid=False)
    )
    changed = replace(plan, bundle=replace(plan.bundle, version="0" * 64))
    with pytest.raises(
        RunError, match=r"^the run broke off: --model .*the bundle changed after the run began"
    ):
        correction_job.run(changed)
    assert "_SUCCESS" not in tree(tmp_path / "out")
