from pathlib import Path

import numpy as np
import pyarrow.dataset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.images.decode import decode_image
from pipelines.preparation.unit.mask_quality import mask_quality, measure_mask

SIDE = 64
RED, GREY = (200, 40, 40), (120, 130, 120)


def disc(radius: float = 20, x: float = 32, y: float = 32, side: int = SIDE) -> np.ndarray:
    """Return bool (side, side), True inside a round product."""
    rows, columns = np.mgrid[:side, :side]
    return (rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2 <= radius**2


def photo(product: np.ndarray, colour: tuple[int, int, int] = RED) -> np.ndarray:
    return np.where(product[..., None], np.uint8(colour), np.uint8(GREY))


def hard(product: np.ndarray) -> np.ndarray:
    return product.astype(np.uint8) * 255


def test_a_sharp_mask_of_a_product_that_stands_out_is_perfect() -> None:
    assert mask_quality(photo(disc()), hard(disc())) == 1


@pytest.mark.parametrize("value", [0, 128])
def test_a_constant_mask_is_worthless(value: int) -> None:
    assert mask_quality(photo(disc()), np.full((SIDE, SIDE), value, np.uint8)) == 0


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_quality_falls_as_alpha_tends_to_a_half(one: float, other: float) -> None:
    image, mask = photo(disc()), hard(disc()).astype(float)
    low, high = (
        mask_quality(image, np.rint(mask + t * (127 - mask)).astype(np.uint8)) for t in sorted((other, one))
    )
    assert high <= low
    assert mask_quality(image, np.rint(mask + (127 - mask)).astype(np.uint8)) == 0


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_quality_falls_as_the_contrast_vanishes(one: float, other: float) -> None:
    def quality(t: float) -> float:
        colour = tuple(round(c + t * (g - c)) for c, g in zip(RED, GREY, strict=True))
        return mask_quality(photo(disc(), colour), hard(disc()))

    low, high = sorted((one, other))
    assert quality(high) <= quality(low)
    assert quality(1) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(12, 90), st.integers(12, 90))
def test_quality_falls_as_border_contact_grows(one: int, other: int) -> None:
    def quality(radius: int) -> float:
        return mask_quality(photo(disc(radius)), hard(disc(radius)))

    low, high = sorted((one, other))
    assert quality(high) <= quality(low)
    assert quality(45) < 0.1 < quality(12)


def test_a_product_cut_by_one_edge_of_the_photo_is_still_good() -> None:
    product = disc(20, y=52)
    assert mask_quality(photo(product), hard(product)) > 0.6


@pytest.mark.parametrize("radius", [1.5, 60])
def test_too_little_or_too_much_product_is_doubtful(radius: float) -> None:
    product = disc(radius)
    assert mask_quality(photo(product), hard(product)) < 0.6


def test_a_pair_of_shoes_is_whole_but_scattered_pieces_are_not() -> None:
    pair = disc(10, x=16) | disc(10, x=48)
    assert measure_mask(photo(pair), hard(pair)).whole == 1
    scattered = np.zeros((SIDE, SIDE), bool)
    for x in range(8, 64, 16):
        for y in range(8, 64, 16):
            scattered |= disc(4, x, y)
    assert mask_quality(photo(scattered), hard(scattered)) == 0


def test_a_see_through_veil_around_the_product_is_doubtful() -> None:
    mask = np.where(disc(), 255, np.where(disc(28), 60, 0)).astype(np.uint8)
    assert mask_quality(photo(disc()), mask) < 0.6


def test_a_mask_of_half_the_product_is_doubtful() -> None:
    product = disc(24)
    half = product & (np.arange(SIDE) < SIDE // 2)
    assert measure_mask(photo(product), hard(half)).separation < 0.9
    assert mask_quality(photo(product), hard(half)) < 0.6 < mask_quality(photo(product), hard(product))


def test_a_mask_that_includes_background_is_doubtful() -> None:
    product, around = disc(14), disc(26)
    ragged = around & (np.mgrid[:SIDE, :SIDE][1] % 20 < 12) | product
    assert mask_quality(photo(product), hard(ragged)) < 0.6


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_separation_lies_between_a_half_and_one(height: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (height, width, 3), np.uint8)
    mask = random.integers(0, 256, (height, width), np.uint8)
    mask[0, 0] = 255
    assert 0.5 - 1e-9 <= measure_mask(image, mask).separation <= 1 + 1e-9


def test_the_same_colours_on_both_sides_are_no_separation() -> None:
    assert measure_mask(photo(disc(), GREY), hard(disc())).separation == pytest.approx(0.5)


def test_the_score_does_not_depend_on_resolution() -> None:
    small, large = (disc(0.3 * side, side / 2, side / 2, side) for side in (256, 1024))
    assert mask_quality(photo(large), hard(large)) == pytest.approx(
        mask_quality(photo(small), hard(small)), abs=0.05
    )


def test_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="64x64, the photo 32x64"):
        measure_mask(np.zeros((64, 32, 3), np.uint8), np.zeros((64, 64), np.uint8))


#: Real masks, judged by looking at their composites: faded or eaten products and visible floors, or spotless.
SPOILT = (
    "638afa0a-e012-4a74-bb4a-1ea1c6d0b3b5",
    "e85b5945-e8d0-4049-84b4-22ff5907ec8e",
    "182967b4-47ec-4b2e-bac0-27bf24c5a2cc",
    "7155bc52-d5f2-42a2-9caa-0f485a02f5bc",
    "85ad2170-2d05-4e43-905a-70e5a6feb013",
)
SPOTLESS = (
    "968e1bb6-5441-4bb6-b56b-6b066dd2423e",
    "8d1cfb8d-6e6c-4dbe-999a-0272d986f901",
    "6a06dfe2-5e0f-4e2f-875d-56f159de38ab",
    "e3ea7bde-039f-4455-9705-0b24eb5100c2",
    "2dd75b86-4a8f-4ea6-9b23-61a0da268def",
)


def test_real_masks_are_judged_as_by_eye(shared_photos: Path) -> None:
    chosen = pyarrow.dataset.field("image_id").isin([*SPOILT, *SPOTLESS])
    table = pyarrow.dataset.dataset(shared_photos).to_table(
        columns=["image_id", "image", "mask"], filter=chosen
    )
    quality = {
        row["image_id"]: mask_quality(decode_image(row["image"]), decode_image(row["mask"])[..., 0])
        for row in table.to_pylist()
    }
    assert len(quality) == len(SPOILT) + len(SPOTLESS)
    assert max(quality[image_id] for image_id in SPOILT) < 0.3
    assert min(quality[image_id] for image_id in SPOTLESS) > 0.75
