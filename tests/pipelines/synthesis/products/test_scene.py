import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.synthesis.defects import composite_on_white, rotate
from pipelines.synthesis.products import PRODUCT_TYPES, Scene, draw_scene
from pipelines.synthesis.products.canvas import Canvas, Placement
from pipelines.synthesis.products.scene import DESIGNS


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(f"scene-{index}", 3) for index in range(16)]


def test_the_photo_shows_the_targets_product_and_the_mask_is_exact(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.photo.shape == scene.product.shape == (*scene.mask.shape, 3)
        assert scene.photo.dtype == scene.product.dtype == np.uint8
        assert scene.mask.dtype == np.float32
        inside, outside = scene.mask == 1, scene.mask == 0
        assert inside.mean() > 0.02
        assert np.array_equal(scene.photo[inside], scene.product[inside])
        assert (scene.product[outside] == 255).all()
        levels = scene.mask * 255
        assert np.abs(levels - np.rint(levels)).max() < 1e-4, "an 8-bit mask file would not be exact"
        # The composite of the photo is right except in the rim, which contains some of the background's colour.
        composite = composite_on_white(scene.photo, scene.mask).astype(int)
        rim = ~inside & ~outside
        assert np.abs(composite - scene.product)[~rim].max() <= 1
        assert rim.mean() < 0.12


def test_no_product_touches_the_border(scenes: list[Scene]) -> None:
    for scene in scenes:
        border = np.concatenate([scene.mask[[0, -1]].ravel(), scene.mask[:, [0, -1]].ravel()])
        assert border.max() == 0


def test_backgrounds_are_neither_white_nor_flat(scenes: list[Scene]) -> None:
    for scene in scenes:
        background = scene.photo[scene.mask == 0].astype(float)
        assert (background > 250).all(axis=-1).mean() < 0.6
        assert background.std(axis=0).max() > 2


def test_goods_cast_shadows(scenes: list[Scene]) -> None:
    darker = 0
    for scene in scenes:
        near = np.zeros(scene.mask.shape, bool)
        for step in range(1, 7):
            for axis in (0, 1):
                near |= (np.roll(scene.mask, step, axis) > 0.5) | (np.roll(scene.mask, -step, axis) > 0.5)
        near &= scene.mask == 0
        far = (scene.mask == 0) & ~near
        darker += bool(scene.photo[near].mean() < scene.photo[far].mean())
    assert darker >= 0.75 * len(scenes)


def test_sizes_and_aspects_vary(scenes: list[Scene]) -> None:
    sizes = [scene.mask.shape for scene in scenes]
    assert all(384 <= max(size) <= 512 for size in sizes)
    assert {round(width / height, 1) for height, width in sizes} == {0.8, 1.0, 1.3}


@settings(deadline=None, max_examples=4)
@given(st.text(max_size=12), st.integers(-3, 2**40))
def test_same_id_and_seed_same_pixels(image_id: str, seed: int) -> None:
    first, second = draw_scene(image_id, seed), draw_scene(image_id, seed)
    assert first.product_type == second.product_type
    for name in ("photo", "product", "mask"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    other = draw_scene(image_id, seed + 1)
    assert other.photo.shape != first.photo.shape or not np.array_equal(other.photo, first.photo)


@pytest.mark.parametrize(("image_id", "degrees"), [("tilted-1", 25.0), ("tilted-2", -30.0)])
def test_a_tilted_scene_is_the_upright_one_turned(image_id: str, degrees: float) -> None:
    upright = draw_scene(image_id, 1, room_degrees=30)
    tilted = draw_scene(image_id, 1, degrees, 30)
    assert tilted.product_type == upright.product_type
    turned = rotate(upright.product, degrees).astype(int)
    assert np.abs(turned - tilted.product).mean() < 2
    flat = np.abs(np.gradient(upright.mask)).sum(axis=0) > 0
    assert flat.any()
    border = np.concatenate([tilted.mask[[0, -1]].ravel(), tilted.mask[:, [0, -1]].ravel()])
    assert border.max() == 0, "cut off by the frame"
    assert np.array_equal(tilted.photo[tilted.mask == 1], tilted.product[tilted.mask == 1])


@pytest.mark.parametrize("product_type", PRODUCT_TYPES)
def test_products_fill_their_extent_and_have_shape_and_shading(product_type: str) -> None:
    looks = []
    for seed in range(3):
        design = DESIGNS[product_type](np.random.default_rng(seed))
        left, top, right, bottom = design.extent
        scale = 200 / max(right - left, bottom - top)
        margin = 20
        canvas = Canvas(
            round(scale * (bottom - top)) + 2 * margin,
            round(scale * (right - left)) + 2 * margin,
            Placement(margin - left * scale, margin - top * scale, scale),
        )
        design.paint(canvas)
        rows, columns = (np.flatnonzero((canvas.coverage > 0.5).any(axis=axis)) for axis in (1, 0))
        for first, last, size in (
            (rows[0], rows[-1], canvas.height),
            (columns[0], columns[-1], canvas.width),
        ):
            assert first >= margin - 3, "reaches beyond its extent"
            assert last <= size - margin + 3, "reaches beyond its extent"
        box = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        assert box > 0.75 * (canvas.height - 2 * margin) * (canvas.width - 2 * margin), "extent is too large"
        solid = canvas.coverage == 1
        assert 0.1 < solid.sum() / box < 0.93, "a rectangle"
        colour = canvas.colour((slice(None), slice(None)))
        assert len(np.unique((colour[solid] * 64).astype(int), axis=0)) > 40, "flat"
        looks.append(colour[solid].mean(axis=0))
    assert np.ptp(looks, axis=0).max() > 0.03
