"""Fixtures that several test modules share."""

from collections.abc import Iterator
from pathlib import Path

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

REPOSITORY = Path(__file__).resolve().parents[1]

# A build must not fail by the luck of a draw: the same examples every time. `pytest --hypothesis-profile=explore` looks
# for new ones. Nor by how busy the machine is: nothing here is timed.
_UNTIMED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeatable", derandomize=True, **_UNTIMED)
settings.register_profile("explore", max_examples=500, **_UNTIMED)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The project's root."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_photos() -> Path:
    """Parquet of real seller photos with masks; absent on most machines."""
    path = REPOSITORY.parent / "shared" / "data" / "photos.parquet"
    if not path.exists():
        pytest.skip("real seller photos are not on this machine (../shared/data/photos.parquet)")
    return path


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """One Ray instance for the whole session: 4 logical CPUs, so that operators overlap on a small machine."""
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
