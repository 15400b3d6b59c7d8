"""Rows to samples: decode, crop, mirror, stack."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.images.encode import encode_image
from pipelines.shards.reading import decode_row, load_size
from pipelines.training.generator.batch import Sample, augment, collate

SIZE = 16
CHANCE = st.lists(st.floats(0, 1, exclude_max=True), min_size=3, max_size=3).map(np.array)


def test_a_row_becomes_a_square_and_a_missing_target_stays_missing() -> None:
    row = {
        "source": encode_image(np.zeros((48, 36, 3), np.uint8), "png"),
        "target": None,
        "group": "background",
    }
    decoded = decode_row(row, SIZE)
    assert decoded["source"].shape == (SIZE, SIZE, 3)
    assert decoded["source"].dtype == np.uint8
    assert decoded["target"] is None


def test_only_cropped_groups_are_loaded_with_a_margin() -> None:
    assert load_size(256, "background", frozenset({"background"})) == 286
    assert load_size(256, "angle", frozenset({"background"})) == 256


@given(CHANCE, st.integers(0, 12), st.booleans())
def test_a_pair_is_cropped_and_mirrored_alike_and_mirrored_only_if_asked(
    chance: np.ndarray, margin: int, flip: bool
) -> None:
    """Property 18: augmentation is aligned across a pair, and the orientation stays unless asked."""
    image = np.arange((SIZE + margin) ** 2 * 3).reshape(SIZE + margin, SIZE + margin, 3)
    cropped = augment(image, SIZE, chance, flip)
    assert cropped.shape == (SIZE, SIZE, 3)
    np.testing.assert_array_equal(augment(image + 1, SIZE, chance, flip), cropped + 1)
    mirrored = flip and chance[2] < 0.5
    assert (np.diff(cropped[:, :, 0], axis=1) == (-3 if mirrored else 3)).all()


def test_crops_reach_every_corner() -> None:
    image = np.arange(18 * 18 * 3).reshape(18, 18, 3)
    corners = {
        int(augment(image, 16, np.array([u, v, 0]))[0, 0, 0])
        for u in (0, 0.5, 0.999)
        for v in (0, 0.5, 0.999)
    }
    assert len(corners) == 9


def test_collate_scales_to_plus_minus_one() -> None:
    samples = [
        Sample(np.full((4, 4, 3), v, np.uint8), np.zeros((4, 4, 3), np.uint8), 1, 2, True, False)
        for v in (0, 255)
    ]
    batch = collate(samples, torch.device("cpu"), torch.contiguous_format)
    assert batch.x.shape == (2, 3, 4, 4)
    assert batch.x[0].unique().tolist() == [-1.0]
    assert batch.x[1].unique().tolist() == [1.0]
    assert batch.group.tolist() == [1, 1]
    assert batch.type_.tolist() == [2, 2]
    assert batch.paired.tolist() == [1.0, 1.0]
    assert batch.unpaired.tolist() == [0.0, 0.0]
    assert batch.n_unpaired == 0


def test_samples_with_u_come_first_with_all_that_belongs_to_them() -> None:
    samples = [
        Sample(
            *(np.full((4, 4, 3), value, np.uint8) for value in (number, 9 - number)),
            number % 2,
            number,
            True,
            u,
        )
        for number, u in enumerate((False, True, False, True))
    ]
    samples[2] = samples[2]._replace(changed=np.full((4, 4), 255, np.uint8))
    batch = collate(samples, torch.device("cpu"), torch.contiguous_format)
    order = [1, 3, 0, 2]
    assert batch.n_unpaired == 2
    assert batch.unpaired.tolist() == [1, 1, 0, 0]
    assert batch.type_.tolist() == order
    assert batch.group.tolist() == [1, 1, 0, 0]
    for pixels, values in ((batch.x, order), (batch.y, [9 - number for number in order])):
        assert torch.round((pixels[:, 0, 0, 0] + 1) * 127.5).tolist() == values
    assert batch.truth is not None
    assert batch.truth.has_changed.tolist() == [0, 0, 0, 1]
