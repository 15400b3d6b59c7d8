import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.synthesis.defects.marking import LAYERS, MAX_OPACITY, add_mark, layer

SQUARE = (1.0, 1.0)


def goods_in_a_corner(side: int = 128) -> np.ndarray:
    goods = np.zeros((side, side), np.uint8)
    goods[: side // 3, : side // 3] = 255
    return goods


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), height=st.integers(20, 140), width=st.integers(20, 140))
def test_a_mark_changes_only_what_it_reports(seed: int, height: int, width: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    goods = np.full((height, width), 255, np.uint8)
    before = image.copy()
    marked, changed = add_mark(image, goods, SQUARE, np.random.default_rng(seed))
    assert np.array_equal(image, before)
    assert marked.shape == image.shape
    assert marked.dtype == changed.dtype == np.uint8
    difference = np.abs(marked.astype(int) - image).max(axis=-1)
    assert ((changed > 0) == (difference > 0)).all()
    assert difference.max() <= MAX_OPACITY * 255 + 1
    again = add_mark(image, goods, SQUARE, np.random.default_rng(seed))
    assert np.array_equal(again.image, marked)


def test_most_marks_lie_on_the_goods() -> None:
    goods = goods_in_a_corner()
    image = np.full((128, 128, 3), 128, np.uint8)
    hit, density = 0, 0.0
    for seed in range(150):
        changed = add_mark(image, goods, SQUARE, np.random.default_rng(seed)).changed > 64
        hit += bool(changed[goods > 0].any())
        density += float(changed[goods > 0].mean()) / max(float(changed.mean()), 1e-6)
    assert hit > 130
    assert density / 150 > 2, "denser on the goods than elsewhere"


def test_marks_can_be_seen() -> None:
    rng = np.random.default_rng(0)
    for level in (0, 128, 255):
        image = np.full((128, 128, 3), level, np.uint8)
        made = [add_mark(image, np.full((128, 128), 255, np.uint8), SQUARE, rng).changed for _ in range(60)]
        assert np.mean([(changed > 100).mean() > 0.003 for changed in made]) > 0.8


def test_a_layer_is_a_function_of_its_number() -> None:
    numbers = range(0, LAYERS, 67)
    first = [layer(number).coverage for number in numbers]
    layer.cache_clear()
    assert all(
        np.array_equal(layer(number).coverage, kept) for number, kept in zip(numbers, first, strict=True)
    )
    assert len({kept.tobytes() for kept in first}) == len(first)
    assert all(kept.max() == 255 for kept in first)


def test_patterns_continue_without_a_seam() -> None:
    cell = next(layer(number) for number in range(LAYERS) if layer(number).tiled)
    twice = np.tile(cell.coverage, (2, 2))
    height, width = cell.coverage.shape
    # At the seam of two cells, neighbours differ no more than inside one.
    within = np.abs(np.diff(twice[:height, :width].astype(int), axis=1)).mean(axis=0).max()
    seam = np.abs(twice[:, width].astype(int) - twice[:, width - 1]).mean()
    assert seam <= within


def test_letters_of_a_stretched_picture_are_stretched() -> None:
    goods = np.full((128, 128), 255, np.uint8)
    image = np.full((128, 128, 3), 128, np.uint8)
    spans = []
    for unit in ((0.5, 2.0), (2.0, 0.5)):
        wide, high = [], []
        for seed in range(40):
            rows, columns = np.nonzero(add_mark(image, goods, unit, np.random.default_rng(seed)).changed > 64)
            wide.append(columns.std() if columns.size else 0)
            high.append(rows.std() if rows.size else 0)
        spans.append(np.mean(wide) / np.mean(high))
    assert spans[0] > 1.5 * spans[1], "narrow pixels need more of them for the same width"
