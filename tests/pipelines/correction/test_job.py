from dataclasses import replace
from pathlib import Path

import pytest
import ray
import ray.data

from model.errors import ConfigurationError, RunError
from pipelines.cluster import session
from pipelines.cluster.placement import Placement
from pipelines.correction import job as correction_job
from pipelines.correction.inspect import inspection
from pipelines.correction.inspect.known import Known
from pipelines.correction.plan import CorrectionConfig, resolve
from pipelines.correction.report.record import Record
from tests.catalogs import row, rows, tree, write_bundle, write_catalog


@pytest.mark.ray
def test_a_large_catalog_is_inspected_on_the_cluster_alike(
    ray_local: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3):
        write_catalog(
            tmp_path / "catalog" / f"{index}.parquet",
            [{**one, "image_id": f"{index}-{one['image_id']}"} for one in rows(20)],
        )
    bundle = str(write_bundle(tmp_path / "bundle"))
    plan = resolve(
        CorrectionConfig((str(tmp_path / "catalog"),), str(tmp_path / "out"), model=bundle, fid=False)
    )
    inspections = []
    for most in (inspection.INSPECT_HERE, 0):
        monkeypatch.setattr(inspection, "INSPECT_HERE", most)
        run = correction_job.begin(plan, Placement("cpu", 1, 1), Record(plan.config.output))
        correction_job.inspect(run, Known(), 0)
        inspections.append(run.inspection)
    here, there = inspections
    assert there.survey.rows == here.survey.rows
    assert there.survey.sample(5) == here.survey.sample(5)
    assert not there.ids.different(here.ids)
    assert sorted(there.works, key=str) == sorted(here.works, key=str)
    assert there.top_score == here.top_score == pytest.approx(0.9)
    # A wrong row is a ConfigurationError in tasks, too.
    labels = [{"label": "watermark", "score": float("nan")}]
    write_catalog(tmp_path / "catalog" / "0.parquet", [row("a", labels=labels)])
    # As `cluster.session.start` sets it.
    monkeypatch.setattr(ray.data.DataContext.get_current(), "raise_original_map_exception", True)
    again = correction_job.begin(resolve(plan.config), Placement("cpu", 1, 1), Record(plan.config.output))
    with pytest.raises(ConfigurationError, match=r"row 0 \('a'\) .*score nan"), session.our_errors():
        correction_job.inspect(again, Known(), 0)


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
        gates="off",  # a toy bundle's corrections pass none
    )
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "images").write_text("a file where a folder must be")
    with pytest.raises(RunError, match=r"cannot write .*/out/images/"):
        correction_job.run(resolve(config))
    assert "_SUCCESS" not in tree(tmp_path / "out")
    assert ray.is_initialized()


@pytest.mark.ray
def test_a_bundle_that_changes_during_the_run_is_a_run_error(ray_local: None, tmp_path: Path) -> None:
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
