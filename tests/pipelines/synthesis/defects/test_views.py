import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.synthesis.defects.views import Frame, about, brought_to, moved, reduced, sampling_theta, seen


def waves(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    red, green = 128 + 100 * np.sin(x / 9.0), 128 + 100 * np.cos(y / 7.0)
    return np.rint(np.stack([red, green, (red + green) / 2], axis=-1)).astype(np.uint8)


def test_the_identity_leaves_a_picture_unchanged() -> None:
    picture = waves(40, 60)
    assert np.array_equal(seen(picture, np.eye(3), (60, 40)), picture)


def test_a_quarter_turn_of_a_square_is_exact() -> None:
    picture = waves(50, 50)
    matrix = moved((25, 25), (25, 25), degrees=90)
    assert np.abs(seen(picture, matrix, (50, 50)).astype(int) - np.rot90(picture)).max() <= 1


def test_a_mirrored_view_is_the_picture_mirrored() -> None:
    picture = waves(50, 50)
    assert np.array_equal(seen(picture, moved((25, 25), (25, 25), mirror=True), (50, 50)), picture[:, ::-1])


def test_a_much_smaller_picture_is_averaged_not_aliased() -> None:
    checks = np.kron(np.indices((64, 64)).sum(axis=0) % 2, np.ones((2, 2))).astype(np.uint8) * 255
    small = seen(checks, np.diag([1 / 8, 1 / 8, 1.0]), (16, 16))
    assert np.abs(small.astype(int) - 128).max() <= 2


def test_reducing_first_gives_the_same_view() -> None:
    picture, matrix = waves(120, 90), moved((45, 60), (20, 22), degrees=12, scale=0.4)
    small, rest = reduced(picture, matrix)
    assert small.shape == (48, 36, 3)
    corners = np.array([[0, 0, 1], [90, 120, 1]]).T
    assert np.allclose(matrix @ corners, rest @ np.diag([36 / 90, 48 / 120, 1.0]) @ corners)


@given(degrees=st.floats(-60, 60), scale=st.floats(0.5, 2), x=st.floats(-30, 30), y=st.floats(-30, 30))
def test_theta_samples_the_source_according_to_the_map(
    degrees: float, scale: float, x: float, y: float
) -> None:
    matrix = moved((32, 32), (32 + x, 32 + y), degrees, scale)
    theta = torch.from_numpy(sampling_theta(matrix, 64))
    grid = torch.nn.functional.affine_grid(theta[None], [1, 1, 64, 64], align_corners=False)[0].numpy()
    middle_of_first = (grid[0, 0] + 1) * 32
    assert np.allclose(middle_of_first, (matrix @ [0.5, 0.5, 1])[:2], atol=1e-3)


def test_a_view_may_be_a_homography() -> None:
    matrix = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.004, 1.0]])
    picture = np.full((40, 40, 3), 90, np.uint8)
    result = seen(picture, matrix, (40, 40), cv2.BORDER_CONSTANT, fill=255)
    assert result[-1].min() == 255, "the far end is drawn closer together"
    assert result[2, 2, 0] == 90


def test_pixels_of_a_stretched_portrait_are_shown_higher_than_wide() -> None:
    wide, high = Frame.of(60, 80, 64, "stretch").unit()
    assert high / wide == pytest.approx(80 / 60)
    assert wide * high == pytest.approx(1)
    assert Frame.of(60, 80, 64, "letterbox").pixels == (48, 64)


def test_a_map_about_a_point_leaves_it() -> None:
    matrix = about((7, 9), moved((0, 0), (0, 0), degrees=33))
    assert np.allclose(matrix @ [7, 9, 1], [7, 9, 1])
    assert np.allclose(brought_to((3, 4)) @ [0, 0, 1], [3, 4, 1])
