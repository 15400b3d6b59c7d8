"""A generator's settings: wrong ones are named, and validation decodes what the training does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.errors import ConfigurationError
from pipelines.shards.reading import Making
from tests.pipelines.training.builders import settings


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"image_size": 30}, r"^--image-size 30: use a multiple of 4, 32 or more"),
        ({"image_size": 28}, r"^--image-size 28: use a multiple of 4, 32 or more"),
        ({"ema": 1.0}, r"^ema is 1\.0; use 0 for none, or a decay below 1"),
        ({"fit": "crop"}, "^--fit"),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        settings(tmp_path, **change)


def test_validation_sees_whole_images_made_as_those_of_the_training(tmp_path: Path) -> None:
    """Crops are for learning; sizes, shapes and synthesis must be the same, or figures would be of other images."""
    making = Making(3, (("watermark", "watermark"),), ())
    one = settings(tmp_path, cropped_groups=frozenset({"background"}), fit="letterbox", making=making)
    assert one.decoding.cropped_groups == {"background"}
    assert one.validation_decoding == replace(one.decoding, cropped_groups=frozenset())
