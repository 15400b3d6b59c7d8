from pathlib import Path

import pytest


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that does not exist yet, on each kind of storage."""
    return str(tmp_path / "new") if request.param == "local" else request.getfixturevalue("s3_folder")
