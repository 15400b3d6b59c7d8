"""Fixtures that several test modules share."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.object_store import (  # noqa: F401 (fixtures for every test)
    ceph_server,
    moto_server,
    s3_folder,
    s3_server,
    s3_settings,
)
from tests.poison import POISONOUS

if TYPE_CHECKING:
    from tests.reported import Reported

REPOSITORY = Path(__file__).resolve().parents[1]

# Builds must not fail by chance, so the examples are always the same; `pytest --hypothesis-profile=explore` searches
# for new ones. Nor may they fail on a busy machine, so there are no deadlines.
_UNTIMED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeatable", derandomize=True, **_UNTIMED)
settings.register_profile("explore", max_examples=500, **_UNTIMED)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the project's root."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_photos() -> Path:
    """Return a parquet file of real seller photos with masks, which most machines do not have."""
    path = REPOSITORY.parent / "shared" / "data" / "photos.parquet"
    if not path.exists():
        pytest.skip("real seller photos are not on this machine (../shared/data/photos.parquet)")
    return path


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> "Reported":
    """Record the metrics that this process reports."""
    from ray.util.metrics import Metric

    from tests.reported import Reported

    record = Reported()
    monkeypatch.setattr(Metric, "_record", lambda *arguments, **tags: record.record(*arguments, **tags))
    return record


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """Start one Ray for the whole session, with 4 logical CPUs, so that operators overlap on a small machine."""
    import ray

    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            **POISONOUS,
            "PYTHONPATH": str(REPOSITORY),
        }.items():  # for `tests.poison` in the workers
            environment.setenv(name, value)
        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
