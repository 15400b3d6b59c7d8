import numpy as np
import pytest

from model.errors import ConfigurationError
from pipelines.inference.detector_input import letterbox
from pipelines.training.detector.samples import SampleConfig, Side
from pipelines.training.feed.order import Draw, Row
from tests.training_data import picture

LABELS = ("wrong_angle", "watermark", "non_white_background")


def draw(source: tuple[str, ...], target: tuple[str, ...] = ()) -> Draw:
    row = Row(0, 0)
    row.source, row.target = (np.full((32, 32, 3), level, np.uint8) for level in (90, 250))
    row.defects = source, target
    return Draw(row, row, True, np.zeros((2, 3)))


def test_either_side_has_the_labels_of_what_it_shows() -> None:
    config = SampleConfig(LABELS, 32)
    source, target = config.training_samples(draw(("non_white_background",)))
    assert source.present.tolist() == [False, False, True]
    assert target.present.tolist() == [False, False, False]
    assert source.known.all()
    assert target.known.all()
    assert (source.image[0, 0, 0], target.image[0, 0, 0]) == (90, 250)
    source, target = config.training_samples(draw(("non_white_background", "watermark"), ("wrong_angle",)))
    assert source.present.tolist() == [False, True, True]
    assert target.present.tolist() == [True, False, False]


def test_masked_defects_of_a_source_do_not_count() -> None:
    config = SampleConfig(LABELS, 32, unknown="masked")
    source, target = config.training_samples(draw(("watermark",)))
    assert source.known.tolist() == [False, True, False]
    assert target.known.all()


@pytest.mark.parametrize(
    ("labels", "drawable"), [(LABELS, {"watermark", "wrong_angle"}), (("watermark",), set())]
)
def test_a_defect_is_drawn_over_others_and_never_over_itself(
    labels: tuple[str, ...], drawable: set[str]
) -> None:
    config, canvas = SampleConfig(labels, 32, overlay=1), letterbox(picture(0)[0], 64)
    before = canvas.copy()
    defect = "non_white_background" if len(labels) > 1 else "watermark"
    shown = {
        name for seed in range(12) for name in config.drawn(canvas, (defect,), np.random.default_rng(seed))[1]
    }
    assert shown == {defect, *drawable}
    [drawn] = config.drawn(canvas, (), np.random.default_rng(0))[1]
    assert drawn in labels
    np.testing.assert_array_equal(canvas, before)


def test_measured_samples_are_the_same_in_every_run() -> None:
    photo, clean = (letterbox(image, 64) for image in picture(1))
    config = SampleConfig(LABELS, 32)
    first, second = (
        list(
            config.measured_samples(
                "id", "non_white_background", Side(photo, ("non_white_background",)), Side(clean, ())
            )
        )
        for _ in range(2)
    )
    assert [sample.present.sum() for sample in first] == [1, 2, 0]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_flipping_mirrors_some() -> None:
    plain, flipped = (SampleConfig(LABELS, 32, overlay=0, flip=flip) for flip in (False, True))
    canvas, mirrored = letterbox(picture(0)[0], 64), 0
    for seed in range(10):
        # An image with a wrong angle is not wavered, so only mirroring makes a difference.
        one, other = (
            config.drawn(canvas, ("wrong_angle",), np.random.default_rng(seed))[0]
            for config in (plain, flipped)
        )
        mirrored += np.array_equal(one[:, ::-1], other)
        assert np.array_equal(one, other) or np.array_equal(one[:, ::-1], other)
    assert 0 < mirrored < 10


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="--overlay"):
        SampleConfig(LABELS, 32, overlay=1.5)
    with pytest.raises(ConfigurationError, match="--unknown"):
        SampleConfig(LABELS, 32, unknown="perhaps")
