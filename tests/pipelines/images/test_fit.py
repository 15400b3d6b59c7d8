import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.images.decode import decode_with_size
from pipelines.images.fit import fit_inside, fit_square, fitted_size, inner_slices, squared
from pipelines.images.resize import resize_bicubic
from tests.catalogs import picture
from tests.hostile_images import encode


def test_stretching_is_the_literal_resize() -> None:
    image = picture(1, 60, 44)
    np.testing.assert_array_equal(fit_square(image, (60, 44), 32, "stretch"), resize_bicubic(image, 32, 32))


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(4, 300))
def test_a_letterboxed_image_fills_one_side_and_keeps_its_shape(width: int, height: int, side: int) -> None:
    fitted = fitted_size(width, height, side, "letterbox")
    assert max(fitted) == side
    assert min(fitted) >= 1
    longer, shorter = max(width, height), min(width, height)
    assert abs(min(fitted) - max(1, shorter * side / longer)) <= 0.5
    rows, columns = inner_slices(fitted[1], fitted[0], side)
    assert 0 <= rows.start < rows.stop <= side
    assert 0 <= columns.start < columns.stop <= side
    assert abs(rows.start - (side - rows.stop)) <= 1
    assert abs(columns.start - (side - columns.stop)) <= 1


def test_a_letterboxed_image_has_white_beside_it() -> None:
    image = np.zeros((40, 20, 3), np.uint8)
    square = fit_square(image, (20, 40), 32, "letterbox")
    assert (square[:, 8:24] == 0).all()
    assert (square[:, :8] == 255).all()
    assert (square[:, 24:] == 255).all()
    np.testing.assert_array_equal(squared(square, 32), square)


@pytest.mark.parametrize("size", [(1001, 667), (333, 1000), (640, 640)])
def test_a_copy_that_was_decoded_smaller_gets_the_uploads_position(size: tuple[int, int]) -> None:
    """Training and correction decode at twice the side, evaluation at full size: all must agree."""
    data = encode(picture(2, *size), "PNG")
    small, known = decode_with_size(data, max_side=64)
    whole, _ = decode_with_size(data)
    assert known == size
    inner = [fit_inside(image, size, 32, "letterbox") for image in (small, whole)]
    assert inner[0].shape == inner[1].shape
    assert np.abs(inner[0].astype(int) - inner[1]).mean() < 3
