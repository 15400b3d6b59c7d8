"""Marks as pictures of coverage: about as large as asked, drawn smoothly, the same for the same seed."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.synthesis.defects.marks import (
    MIN_LOGO,
    lettering_mark,
    logo_mark,
    logo_with_name,
    star_points,
)

MAKERS = (lettering_mark, logo_mark, logo_with_name)


def cover(mark: Image.Image) -> np.ndarray:
    assert mark.mode == "L"
    return np.asarray(mark)


@settings(max_examples=60)
@given(st.sampled_from(MAKERS), st.floats(30, 400), st.integers(0, 2**32))
def test_the_same_seed_draws_the_same_mark_and_there_is_always_one(maker, size: float, seed: int) -> None:
    one, again = (cover(maker(size, np.random.default_rng(seed))) for _ in range(2))
    assert np.array_equal(one, again)
    assert one.max() > 100
    assert (one == 0).mean() > 0.05  # letters and lines, not a filled box


@settings(max_examples=60)
@given(st.floats(1, 400), st.integers(0, 2**32))
def test_a_logo_is_a_square_of_the_size_that_was_asked_for(side: float, seed: int) -> None:
    mark = logo_mark(side, np.random.default_rng(seed))
    assert mark.size == (max(MIN_LOGO, int(side)),) * 2


@settings(max_examples=60)
@given(st.floats(120, 500), st.integers(0, 2**32))
def test_lettering_is_about_as_wide_as_asked_and_the_logo_stands_above_its_middle(
    width: float, seed: int
) -> None:
    name = lettering_mark(width, np.random.default_rng(seed))
    assert 0.75 * width < name.width < 1.4 * width  # a box adds a third of the letters' height on each side
    both = cover(logo_with_name(width, np.random.default_rng(seed)))
    assert both.shape[1] == name.width
    assert both.shape[0] > name.height + 0.3 * name.width
    assert np.array_equal(both[-name.height :], cover(name))
    columns = np.flatnonzero(both[: -name.height].any(0))
    assert abs((columns[0] + columns[-1]) / 2 - name.width / 2) < 0.1 * name.width


@given(st.floats(10, 1000), st.integers(3, 30), st.floats(0.1, 0.95))
def test_a_star_has_its_points_on_a_circle_and_its_notches_on_a_smaller_one(
    full: float, points: int, inner: float
) -> None:
    corners = np.array(star_points(full, points, inner)) - full / 2
    reach = np.hypot(*corners.T)
    np.testing.assert_allclose(reach[::2], full / 2 - 1)
    np.testing.assert_allclose(reach[1::2], inner * (full / 2 - 1))
    assert len(corners) == 2 * points
    assert corners[0][1] == -(full / 2 - 1)  # the first points up
