from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.storage.lock import Lock, locked


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "local" else str(request.getfixturevalue("s3_folder"))


@pytest.fixture
def lock(output: str) -> Iterator[Lock]:
    with locked(output) as lock:
        yield lock
