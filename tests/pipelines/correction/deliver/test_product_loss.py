"""Losses by corrections of drawn photos: a shirt with a print on a grey floor, and typical mistakes."""

import math

import numpy as np
import pytest

from pipelines.correction.deliver.product import compared, find_product
from pipelines.correction.deliver.product_loss import DOUBTFUL, ON_WHITE, ProductLoss, measure_product_loss
from tests.pipelines.correction.deliver.test_product import STILL

HEIGHT, WIDTH = 240, 180
FLOOR, CLOTH, PRINT = (130, 120, 105), (226, 214, 186), (40, 70, 150)


def noise(seed: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """Return noise of some levels, like that of a camera."""
    return np.random.default_rng(seed).normal(0, 3, (*size, 1))


def where(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    """Return a rectangle as bool (HEIGHT, WIDTH)."""
    region = np.zeros((HEIGHT, WIDTH), bool)
    region[top:bottom, left:right] = True
    return region


SHIRT, MOTIF = where(40, 210, 40, 140), where(90, 140, 70, 110)


def photo(floor: tuple[int, ...] = FLOOR) -> np.ndarray:
    """Return uint8 (HEIGHT, WIDTH, 3): a cream shirt with a print."""
    image = np.empty((HEIGHT, WIDTH, 3))
    image[:] = floor
    image[SHIRT], image[MOTIF] = CLOTH, PRINT
    return np.clip(image + noise(0), 0, 255).astype(np.uint8)


def keep(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Return `image` with white outside `region`."""
    return np.where(region[..., None], image, np.uint8(255))


def loss_of(upload: np.ndarray, corrected: np.ndarray) -> ProductLoss:
    before, after = compared(upload, corrected, STILL)
    return measure_product_loss(before, after, find_product(upload))


def test_a_right_correction_has_erased_nothing_of_the_product() -> None:
    shares = loss_of(photo(), keep(photo(), SHIRT))
    assert shares.lost < 0.02
    assert shares.holes == 0
    assert shares.weak_outline < 0.02


def test_what_is_left_of_a_product_is_a_share_of_an_estimate_that_knows_nothing_of_the_model() -> None:
    upload = photo()
    print_alone = loss_of(upload, keep(upload, MOTIF))
    assert print_alone.lost > 0.8
    assert print_alone.allowance == DOUBTFUL  # a print separates colours as well as a shirt
    half = loss_of(upload, keep(upload, SHIRT & where(0, HEIGHT, 0, 90)))
    assert half.lost == pytest.approx(0.5, abs=0.06)
    assert half.allowance == 1  # cloth is on both sides
    assert loss_of(upload, keep(upload, np.zeros_like(SHIRT))).lost == 1


def test_holes_count_where_they_are_torn_and_not_where_the_ground_shows() -> None:
    upload = photo()
    torn = loss_of(upload, keep(upload, SHIRT & ~where(150, 190, 60, 110)))
    assert torn.holes == pytest.approx(40 * 50 / SHIRT.sum(), abs=0.04)
    handle = photo()
    gap = where(60, 120, 60, 120)
    handle[gap] = np.clip(np.array(FLOOR) + noise(1), 0, 255).astype(np.uint8)[gap]
    assert loss_of(handle, keep(handle, SHIRT & ~gap)).holes < 0.01


def test_an_outline_in_the_midst_of_cloth_is_weak() -> None:
    close_up = np.clip(np.array(CLOTH) * 0.8 + noise(2), 0, 255).astype(np.uint8)  # cloth fills the frame
    kept = where(60, 180, 50, 130)
    assert loss_of(close_up, keep(close_up, kept)).weak_outline > 0.9
    remnant = loss_of(photo(), keep(photo(), SHIRT | where(100, 160, 140, 170)))  # floor beside the shirt
    assert 0.05 < remnant.weak_outline < 0.4


def test_an_image_that_is_on_white_already_has_little_to_lose() -> None:
    clean = keep(photo(), SHIRT)
    shares = loss_of(clean, keep(clean, SHIRT & ~where(40, 80, 40, 140)))
    assert shares.allowance == ON_WHITE
    assert shares.lost == pytest.approx(40 / 170, abs=0.05)
    same = loss_of(clean, clean)
    assert (same.lost, same.holes, same.weak_outline) == (0, 0, 0)


def test_an_estimate_that_explains_the_photo_no_better_is_believed_less() -> None:
    trusted = ProductLoss(lost=0.3, holes=0.1, weak_outline=0, on_white=False, estimate=0.95, kept=0.9)
    assert (trusted.allowance, trusted.trusted_holes) == (1, 0.1)
    equal = trusted._replace(kept=0.95)
    assert (equal.allowance, equal.trusted_holes) == (DOUBTFUL, 0)
    poor = trusted._replace(estimate=0.7, kept=0.6)
    assert (poor.allowance, poor.trusted_holes) == (math.inf, 0)
    assert trusted._replace(on_white=True).allowance == ON_WHITE


def test_pictures_without_product_or_of_one_colour_have_figures() -> None:
    for level in (0, 128, 255):
        upload = np.full((64, 48, 3), level, np.uint8)
        for after in (0, 128, 255):
            shares = loss_of(upload, np.full_like(upload, after))
            assert all(0 <= value <= 1 for value in (shares.lost, shares.holes, shares.weak_outline))
