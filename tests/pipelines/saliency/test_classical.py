from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.saliency.classical import ClassicalSaliency

saliency = ClassicalSaliency()


def disc(height: int, width: int, radius: float, x: float, y: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2 <= radius**2


def iou(mask: np.ndarray, product: np.ndarray) -> float:
    found = mask > 0.5
    return float((found & product).sum() / (found | product).sum())


def sound(mask: np.ndarray, photo: np.ndarray) -> None:
    assert mask.shape == photo.shape[:2]
    assert mask.dtype == np.float32
    assert np.isfinite(mask).all()
    assert 0 <= mask.min() <= mask.max() <= 1


@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 64), st.integers(1, 64), st.integers(0, 99), st.sampled_from(["flat", "grey", "colour"])
)
def test_any_photo_gets_a_sound_mask(height: int, width: int, seed: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (height, width, 3), np.uint8)
    flat = np.broadcast_to(noise[:1, :1], noise.shape).copy()
    grey = np.repeat(noise[..., :1], 3, axis=2)
    photo = {"flat": flat, "grey": grey, "colour": noise}[kind]
    with np.errstate(invalid="raise", divide="raise", over="raise"):
        sound(saliency([photo])[0], photo)


@pytest.mark.parametrize("size", [(1, 4000), (3000, 2), (1200, 1600)])
def test_extreme_sizes_are_no_matter(size: tuple[int, int]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    sound(saliency([photo])[0], photo)


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from([(240, 180), (160, 260), (96, 96)]),
    st.floats(0.2, 0.42),
    st.floats(-0.05, 0.05),
    st.sampled_from(
        [((255, 255, 255), (180, 40, 50)), ((40, 60, 50), (200, 190, 160)), ((120, 150, 200), (20, 20, 25))]
    ),
)
def test_a_product_on_one_colour_is_found(
    size: tuple[int, int],
    radius: float,
    shift: float,
    colours: tuple[tuple[int, int, int], tuple[int, int, int]],
) -> None:
    height, width = size
    side = min(size)
    product = disc(height, width, radius * side, width / 2 + shift * side, height / 2 - shift * side)
    photo = np.where(product[..., None], np.uint8(colours[1]), np.uint8(colours[0]))
    assert iou(saliency([photo])[0], product) > 0.95


def striped(height: int, width: int) -> np.ndarray:
    """A bed sheet of two colours."""
    stripe = (np.mgrid[:height, :width][0] // 12 % 2).astype(bool)
    return np.where(stripe[..., None], np.uint8([210, 205, 190]), np.uint8([90, 110, 150]))


def textured(height: int, width: int) -> np.ndarray:
    """A carpet: coarse noise of one hue."""
    noise = np.random.default_rng(1).integers(-35, 36, (height, width, 1))
    return np.clip(np.int64([150, 130, 100]) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("ground", [striped, textured])
def test_a_product_of_two_colours_is_found_on_a_restless_ground(
    ground: Callable[[int, int], np.ndarray],
) -> None:
    photo = ground(220, 200)
    product = disc(220, 200, 70, 100, 110)
    photo[product] = (170, 30, 60)
    photo[disc(220, 200, 25, 100, 110)] = (20, 60, 30)
    assert iou(saliency([photo])[0], product) > 0.93


def test_a_product_cut_by_the_photos_edge_is_kept() -> None:
    product = disc(200, 160, 60, 80, 150)
    photo = np.where(product[..., None], np.uint8([30, 90, 60]), np.uint8([225, 220, 215]))
    assert iou(saliency([photo])[0], product) > 0.9


def test_edges_lie_where_the_photo_has_them_at_full_size() -> None:
    product = disc(900, 700, 250, 350, 450)
    photo = np.where(product[..., None], np.uint8([180, 40, 50]), np.uint8([240, 240, 240]))
    mask = saliency([photo])[0]
    wrong = (mask > 0.5) != product
    rows, columns = np.nonzero(wrong)
    distance = np.abs(np.hypot(rows + 0.5 - 450, columns + 0.5 - 350) - 250)
    assert distance.max(initial=0) < 4  # eight pixels of the photo are one of the working size


def test_debris_and_pinholes_are_gone_but_two_shoes_stay() -> None:
    product = disc(200, 240, 45, 70, 100) | disc(200, 240, 45, 170, 100)
    photo = np.where((product | disc(200, 240, 5, 120, 30))[..., None], np.uint8([60, 30, 20]), np.uint8(225))
    photo[disc(200, 240, 3, 70, 100)] = 225
    mask = saliency([photo])[0]
    assert iou(mask, product) > 0.95
    assert mask[27:34, 117:124].max() < 0.5
    assert mask[98:103, 68:73].min() > 0.5


def test_a_photos_mask_does_not_depend_on_its_company() -> None:
    photos = [np.random.default_rng(i).integers(0, 256, (30 + i, 40, 3), np.uint8) for i in range(3)]
    for together, photo in zip(saliency(photos), photos, strict=True):
        assert np.array_equal(together, saliency([photo])[0])


def test_an_array_that_is_no_photo_is_refused() -> None:
    for wrong in (np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\)"):
            saliency([wrong])
