import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.edits import Edit, identity_theta
from pipelines.inference.edits.apply import apply_edits
from pipelines.inference.edits.codec import encode_edits
from tests.catalogs import picture
from tests.pipelines.inference.edits.test_apply import random_edit

RED, GREEN = np.array([190, 40, 50]), np.array([30, 150, 70])


def soft_edge(height: int, width: int, place: float, softness: float) -> NDArray[np.float64]:
    """Opacity (height, width) of a product on the left, which ends at column `place` over `softness` columns."""
    columns = np.clip((place - np.arange(width) - 0.5) / softness + 0.5, 0, 1)
    return np.broadcast_to(columns, (height, width))


def mixed(opacity: NDArray[np.float64], product: NDArray[np.int_], ground: object) -> NDArray[np.uint8]:
    share = opacity[..., None]
    return np.rint(share * product + (1 - share) * np.asarray(ground)).astype(np.uint8)


def exact(opacity: NDArray[np.float64], side: int, paint: float = 1.0) -> list[dict[str, bytes]]:
    """The edit of `side` pixels that paints over all that is not product."""
    matte = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(1 - opacity)[None, None].float(), side)
    return encode_edits(Edit(identity_theta(1), torch.full((1, 3, side, side), paint), matte))


@settings(deadline=None, max_examples=20)
@given(
    ground=st.tuples(*[st.integers(0, 255)] * 3),
    softness=st.floats(1, 12),
    place=st.floats(80, 120),
    side=st.sampled_from([32, 64]),
)
def test_nothing_of_the_old_ground_is_left(
    ground: tuple[int, int, int], softness: float, place: float, side: int
) -> None:
    opacity = soft_edge(192, 192, place, softness)
    photo, target = mixed(opacity, RED, ground), mixed(opacity, RED, 255).astype(int)
    value = exact(opacity, side)
    before, after = apply_edits(photo, value), apply_edits(photo, value, [True])
    np.testing.assert_array_equal(before.matte, after.matte)
    # Of the matte that was found: what it lacks is another matter.
    perfect = mixed(1 - before.matte / 255, RED, 255).astype(int)
    wrong, left = np.abs(before.image - perfect).mean(), np.abs(after.image - perfect).mean()
    assert left <= 0.5 * wrong + 0.3
    assert np.abs(after.image - target).mean() <= np.abs(before.image - target).mean() + 0.3


def test_a_green_ground_leaves_no_green_fringe() -> None:
    opacity = soft_edge(256, 256, 130, 10)
    photo, value = mixed(opacity, RED, GREEN), exact(opacity, 64)
    soft = (opacity > 0.05) & (opacity < 0.95)
    target = mixed(opacity, RED, 255).astype(int)
    before, after = (
        np.abs(apply_edits(photo, value, backgrounds).image - target)[soft].mean()
        for backgrounds in (None, [True])
    )
    assert before > 15
    assert after < 7


@settings(deadline=None, max_examples=25)
@given(st.integers(10, 90), st.integers(10, 90), st.integers(0, 1000))
def test_what_is_wholly_product_or_wholly_ground_is_as_without(width: int, height: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    matte = torch.ones(1, 1, 8, 8)
    matte[..., :4], matte[..., 4] = 0, torch.rand(8, generator=generator)  # in one piece
    content = torch.rand(1, 3, 8, 8, generator=generator) * 2 - 1
    image, value = picture(seed, width, height), encode_edits(Edit(identity_theta(1), content, matte))
    before, after = apply_edits(image, value), apply_edits(image, value, [True])
    product, ground = after.matte == 0, after.matte == 255
    np.testing.assert_array_equal(after.image[product], image[product])
    np.testing.assert_array_equal(after.image[ground], before.image[ground])
    np.testing.assert_array_equal(after.matte, before.matte)


def test_wholly_ground_is_white_where_the_edit_paints_white() -> None:
    opacity = soft_edge(200, 200, 90, 6)
    edited = apply_edits(picture(3, 200, 200), exact(opacity, 64), [True])
    assert (edited.image[edited.matte == 255] == 255).all()


@pytest.mark.parametrize("share", [0.2, 0.45])
def test_a_matte_that_is_unsure_in_the_midst_of_a_product_changes_nothing_more(share: float) -> None:
    """No ground is to be seen nearby, so nothing can be said of what is behind."""
    image = picture(5, 200, 160)
    matte = torch.zeros(1, 1, 64, 64)
    matte[..., 24:40, 24:40] = share
    value = encode_edits(Edit(identity_theta(1), torch.ones(1, 3, 64, 64), matte))
    np.testing.assert_array_equal(apply_edits(image, value, [True]).image, apply_edits(image, value).image)


def test_ground_that_a_matte_takes_for_product_does_not_get_the_products_colour() -> None:
    """A matte that is soft far beyond the product's edge: what is ground by its colour is painted over as it is."""
    dark, light = np.array([40, 50, 90]), 225
    opacity = soft_edge(256, 256, 120, 1)
    photo = mixed(opacity, dark, light)
    value = exact(soft_edge(256, 256, 132, 24), 64)
    before, after = apply_edits(photo, value).image, apply_edits(photo, value, [True]).image
    beyond = np.arange(256) > 124
    assert np.abs(after.astype(int) - before)[:, beyond].max() <= 8


def test_repainted_pictures_are_left_alone() -> None:
    """The direct head paints everything, product and ground: there is no edge in its matte."""
    everything = Edit(identity_theta(1), torch.rand(1, 3, 32, 32) * 2 - 1, torch.ones(1, 1, 32, 32))
    image, value = picture(7, 120, 90), encode_edits(everything)
    np.testing.assert_array_equal(apply_edits(image, value, [True]).image, apply_edits(image, value).image)


def test_other_edits_are_as_they_were() -> None:
    image, values = picture(4, 90, 70), [random_edit(seed, moves=False) for seed in (1, 2)]
    np.testing.assert_array_equal(
        apply_edits(image, values, [False, False]).image, apply_edits(image, values).image
    )
    mixed_kinds = apply_edits(image, values, [False, True]).image
    np.testing.assert_array_equal(
        mixed_kinds, apply_edits(apply_edits(image, values[:1]).image, values[1:], [True]).image
    )
