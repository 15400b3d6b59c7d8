import os
from pathlib import Path

import pytest

from model.errors import ConfigurationError
from pipelines.preparation.plan import plan as plan_module
from pipelines.preparation.plan import unchanged
from pipelines.preparation.plan.unchanged import check_unchanged
from tests.photo_tables import record, write_table
from tests.preparation import planned


@pytest.fixture
def tables(tmp_path: Path) -> list[Path]:
    return [
        write_table(tmp_path / f"{name}.parquet", [record(f"{name}{i}", mask=None) for i in range(10)])
        for name in "ab"
    ]


def test_a_rewritten_table_is_named_with_the_remedy(
    tables: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (plan_module, unchanged):
        monkeypatch.setattr(module, "FILE_ENTRIES", 6)
    work = planned(tables, tmp_path / "out", unit_size=4)
    check_unchanged(work.plan_folder, work.plan, range(work.plan.units))
    os.utime(tables[1], (1, 1))
    with pytest.raises(ConfigurationError, match=r"^[^;]*b\.parquet \(planned as .*--overwrite$"):
        check_unchanged(work.plan_folder, work.plan, range(work.plan.units))
    # The entries of units 0 and 1 are in the other table. A table may be rewritten once all of it has been read.
    check_unchanged(work.plan_folder, work.plan, [0, 1])
    check_unchanged(work.plan_folder, work.plan, [])
    tables[0].unlink()
    with pytest.raises(ConfigurationError, match=r"a\.parquet \(planned as .*, now absent\)"):
        check_unchanged(work.plan_folder, work.plan, [1])


def test_a_table_of_uris_may_grow_while_a_run_is_unfinished(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("image_id,uri\np,p.png\n")
    work = planned([table], tmp_path / "out")
    table.write_text("image_id,uri\nq,q.png\np,p.png\n")
    check_unchanged(work.plan_folder, work.plan, [0])
