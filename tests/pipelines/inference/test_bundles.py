from pathlib import Path

import pytest

from model.bundle import STARTER, load_bundle
from model.errors import BundleError, ConfigurationError
from pipelines import storage
from pipelines.inference.bundles import read_bundle
from tests.catalogs import write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def test_bundles_are_read_from_any_storage_and_by_default_from_the_project(
    bundle: Path, s3_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in bundle.iterdir():
        storage.write_bytes(storage.join(s3_folder, file.name), file.read_bytes())
    assert read_bundle(s3_folder).version == load_bundle(bundle).version
    monkeypatch.setattr("pipelines.inference.bundles.STARTER", bundle)
    assert read_bundle(None).version == load_bundle(bundle).version
    assert STARTER.name == "starter"
    with pytest.raises(ConfigurationError, match="--model"):
        read_bundle(s3_folder + "/nowhere")


def test_a_damaged_bundle_is_named_with_its_flag_and_uri(bundle: Path, s3_folder: str) -> None:
    (bundle / "config.json").write_text("{}")
    for file in bundle.iterdir():
        storage.write_bytes(storage.join(s3_folder, file.name), file.read_bytes())
    with pytest.raises(BundleError, match=f"^--bundle {s3_folder}: .*is not a usable model bundle"):
        read_bundle(s3_folder, "--bundle")
