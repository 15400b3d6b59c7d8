"""A tiny dataset."""

import pytest

from tests.training_data import write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """24 photos, of which p3, p7 … p23 are the test split."""
    return str(write_dataset(tmp_path_factory.mktemp("data") / "data", photos=24))
