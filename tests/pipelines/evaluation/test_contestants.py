from pathlib import Path

import pytest

from model.errors import ConfigurationError
from pipelines.evaluation.contestants import read_contestants, short_names
from tests.catalogs import write_bundle


@pytest.mark.parametrize(
    ("uris", "names"),
    [
        (["/runs/a/bundle", "/model/starter"], ["a", "starter"]),
        (["/x/a/bundle", "/y/a/bundle/", "/y/b"], ["x/a", "y/a", "b"]),
        (["/a", "/x/a"], ["a", "x/a"]),
        (["s3://shop/runs/7/bundle", "/runs/8/bundle"], ["7", "8"]),
        (["s3://runs/7", "/runs/7"], ["s3://runs/7", "/runs/7"]),
        (["/bundle"], ["bundle"]),
    ],
)
def test_names_are_short_and_tell_bundles_apart(uris: list[str], names: list[str]) -> None:
    assert short_names(uris) == names


def test_a_bundle_named_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="--bundle /a/b/ is named twice"):
        short_names(["/a/b/", "/c", "/a/b"])


def test_conditions_are_by_the_bundles_own_label_map(tmp_path: Path) -> None:
    (bundle,) = read_contestants([str(write_bundle(tmp_path / "run" / "bundle"))])
    assert (bundle.name, bundle.image_size, bundle.recipe) == ("run", 32, "unknown")
    assert bundle.conditions == {"wrong_angle": (1, 2), "watermark": (0, 1), "non_white_background": (0, 0)}


def test_a_bundle_that_cannot_be_read_names_the_flag(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "a")
    with pytest.raises(ConfigurationError, match=r"--bundle: cannot read .*nowhere.*does not exist"):
        read_contestants([str(tmp_path / "nowhere")])
    (folder / "generator.safetensors").write_bytes(b"short")
    with pytest.raises(
        ConfigurationError, match=r"--bundle .*: .*does not match its hash.*copy the bundle again"
    ):
        read_contestants([str(folder)])
    (folder / "config.json").unlink()
    with pytest.raises(
        ConfigurationError, match=r"--bundle .*: no model bundle at .*a bundle is a folder with"
    ):
        read_contestants([str(folder)])
