import numpy as np
import pytest

from pipelines.synthesis.products import backgrounds

MAKERS = (
    backgrounds.wood,
    backgrounds.carpet,
    backgrounds.bedsheet,
    backgrounds.tiles,
    backgrounds.plaster,
    backgrounds.flat_background,
)


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_surfaces_have_texture_and_a_sane_range(maker) -> None:  # type: ignore[no-untyped-def]
    means = []
    for seed in range(6):
        picture = maker(np.random.default_rng(seed), 90, 120)
        assert picture.shape == (90, 120, 3)
        assert picture.dtype == np.float32
        assert np.isfinite(picture).all()
        assert picture.min() > -0.1
        assert picture.max() < 1.9
        assert (picture > 0.97).all(axis=-1).mean() < 0.5, "as white as a corrected picture"
        assert picture.std(axis=(0, 1)).max() > 0.003
        assert np.array_equal(picture, maker(np.random.default_rng(seed), 90, 120))
        means.append(picture.mean(axis=(0, 1)))
    assert np.ptp(means, axis=0).max() > 0.1, "all look alike"


@pytest.mark.parametrize("foot", [0.2, 0.8, 1.1])
def test_standing_backgrounds_allow_any_foot(foot: float) -> None:
    for seed in range(6):
        picture = backgrounds.standing_background(np.random.default_rng(seed), 100, 80, foot)
        assert picture.shape == (100, 80, 3)
        assert np.isfinite(picture).all()
