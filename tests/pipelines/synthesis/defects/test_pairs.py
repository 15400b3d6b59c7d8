"""Tests of pairs made in training: the properties that training relies on, for drawn material with exact masks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ConfigurationError
from pipelines.synthesis.defects import pairs as module
from pipelines.synthesis.defects.angle import MAX_DEGREES, MIN_DEGREES
from pipelines.synthesis.defects.backgrounds import Backgrounds
from pipelines.synthesis.defects.foreground import on_white, over
from pipelines.synthesis.defects.pairs import MadePair, Material, draw_pair

KINDS = ("non_white_background", "watermark", "wrong_angle", "blur", "border_frame")
RED, GREEN = (200, 40, 50), (40, 150, 70)
FITS = ("stretch", "letterbox")


def waves(height: int, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    light = 1 + 0.15 * np.sin(x / 11 + y / 17)
    return np.clip(np.rint(light[..., None] * colour), 0, 245).astype(np.uint8)


def material(
    height: int = 120, width: int = 90, *, photo: bool = True, cut_off: bool = False, masked: bool = True
) -> Material:
    """Return a soft red rectangle on green, in the middle or reaching over the lower border."""
    y, x = np.mgrid[:height, :width]
    foot = height + 9 if cut_off else 0.8 * height
    inside = np.minimum.reduce([y - 0.25 * height, foot - y, x - 0.25 * width, 0.7 * width - x])
    alpha = np.rint(np.clip(inside / 3 + 0.5, 0, 1) * 255).astype(np.uint8)
    product = waves(height, width, RED)
    taken = over(product, alpha, waves(height, width, GREEN))
    return Material(on_white(product, alpha), alpha if masked else None, taken if photo else None)


def made(kind: str, seed: int, given_material: Material, size: int = 64, fit: str = "stretch") -> MadePair:
    return draw_pair(kind, given_material, Backgrounds(), size, fit, np.random.default_rng(seed)).squared(
        size
    )


@st.composite
def materials(draw: st.DrawFn) -> Material:
    return material(
        draw(st.integers(40, 160)),
        draw(st.integers(40, 160)),
        photo=draw(st.booleans()),
        cut_off=draw(st.booleans()),
        masked=draw(st.booleans()),
    )


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    given_material=materials(),
    size=st.sampled_from([48, 64, 96]),
    fit=st.sampled_from(FITS),
    seed=st.integers(0, 2**32),
)
def test_properties_of_every_pair(
    kind: str, given_material: Material, size: int, fit: str, seed: int
) -> None:
    before = [None if part is None else part.copy() for part in given_material]
    pair = made(kind, seed, given_material, size, fit)
    assert all(
        part is None or np.array_equal(part, kept) for part, kept in zip(given_material, before, strict=True)
    )
    assert pair.source.shape == pair.target.shape == (size, size, 3)
    assert pair.changed.shape == (size, size)
    assert pair.source.dtype == pair.target.dtype == pair.changed.dtype == np.uint8
    same = pair.changed == 0
    assert np.array_equal(pair.source[same], pair.target[same])
    assert pair.theta is None or (pair.theta.shape == (2, 3) and pair.theta.dtype == np.float32)
    again = made(kind, seed, given_material, size, fit)
    for one, other in zip(pair, again, strict=True):
        assert one is other is None or np.array_equal(one, other)


@settings(max_examples=40, deadline=None)
@given(given_material=materials(), fit=st.sampled_from(FITS), seed=st.integers(0, 2**32))
def test_a_corrected_background_is_white_outside_the_product(
    given_material: Material, fit: str, seed: int
) -> None:
    pair = made("non_white_background", seed, given_material, 64, fit)
    assert (pair.target[pair.changed == 255] == 255).all()


@settings(max_examples=40, deadline=None)
@given(given_material=materials(), fit=st.sampled_from(FITS), seed=st.integers(0, 2**32))
def test_theta_samples_the_target_from_the_source(given_material: Material, fit: str, seed: int) -> None:
    pair = made("wrong_angle", seed, given_material, 96, fit)
    if pair.theta is None:
        return
    # Pixels outside of the source are white.
    source = torch.from_numpy(pair.source.astype(np.float32) - 255).permute(2, 0, 1)[None]
    grid = torch.nn.functional.affine_grid(
        torch.from_numpy(pair.theta)[None], source.shape, align_corners=False
    )
    sampled = (
        torch.nn.functional.grid_sample(source, grid, align_corners=False)[0].permute(1, 2, 0).numpy() + 255
    )
    product = pair.target.min(axis=-1) < 250
    if module._is_cut_off(255 * product.astype(np.uint8)):
        return  # corners that the turn moved out of the picture cannot come back
    difference = np.abs(sampled - pair.target)
    assert difference.mean() < 4  # noise after two interpolations
    assert np.quantile(difference[product], 0.5, axis=0).max() < 4


def test_turns_are_within_the_limits_of_wrong_angles() -> None:
    turned = []
    for seed in range(60):
        theta = made("wrong_angle", seed, material(100, 80), 64, "letterbox").theta
        if theta is not None and not np.array_equal(theta, np.eye(3, dtype=np.float32)[:2]):
            turned.append(abs(np.degrees(np.arctan2(theta[1, 0], theta[0, 0]))))
    assert len(turned) > 35
    assert min(turned) >= MIN_DEGREES - 1e-3
    assert max(turned) <= MAX_DEGREES + 1e-3
    assert max(turned) - min(turned) > 15


def test_turned_goods_stay_in_the_picture() -> None:
    for seed in range(40):
        pair = made("wrong_angle", seed, material(100, 100), 96)
        border = np.concatenate([pair.source[0], pair.source[-1], pair.source[:, 0], pair.source[:, -1]])
        assert (border.min(axis=-1) > 225).mean() > 0.97


@pytest.mark.parametrize("kind", ["non_white_background", "watermark", "wrong_angle"])
def test_a_few_sources_have_no_defect(kind: str) -> None:
    pairs = [made(kind, seed, material(60, 50), 32) for seed in range(200)]
    clean = [pair for pair in pairs if not pair.changed.any()]
    assert 0.01 <= len(clean) / len(pairs) <= 0.1
    assert all(np.array_equal(pair.source, pair.target) for pair in clean)


def test_half_of_the_background_sources_are_the_photo_itself() -> None:
    green = 0
    for seed in range(100):
        pair = made("non_white_background", seed, material())
        product = pair.changed == 0
        assert product.mean() > 0.02
        background = pair.source[pair.changed == 255].astype(int)
        if background.size:
            green += bool((background[:, 1] > background[:, 0] + 15).mean() > 0.9)
    assert 35 < green < 75


def test_no_rim_of_the_old_background_is_left() -> None:
    """Soft edges of a red product cut out of green are between red and white."""
    worst = []
    for seed in range(30):
        pair = made("non_white_background", seed, material(), 96)
        edge = (pair.changed > 40) & (pair.changed < 215)
        if edge.any():
            target = pair.target[edge].astype(int)
            product = np.median(pair.target[pair.changed == 0], axis=0)
            alpha = (255 - pair.changed[edge].astype(float)) / 255
            perfect = 255 - alpha[:, None] * (255 - product)
            worst.append(np.abs(target - perfect).mean())
    assert np.mean(worst) < 12


def test_products_that_the_photo_cuts_off_stay_cut_off() -> None:
    for seed in range(40):
        pair = made("non_white_background", seed, material(photo=False, cut_off=True))
        if pair.changed.any():
            assert (pair.changed[-1] < 128).any(), "the cut is not shown inside of the picture"


def test_products_on_other_backgrounds_vary_in_position_and_size() -> None:
    shares = []
    for seed in range(60):
        pair = made("non_white_background", seed, material(photo=False))
        if pair.changed.any():
            shares.append((pair.changed < 128).mean())
    assert min(shares) < 0.25
    assert max(shares) > 0.5


def test_watermarks_are_on_white_on_photos_and_on_other_backgrounds() -> None:
    kinds = {"white": 0, "green": 0, "other": 0}
    for seed in range(120):
        target = made("watermark", seed, material()).target
        border = np.concatenate([target[0], target[-1], target[:, 0], target[:, -1]]).astype(int)
        white = (border.min(axis=-1) > 250).mean() > 0.9
        green = (border[:, 1] > border[:, 0] + 15).mean() > 0.8
        kinds["white" if white else "green" if green else "other"] += 1
    assert min(kinds.values()) > 15


def test_letterboxes_are_white_beside_the_picture_on_both_sides() -> None:
    for kind in KINDS:
        pair = made(kind, 3, material(120, 60), 64, "letterbox")
        for side in (pair.source, pair.target):
            assert (side[:, :10] == 255).all()
        assert (pair.changed[:, :10] == 0).all()


def test_other_syntheses_are_applied_directly() -> None:
    pair = made("border_frame", 5, material())
    assert pair.theta is None
    assert pair.changed[0].max() > 100
    assert np.array_equal(pair.source[30:34, 30:34], pair.target[30:34, 30:34])


def test_a_mask_that_is_not_given_is_estimated_from_the_target() -> None:
    clean = material(masked=False, photo=False)
    changes = [made("non_white_background", seed, clean).changed for seed in range(12)]
    shares = [(changed < 128).mean() for changed in changes if changed.any()]
    assert len(shares) > 8
    assert 0.05 < min(shares) < 0.4


def test_an_empty_mask_is_allowed() -> None:
    empty = material()._replace(mask=np.zeros((120, 90), np.uint8))
    for kind in KINDS:
        for seed in range(6):
            assert made(kind, seed, empty).source.shape == (64, 64, 3)


def test_parts_of_different_sizes_are_refused() -> None:
    wrong = material()._replace(mask=np.zeros((3, 4), np.uint8))
    with pytest.raises(ValueError, match=r"\(120, 90\)"):
        made("watermark", 0, wrong)


def test_unknown_syntheses_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no synthesis of defect 'scratches'"):
        made("scratches", 0, material())
