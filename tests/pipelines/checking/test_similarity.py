"""Copies correlate, different pictures do not."""

import numpy as np
import pytest

from pipelines.checking.hashes import luminance
from pipelines.checking.similarity import GREY_SIDE, SAME_PICTURE, similarity
from pipelines.images.decode import decode_image
from tests.checking_data import cropped, jpeg, texture


def grey(image: np.ndarray) -> np.ndarray:
    return luminance(image, GREY_SIDE)


@pytest.mark.parametrize("seed", range(4))
def test_a_copy_shows_the_same_picture_whichever_is_the_crop(seed: int) -> None:
    image = texture(seed)
    for copy in (decode_image(jpeg(image, 50)), (image * 0.7).astype(np.uint8), cropped(image, 0.06)):
        assert similarity(grey(image), grey(copy)) >= SAME_PICTURE
        assert similarity(grey(copy), grey(image)) >= SAME_PICTURE


def test_products_of_one_outline_are_not_the_same_picture() -> None:
    first, second = (np.full((120, 96, 3), 255, np.uint8) for _ in range(2))
    for image, seed in ((first, 1), (second, 2)):
        image[20:100, 20:76] = texture(seed)[20:100, 20:76] // 2
    assert similarity(grey(first), grey(second)) < SAME_PICTURE
    assert similarity(grey(first), grey(first)) == pytest.approx(1, abs=1e-6)


def test_flat_images_have_nothing_in_common() -> None:
    flat = np.full((GREY_SIDE, GREY_SIDE), 200, np.uint8)
    assert similarity(flat, flat) == 0
    assert similarity(grey(texture(0)), flat) == 0
