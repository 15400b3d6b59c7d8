"""Runs jobs/prepare_dataset.py's steps in this process and without Ray, one unit after the other."""

import hashlib
from pathlib import Path

from pipelines.contracts.label_map import LabelMap
from pipelines.preparation.finish.collect import collect
from pipelines.preparation.output import Layout
from pipelines.preparation.plan.plan import make_plan
from pipelines.preparation.readers.sources import open_sources
from pipelines.preparation.totals import Totals
from pipelines.preparation.unit.rows import RowSettings
from pipelines.preparation.unit.unit import Work, prepare_unit

GROUPS = {name: defect.group for name, defect in LabelMap.default().defects.items()}
SETTINGS = RowSettings(GROUPS, {name: name for name in GROUPS}, max_side=48)


def planned(photos: list[Path], output: Path, size: int | None = None, unit_size: int = 16) -> Work:
    """Return the work that the job would plan, with `unit_size` entries per unit."""
    layout = Layout(str(output), str(output / "held-back"))
    plan = make_plan(
        layout.plan,
        lambda: (entry for path in photos for entry in open_sources([str(path)], None, None).entries()),
        lambda _: None,
        identity={},
        size_of_units=lambda _: unit_size,
        notes=list,
        test_limit=size,
    )
    return Work(plan, SETTINGS, layout.plan, layout.done, layout.shards, 1 << 28, layout.test_catalog)


def prepare(photos: list[Path], output: Path, size: int | None = None, unit_size: int = 16) -> Totals:
    """Prepare `photos`; the test catalog takes at most `size` of them."""
    work = planned(photos, output, size, unit_size)
    for unit in range(work.plan.units):
        prepare_unit(unit, work)
    return collect(work).totals


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below `folder`, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
