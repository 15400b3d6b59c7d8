import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.synthesis.defects import rotate, tilt, wrong_angle
from pipelines.synthesis.defects.angle import slanted, transform
from tests.defect_images import change, disc_on_white, product_on_white


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def smooth_picture(height: int, width: int) -> np.ndarray:
    """Return a product with soft edges, far from the border, so that interpolation loses nothing."""
    y = np.linspace(-1, 1, height)[:, None] * height / max(height, width)
    x = np.linspace(-1, 1, width)[None, :] * width / max(height, width)
    blob = np.exp(-((x / 0.35) ** 2) - (y / 0.2) ** 4)
    return (255 - blob[..., None] * np.array([60, 140, 200])).astype(np.uint8)


def axis_degrees(image: np.ndarray) -> float:
    """Return the direction of the dark product's longest axis, counter-clockwise from horizontal, in (-90, 90]."""
    weight = 255.0 - image.mean(axis=-1)
    y, x = np.indices(weight.shape)
    x, y = x - (weight * x).sum() / weight.sum(), y - (weight * y).sum() / weight.sum()
    xx, yy, xy = ((weight * product).sum() for product in (x * x, y * y, x * y))
    return float(np.degrees(-0.5 * np.arctan2(2 * xy, xx - yy)))


@settings(deadline=None, max_examples=15)
@given(degrees=st.floats(-40, 40), height=st.sampled_from([160, 213]), width=st.sampled_from([160, 213]))
def test_a_turn_by_a_known_angle_is_undone_by_its_opposite(degrees: float, height: int, width: int) -> None:
    image = smooth_picture(height, width)
    back = rotate(rotate(image, degrees), -degrees)
    inner = slice(20, -20)
    # Two interpolations and two roundings: at most 5 for angles in steps of half a degree. An error of a degree gives
    # 7.
    assert np.abs(back[inner, inner].astype(int) - image[inner, inner]).max() <= 6


def test_rotation_is_counter_clockwise_about_the_centre_and_white_outside() -> None:
    image = np.zeros((101, 101, 3), np.uint8)
    image[50, 90] = 255
    assert np.array_equal(rotate(image, 90.0, fill=0), np.rot90(image))
    corners = rotate(image, 45.0)[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 255).all()


def test_rotation_keeps_shapes_in_pictures_that_are_not_square() -> None:
    y, x = np.mgrid[:120, :300]
    disc = np.where(np.hypot(x - 149.5, y - 59.5) < 40, 0, 255).astype(np.uint8)
    image = np.repeat(disc[..., None], 3, axis=2)
    # Only pixels within the reach of bicubic interpolation from its edge may change.
    far = np.abs(np.hypot(x - 149.5, y - 59.5) - 40) > 3
    assert np.array_equal(rotate(image, 30.0)[far], image[far])


def test_tilt_is_between_its_limits_and_goes_in_both_directions() -> None:
    image = smooth_picture(213, 213)
    angles = [axis_degrees(tilt(image, generator(seed))) - axis_degrees(image) for seed in range(30)]
    assert all(7.5 <= abs(angle) <= 30.5 for angle in angles)
    assert 8 <= sum(angle > 0 for angle in angles) <= 22
    assert max(map(abs, angles)) - min(map(abs, angles)) > 10
    narrow = tilt(image, generator(1), min_degrees=3.0, max_degrees=4.0)
    assert 2.5 <= abs(axis_degrees(narrow) - axis_degrees(image)) <= 4.5
    assert narrow.shape == image.shape


def test_a_slanted_plane_keeps_its_middle_and_converges_away_from_the_viewer() -> None:
    projection = slanted(20.0, 0.0, 300.0)
    top = projection @ [[-50.0, 50.0], [-100.0, -100.0], [1.0, 1.0]]
    bottom = projection @ [[-50.0, 50.0], [100.0, 100.0], [1.0, 1.0]]
    wide = [float(np.ptp(edge[0] / edge[2])) for edge in (top, bottom)]
    # x' = x d / (d + y sin a)
    expected = [100 * 300 / (300 + y * np.sin(np.radians(20.0))) for y in (-100, 100)]
    assert wide == pytest.approx(expected)
    assert np.allclose(projection @ [0.0, 0.0, 1.0], [0.0, 0.0, 1.0])
    assert np.allclose(slanted(0.0, 35.0, 300.0), np.eye(3))
    sideways = slanted(20.0, 90.0, 300.0) @ [[100.0, 100.0], [-50.0, 50.0], [1.0, 1.0]]
    assert float(np.ptp(sideways[1] / sideways[2])) != pytest.approx(100.0, abs=5)


@pytest.mark.parametrize(("height", "width"), [(160, 213), (101, 64)])
def test_a_homography_that_only_turns_is_a_rotation(height: int, width: int) -> None:
    image = smooth_picture(height, width)
    cosine, sine = np.cos(np.radians(17.0)), np.sin(np.radians(17.0))
    turn = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    assert change(transform(image, turn), rotate(image, 17.0)).max() <= 2


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), height=st.integers(64, 160), ratio=st.floats(0.7, 1.4))
def test_goods_inside_the_picture_keep_their_corners_in_it(seed: int, height: int, ratio: float) -> None:
    width = int(ratio * height)
    image = np.full((height, width, 3), 255, np.uint8)
    image[2:-2, 2:-2] = 90  # as large as can be
    patch = height // 6
    corners = [(slice(2, 2 + patch), slice(-2 - patch, -2))[i] for i in (0, 1)]
    colours = {(0, 0): (200, 0, 0), (0, 1): (0, 160, 0), (1, 0): (0, 0, 200), (1, 1): (180, 160, 0)}
    for (down, right), colour in colours.items():
        image[corners[down], corners[right]] = colour
    result = wrong_angle(image, generator(seed)).astype(int)
    for colour in colours.values():
        share = (np.abs(result - np.array(colour)).max(axis=-1) < 30).sum() / patch**2
        # MIN_SCALE squared is 0.36 of the area; a slant takes up to half of the farthest corner.
        assert share > 0.14


def test_wrong_angles_are_turned_or_seen_at_a_slant_or_both() -> None:
    image = smooth_picture(213, 213)
    angles = [
        abs(axis_degrees(wrong_angle(image, generator(seed))) - axis_degrees(image)) for seed in range(60)
    ]
    assert max(angles) < 40  # perspective turns axes by a little more
    assert 5 <= sum(angle < 7.5 for angle in angles) <= 25, "about one in five is hardly turned"
    disc = disc_on_white(201, 70)
    squeezed = 0
    for seed in range(60):
        goods = wrong_angle(disc, generator(seed)).min(axis=-1) < 140
        spread = [np.std(axis) for axis in np.nonzero(goods)]
        squeezed += abs(spread[0] / spread[1] - 1) > 0.02
    assert 20 <= squeezed <= 45, "about half are seen at a slant; turning alone keeps a disc round"


def test_the_surroundings_stay_white_and_a_blank_picture_blank() -> None:
    blank = np.full((50, 70, 3), 255, np.uint8)
    results = [wrong_angle(product_on_white(80, 60), generator(seed)) for seed in range(20)]
    assert all((image[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all() for image in results)
    assert all(np.array_equal(wrong_angle(blank, generator(seed)), blank) for seed in range(5))
