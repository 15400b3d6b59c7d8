import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.inference.detector_input import PAD, content, letterbox, shrink


@given(st.integers(16, 300), st.integers(16, 300))
def test_an_image_keeps_its_aspect_ratio_and_is_located_again(height: int, width: int) -> None:
    image = np.full((height, width, 3), 250, np.uint8)
    canvas = letterbox(image, 64)
    assert canvas.shape == (64, 64, 3)
    rows, columns = content(canvas)
    size = rows.stop - rows.start, columns.stop - columns.start
    assert max(size) == 64
    assert abs(size[0] - max(1, 64 * height / max(height, width))) <= 0.51
    assert abs(size[1] - max(1, 64 * width / max(height, width))) <= 0.51
    assert (canvas[rows, columns] == 250).all()
    canvas[rows, columns] = PAD
    assert (canvas == PAD).all()


def test_an_image_of_pure_border_grey_counts_as_content() -> None:
    assert content(np.full((8, 8, 3), PAD, np.uint8)) == (slice(0, 8), slice(0, 8))


def test_shrinking_halves() -> None:
    assert shrink(np.zeros((64, 64, 3), np.uint8), 32).shape == (32, 32, 3)
