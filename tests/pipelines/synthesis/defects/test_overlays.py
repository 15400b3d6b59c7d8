import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.synthesis.defects.overlays import added_text, border_frame
from tests.defect_images import change, pictures, product_on_white


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@settings(deadline=None, max_examples=80)
@given(image=pictures(), seed=st.integers(0, 2**32))
def test_a_frame_is_near_the_edge_and_leaves_the_rest_unchanged(image: np.ndarray, seed: int) -> None:
    changed = change(image, border_frame(image, generator(seed)))
    height, width = changed.shape
    # Ornaments of an inset frame reach three insets of 6 % into the picture; a line is at least one pixel wide.
    deep = int(0.2 * min(height, width)) + 6
    if min(height, width) > 2 * deep:
        assert (changed[deep:-deep, deep:-deep] == 0).all()
    assert (changed >= 20).mean() >= 0.008


def test_frames_differ_in_colour_and_kind() -> None:
    clean = product_on_white(160, 120)
    frames = [change(clean, border_frame(clean, generator(seed))) > 0 for seed in range(40)]
    covered = [frame.mean() for frame in frames]
    assert min(covered) < 0.06
    assert max(covered) > 0.2
    assert any(not frame[0].any() for frame in frames), "none is inset"
    assert any(frame[0].all() and not frame[80, 0] for frame in frames), "none has bars above and below"
    colours = {tuple(border_frame(clean, generator(seed))[0, 60]) for seed in range(40)}
    assert len(colours) > 8


@settings(deadline=None, max_examples=80)
@given(image=pictures(), seed=st.integers(0, 2**32))
def test_text_stands_out_from_any_picture(image: np.ndarray, seed: int) -> None:
    changed = change(image, added_text(image, generator(seed)))
    assert changed.max() >= 40
    assert not changed.all(), "nothing of the picture is left"


def test_text_is_opaque_and_leaves_most_of_a_product_picture() -> None:
    clean = product_on_white(384, 288)
    shares = []
    for seed in range(40):
        changed = change(clean, added_text(clean, generator(seed)))
        shares.append(float((changed >= 20).mean()))
        assert changed.max() > 100
    assert min(shares) > 0.005
    assert 0.03 < np.median(shares) < 0.25
    assert max(shares) < 0.5


def test_text_has_many_positions_and_colours() -> None:
    clean = np.full((160, 120, 3), 255, np.uint8)
    texts = [added_text(clean, generator(seed)) for seed in range(60)]
    top = sum(bool((change(clean, text)[:8] > 100).mean() > 0.6) for text in texts)
    foot = sum(bool((change(clean, text)[-8:] > 100).mean() > 0.6) for text in texts)
    assert top >= 3
    assert foot >= 3
    assert any((text[:, :40] != 255).any() and not (text[:, 60:] != 255).any() for text in texts)
    assert len({tuple(np.median(text[(text != 255).any(axis=-1)], axis=0)) for text in texts}) > 15
