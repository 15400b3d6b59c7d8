import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.synthesis.defects.photographic import (
    _disc,
    _encoded,
    _gaussian,
    _shake,
    blur,
    dark_exposure,
    low_resolution,
)
from tests.defect_images import product_on_white


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def checkered(side: int, cell: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side] // cell
    return np.repeat(np.where((x + y) % 2, 200, 60).astype(np.uint8)[..., None], 3, axis=2)


def linear(image: np.ndarray) -> np.ndarray:
    levels = image / 255.0
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


@settings(deadline=None, max_examples=40)
@given(size=st.floats(1.0, 60.0), seed=st.integers(0, 2**32))
def test_kernels_keep_the_light_and_its_middle(size: float, seed: int) -> None:
    for kernel in (_gaussian(size), _disc(size), _shake(size, generator(seed))):
        assert kernel.shape[0] == kernel.shape[1]
        assert kernel.shape[0] % 2 == 1
        assert kernel.min() >= 0
        assert kernel.sum() == pytest.approx(1.0, abs=1e-4)
        y, x = np.indices(kernel.shape) - kernel.shape[0] // 2
        assert abs((kernel * y).sum()) < 0.01
        assert abs((kernel * x).sum()) < 0.01


def test_blur_removes_fine_detail_and_keeps_tones() -> None:
    fine = checkered(384, 2)
    tone = _encoded(np.array([linear(fine).mean()], np.float32))[0] * 255
    left = []
    for seed in range(12):
        soft = blur(fine, generator(seed)).astype(float)[40:-40, 40:-40]
        left.append(np.abs(soft - soft.mean()).mean() / np.abs(fine - fine.mean()).mean())
        assert abs(soft.mean() - tone) < 3  # light is averaged, not levels: 149, not 130
    assert max(left) < 0.6
    assert np.median(left) < 0.15


def test_blur_is_soft_out_of_focus_or_shaken() -> None:
    point = np.zeros((201, 201, 3), np.uint8)
    point[100, 100] = 255
    shapes = []
    for seed in range(24):
        light = linear(np.median([blur(point, generator(seed))], axis=0)).mean(axis=-1)
        light[light < 4e-3] = 0  # noise
        y, x = np.indices(light.shape) - 100
        spread = np.linalg.eigvalsh(np.cov(np.stack([y.ravel(), x.ravel()]), aweights=light.ravel()))
        shapes.append(spread[1] / max(spread[0], 0.05))
    assert 3 <= sum(shape > 4 for shape in shapes) <= 14, "about a third are shaken: longer than wide"
    assert sum(shape < 1.5 for shape in shapes) >= 6


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), level=st.integers(120, 255))
def test_dark_exposures_lack_one_to_three_stops_or_more_to_one_side(seed: int, level: int) -> None:
    image = np.full((64, 80, 3), level, np.uint8)
    dark = dark_exposure(image, generator(seed))[..., 1]  # the lamp's colour does not change green
    stops = np.log2(linear(image)[..., 1].mean() / linear(dark).mean())
    # The fall-off is half of 0.4 on average, and the contrast curve's exponent is up to 1.3 on levels.
    assert 0.95 < stops < 3.0 + np.log2(1 / 0.8) + 0.3 * 2.4 * 3.4


def test_dark_exposures_are_noisier_in_the_light_than_the_original_and_often_warm() -> None:
    image = product_on_white(96, 96, 150)
    noise, warm = [], 0
    for seed in range(30):
        dark = dark_exposure(image, generator(seed)).astype(float)
        noise.append(np.abs(np.diff(dark[:20, :, 1], axis=1)).mean())
        warm += dark[..., 0].mean() > dark[..., 2].mean() + 2
    assert min(noise) > 0.4
    assert 12 <= warm <= 29


def test_low_resolution_loses_fine_detail() -> None:
    fine, coarse = checkered(384, 2), checkered(384, 64)
    for seed in range(12):
        lost = low_resolution(fine, generator(seed)).astype(float)
        kept = low_resolution(coarse, generator(seed)).astype(float)
        assert lost[32:-32, 32:-32].std() < 0.5 * fine.std()
        assert kept.std() > 0.8 * coarse.std()
        assert abs(kept.mean() - coarse.mean()) < 4


@pytest.mark.parametrize("synthesis", [blur, low_resolution])
@pytest.mark.parametrize("level", [0, 90, 255])
def test_flat_tones_keep_their_tone(synthesis, level: int) -> None:
    flat = np.full((60, 40, 3), level, np.uint8)
    for seed in range(5):
        made = synthesis(flat, generator(seed)).astype(float)
        assert abs(made.mean() - level) < 2.5
        assert np.abs(made - level).max() < 20
