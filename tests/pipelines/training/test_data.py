"""Rows to semi-paired batches."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.encode import encode_image
from pipelines.label_map import LabelMap
from pipelines.training.data import batches, collate, crop_row, decode_row, load_size, semi_paired, shuffled

SIZE = 16
MAP = LabelMap.default()


def gradient(seed: int, height: int = 48, width: int = 36) -> np.ndarray:
    rng = np.random.default_rng(seed)
    base = np.linspace(0, 200, width)[None, :, None] + rng.integers(0, 50, size=3)
    return np.broadcast_to(base, (height, width, 3)).astype(np.uint8)


def row(index: int, defect: str, pairing: str = "paired", target: bool = True) -> dict:
    image = encode_image(gradient(index), "png")
    return {
        "image_id": f"p{index}",
        "source": image,
        "target": image if target else None,
        "pairing": pairing,
        "group": MAP.defects[defect].group,
        "defect": defect,
    }


def decoded(index: int, defect: str, pairing: str = "paired", target: bool = True) -> dict:
    """A decoded row whose target is filled with 10 * type + 1 and whose source is filled with its index."""
    value = 10 * MAP.defects[defect].id + 1
    return {
        **row(index, defect, pairing, target),
        "source": np.full((SIZE, SIZE, 3), index % 256, np.uint8),
        "target": np.full((SIZE, SIZE, 3), value, np.uint8) if target else None,
    }


def test_a_row_becomes_a_square_and_a_missing_target_stays_missing() -> None:
    found = decode_row(row(1, "watermark", "unpaired", target=False), SIZE)
    assert found["source"].shape == (SIZE, SIZE, 3)
    assert found["source"].dtype == np.uint8
    assert found["target"] is None


def test_only_cropped_groups_are_loaded_with_a_margin() -> None:
    assert load_size(256, "background", frozenset({"background"})) == 286
    assert load_size(256, "angle", frozenset({"background"})) == 256


@given(st.integers(0, 2**32), st.integers(0, 12))
def test_a_pair_is_cropped_at_one_place_and_never_mirrored(seed: int, margin: int) -> None:
    """Property 18: crops are aligned across a pair, and the orientation stays."""
    image = np.arange((SIZE + margin) ** 2 * 3).astype(np.uint32).reshape(SIZE + margin, SIZE + margin, 3)
    cropped = crop_row({"source": image, "target": image + 1}, SIZE, np.random.default_rng(seed))
    assert cropped["source"].shape == (SIZE, SIZE, 3)
    np.testing.assert_array_equal(cropped["target"], cropped["source"] + 1)
    assert (np.diff(cropped["source"][:, :, 0].astype(int), axis=1) == 3).all()


@given(st.integers(0, 200), st.integers(1, 50), st.integers(0, 2**32))
def test_shuffling_keeps_every_row_once(count: int, window: int, seed: int) -> None:
    rows = [{"index": index} for index in range(count)]
    found = list(shuffled(rows, window, np.random.default_rng(seed)))
    assert sorted(r["index"] for r in found) == list(range(count))


def test_shuffling_changes_the_order_and_follows_the_seed() -> None:
    rows = [{"index": index} for index in range(100)]
    orders = [[r["index"] for r in shuffled(rows, 40, np.random.default_rng(seed))] for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != list(range(100))


def test_an_unpaired_source_meets_only_real_targets_of_its_own_task() -> None:
    rows = []
    for index in range(60):
        defect = ("watermark", "non_white_background")[index % 2]
        rows.append(decoded(index, defect, *(("unpaired", False) if index % 5 == 0 else ("paired", True))))
    samples = list(semi_paired(rows, MAP, frozenset(), True, np.random.default_rng(0)))
    unpaired = [sample for sample in samples if not sample.paired]
    assert len(unpaired) >= 10
    for sample in unpaired:
        assert sample.unpaired
        assert sample.y[0, 0, 0] == 10 * sample.type + 1


def test_masks_follow_pairing_and_group() -> None:
    rows = [decoded(0, "watermark"), decoded(1, "wrong_angle"), decoded(2, "watermark", "unpaired", False)]
    samples = list(semi_paired(rows, MAP, frozenset({"background"}), True, np.random.default_rng(0)))
    assert [(s.group, s.type, s.paired, s.unpaired) for s in samples] == [
        (0, 1, True, True),
        (1, 2, True, False),
        (0, 1, False, True),
    ]


def test_unpaired_rows_are_left_out_where_no_term_uses_them() -> None:
    rows = [decoded(0, "watermark"), decoded(1, "watermark", "unpaired", False)]
    assert len(list(semi_paired(rows, MAP, frozenset(), False, np.random.default_rng(0)))) == 1


def test_batches_have_one_size_and_collate_scales_to_plus_minus_one() -> None:
    samples = list(
        semi_paired(
            [decoded(i, "wrong_angle") for i in (0, 255, 3)], MAP, frozenset(), True, np.random.default_rng(0)
        )
    )
    found = list(batches(samples, 2))
    assert [len(batch) for batch in found] == [2]
    batch = collate(found[0], torch.device("cpu"), torch.contiguous_format)
    assert batch.x.shape == (2, 3, SIZE, SIZE)
    assert batch.x[0].unique().tolist() == [-1.0]
    assert batch.x[1].unique().tolist() == [1.0]
    assert batch.group.tolist() == [1, 1]
    assert batch.type_.tolist() == [2, 2]
    assert batch.paired.tolist() == [1.0, 1.0]
    assert batch.unpaired.tolist() == [0.0, 0.0]
