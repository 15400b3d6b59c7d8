import numpy as np
import pytest

from model.errors import ConfigurationError
from pipelines.detection.fit import letterbox
from pipelines.detection.samples import SampleConfig
from pipelines.training.order import Draw, Row
from tests.training_data import picture

LABELS = ("wrong_angle", "watermark", "non_white_background")


def draw(seed: int = 0, target: bool = True) -> Draw:
    photo, clean = picture(seed)
    row = Row(0, 0)
    row.source = letterbox(photo, 64)
    row.target = letterbox(clean, 64) if target else None
    return Draw(row, row, True, np.random.default_rng(seed).random((2, 3)))


def test_a_source_shows_its_defect_and_a_target_none() -> None:
    config = SampleConfig(LABELS, 32, overlay=0)
    source, target = config.training_samples(draw(), "non_white_background")
    assert source.present.tolist() == [False, False, True]
    assert target.present.tolist() == [False, False, False]
    assert source.known.all()
    assert target.known.all()
    assert source.image.shape == target.image.shape == (32, 32, 3)


def test_overlays_are_labelled_and_all_chance_comes_from_the_draw() -> None:
    config = SampleConfig(LABELS, 32, overlay=1)
    kinds = set()
    for seed in range(12):
        samples = config.training_samples(draw(seed), "non_white_background")
        again = config.training_samples(draw(seed), "non_white_background")
        for sample, same in zip(samples, again, strict=True):
            np.testing.assert_array_equal(sample.image, same.image)
            assert sample.overlaid in ("watermark", "wrong_angle")
            assert sample.present[LABELS.index(sample.overlaid)]
            assert sample.present[2] == sample.is_source
            kinds.add((sample.is_source, sample.overlaid))
    assert len(kinds) == 4


def test_a_defect_is_not_drawn_over_itself() -> None:
    config = SampleConfig(("watermark",), 32, overlay=1)
    source, target = config.training_samples(draw(), "watermark")
    assert (source.overlaid, target.overlaid) == (None, "watermark")


def test_masked_defects_of_a_source_do_not_count() -> None:
    config = SampleConfig(LABELS, 32, unknown="masked", overlay=0)
    source, target = config.training_samples(draw(), "watermark")
    assert source.known.tolist() == [False, True, False]
    assert target.known.all()


def test_drawing_leaves_the_images_that_others_will_get() -> None:
    one = draw()
    before = one.source.source.copy()  # type: ignore[union-attr]
    SampleConfig(LABELS, 32, overlay=1).training_samples(one, "non_white_background")
    np.testing.assert_array_equal(one.source.source, before)


def test_measured_samples_are_the_same_in_every_run() -> None:
    photo, clean = (letterbox(image, 64) for image in picture(1))
    config = SampleConfig(LABELS, 32)
    first, second = (
        list(config.measured_samples("id", "non_white_background", photo, clean)) for _ in range(2)
    )
    assert [sample.present.sum() for sample in first] == [1, 2, 0]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_flipping_mirrors_some() -> None:
    plain, flipped = (SampleConfig(LABELS, 32, overlay=0, flip=flip) for flip in (False, True))
    mirrored = 0
    for seed in range(10):
        # A wrong angle is not wavered, so that only the mirror differs.
        one = plain.training_samples(draw(seed), "wrong_angle")[0].image
        other = flipped.training_samples(draw(seed), "wrong_angle")[0].image
        mirrored += np.array_equal(one[:, ::-1], other)
        assert np.array_equal(one, other) or np.array_equal(one[:, ::-1], other)
    assert 0 < mirrored < 10


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="--overlay"):
        SampleConfig(LABELS, overlay=1.5)
    with pytest.raises(ConfigurationError, match="--unknown"):
        SampleConfig(LABELS, unknown="perhaps")
