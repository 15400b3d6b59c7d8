from pathlib import Path

import pytest

from pipelines.correction.plan import CorrectionConfig, Plan, resolve
from tests.catalogs import rows, write_bundle, write_catalog


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """The plan of a correction of two rows into tmp_path/out, without FID."""
    write_catalog(tmp_path / "catalog" / "a.parquet", rows(2))
    return resolve(
        CorrectionConfig(
            (str(tmp_path / "catalog"),),
            str(tmp_path / "out"),
            model=str(write_bundle(tmp_path / "bundle")),
            fid=False,
        )
    )
