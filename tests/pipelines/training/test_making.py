"""Pairs that are made anew in every epoch: the same in any process, never from the test split."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import ConfigurationError
from model.recipes import MethodConfig, method_config
from pipelines.contracts.schemas import SHARD
from pipelines.contracts.splits import split_of
from pipelines.images.encode import encode_image, encode_mask
from pipelines.inference.detector_input import content
from pipelines.shards.index import MADE, PAIRED, SOURCE, TEST, Index, build_index
from pipelines.shards.reading import Decoding, Order, is_made
from pipelines.shards.source import TrainingSource, open_source
from pipelines.training.detector.decoding import SampleDecoding
from pipelines.training.detector.samples import SampleConfig
from pipelines.training.feed.batches import batches, load_here
from pipelines.training.feed.on_ray import decode_orders, unpack
from pipelines.training.feed.order import Draw, Row, SamplingConfig, WorkerEpoch
from pipelines.training.generator.loop import Training
from pipelines.training.plan import find_making
from tests.pipelines.training.builders import run, settings
from tests.training_data import write_dataset

DEFECTS = {"non_white_background": "background", "watermark": "background", "wrong_angle": "angle"}
SIDE = 64


def rows() -> list[dict[str, object]]:
    """Return rows of photos with masks, as preparation writes them: fixed pairs in the test split, others made anew."""
    made: list[dict[str, object]] = []
    for number in range(24):
        rng = np.random.default_rng(number)
        mask = np.zeros((80, 60), np.uint8)
        mask[20:60, 15:45] = 255
        photo = np.full((80, 60, 3), rng.integers(40, 200, 3), np.uint8)
        photo[mask > 0] = rng.integers(0, 120, 3)
        target = np.where(mask[..., None] > 0, photo, 255).astype(np.uint8)
        image_id = f"photo{number}"
        held_back = split_of(image_id) == "test"
        for defect, group in DEFECTS.items():
            shows = defect == "non_white_background"
            coded = encode_image(photo)
            made.append(
                {
                    "image_id": image_id,
                    "source": coded if shows or held_back else None,
                    "target": encode_image(target),
                    "mask": None if held_back else encode_mask(mask),
                    "photo": None if shows or held_back else coded,
                    "pairing": "paired",
                    "group": group,
                    "defect": defect,
                    "product_type": "shirt",
                    "split": split_of(image_id),
                }
            )
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingSource:
    folder = write_dataset(tmp_path_factory.mktemp("making") / "set")
    source = open_source([str(folder)])
    table = rows()
    for shard, part in zip(source.shards, (table[:36], table[36:]), strict=True):
        pq.write_table(pa.Table.from_pylist(part, SHARD), shard, row_group_size=9)
    return replace(source, syntheses={name: name for name in DEFECTS})


@pytest.fixture(scope="module")
def index(data: TrainingSource) -> Index:
    return build_index(data.shards, data.label_map)


@pytest.fixture(scope="module")
def decoding(data: TrainingSource, index: Index, tmp_path_factory: pytest.TempPathFactory) -> Decoding:
    making = find_making(data, index, seed=0)
    assert making.backgrounds
    return settings(tmp_path_factory.mktemp("out"), image_size=SIDE, making=making).decoding


def pixels(decoding: Decoding, order: Order) -> list[np.ndarray]:
    return [row.source for row in decoding(order) if row.source is not None]


def test_rows_without_a_source_are_pairs_to_be_made(index: Index) -> None:
    made = index.kinds & MADE > 0
    assert made.any()
    assert (index.kinds[made] & (PAIRED | SOURCE) == PAIRED | SOURCE).all()
    assert not (made & index.of_split(TEST)).any()


def test_a_pair_is_a_function_of_seed_epoch_turn_and_row(data: TrainingSource, decoding: Decoding) -> None:
    order = Order(data.shards[0], 0, tuple(range(9)), epoch=1)
    once = pixels(decoding, order)
    assert all(np.array_equal(a, b) for a, b in zip(once, pixels(decoding, order), strict=True))
    alone = [image for row in range(9) for image in pixels(decoding, replace(order, rows=(row,)))]
    assert all(np.array_equal(a, b) for a, b in zip(once, alone, strict=True))
    making = decoding.making
    assert making is not None
    others = (
        pixels(decoding, replace(order, epoch=2)),
        pixels(decoding, replace(order, turn=1)),
        pixels(replace(decoding, making=replace(making, seed=1)), order),
    )
    kinds = [is_made(row) for row in pq.ParquetFile(data.shards[0]).read_row_group(0).to_pylist()]
    for other in others:
        different = [not np.array_equal(a, b) for a, b in zip(once, other, strict=True)]
        # Two draws of one row are alike with a probability of about a tenth, for example if both leave it clean.
        assert sum(different) >= sum(kinds) - 2
        assert not any(changed for changed, made in zip(different, kinds, strict=True) if not made)


def test_images_and_truth_are_squares_of_the_training_s_size(
    data: TrainingSource, decoding: Decoding
) -> None:
    for row in decoding(Order(data.shards[0], 1, tuple(range(9)), epoch=3)):
        assert row.source is not None
        assert row.target is not None
        assert row.source.shape == row.target.shape == (SIDE, SIDE, 3)
        if row.changed is not None:
            assert row.changed.shape == (SIDE, SIDE)
            assert np.array_equal(row.source[row.changed == 0], row.target[row.changed == 0]) or (
                row.theta is not None
            )


def test_rows_from_tasks_arrive_unchanged(data: TrainingSource, decoding: Decoding) -> None:
    order = Order(data.shards[0], 0, tuple(range(9)), epoch=1, turn=2)
    here = list(decoding(order))
    text = json.dumps(vars(order))
    tables = decode_orders(pa.table({"item": [text]}), decoding)
    there = [row for table in tables for row in unpack(table)]
    assert len(here) == len(there)
    for one, other in zip(here, there, strict=True):
        for name in ("source", "target", "changed", "theta"):
            mine, others = getattr(one, name), getattr(other, name)
            assert (mine is None) == (others is None)
            assert mine is None or np.array_equal(mine, others)


def test_a_resumed_training_sees_what_it_would_have_seen(index: Index, decoding: Decoding) -> None:
    sampling = SamplingConfig(shuffle_rows=5, repeat=((0, 3),))

    def stream(taken: int) -> list[list[tuple[int, int, int]]]:
        batches_after = batches(
            lambda number: WorkerEpoch(index, sampling, 0, number),
            lambda orders: load_here(orders, decoding),
            4,
            1,
            taken,
        )
        return [
            [(d.source.number, d.source.turn, int(d.source.source.sum())) for d in next(batches_after).draws]  # type: ignore[union-attr]
            for _ in range(10 - taken)
        ]

    whole = stream(0)
    assert stream(6) == whole[6:]
    # A row that is drawn three times an epoch is made three times.
    assert {turn for batch in whole for _, turn, _ in batch} == {0, 1, 2}


def editing() -> MethodConfig:
    return method_config(
        "proposed",
        n_groups=2,
        n_types=3,
        generator={
            "width": 4,
            "n_blocks": 1,
            "head": "blend",
            "geometry": "affine",
            "geometric_groups": (1,),
        },
        objective={
            "adversarial": 0.0,
            "cycle": 0.0,
            "identity": 0.0,
            "directions": "forward",
            "matte": 0.5,
            "geometry": 1.0,
        },
    )


def test_a_training_learns_from_what_it_makes(data: TrainingSource, index: Index, tmp_path: Path) -> None:
    making = find_making(data, index, seed=0)
    made = settings(tmp_path, image_size=SIDE, method=editing(), steps=4, batch_size=6, making=making)
    records = run(Training(made, data.label_map), data)
    assert all(record["matte"] > 0 for record in records)
    assert any(record["geometry"] > 0 for record in records)


def test_a_known_turn_needs_no_painting(
    data: TrainingSource, index: Index, decoding: Decoding, tmp_path: Path
) -> None:
    training = Training(settings(tmp_path, image_size=SIDE, method=editing()), data.label_map)
    seen = set()
    for number, row in enumerate(rows()):
        if not is_made(row):
            continue
        drawn = Row(number, data.label_map.defects[str(row["defect"])].id)
        order = Order(data.shards[number >= 36], number % 36 // 9, (number % 9,))
        drawn.source, drawn.target, _, drawn.changed, drawn.theta = next(decoding(order))
        changed = training._sample(Draw(drawn, drawn, True, np.zeros((2, 3)))).changed
        if row["defect"] != "wrong_angle":
            assert changed is drawn.changed
            continue
        seen.add(drawn.theta is None)
        assert changed is None if drawn.theta is None else changed is not None and not changed.any()
    assert seen == {True, False}


def test_an_unknown_synthesis_is_named_before_training(data: TrainingSource, index: Index) -> None:
    with pytest.raises(ConfigurationError, match="pairs of watermark to be made anew"):
        find_making(replace(data, syntheses={"wrong_angle": "wrong_angle"}), index, 0)
    with pytest.raises(ConfigurationError, match="no synthesis of defect 'scratches'"):
        find_making(replace(data, syntheses={**data.syntheses, "watermark": "scratches"}), index, 0)


def test_a_detector_learns_what_both_sides_of_a_made_pair_show(data: TrainingSource, index: Index) -> None:
    """A photo with a mark still has its background, and a source that was left clean shows no defect."""
    config = SampleConfig(tuple(DEFECTS), SIDE)
    decoding = SampleDecoding(config, seed=0, making=find_making(data, index, seed=0))
    seen: dict[str, set[tuple[tuple[str, ...], tuple[str, ...]]]] = {name: set() for name in DEFECTS}
    for row in (row for row in rows() if is_made(row)):
        for epoch in range(12):
            source, target = decoding.sides(row, Order("", 0, (0,), epoch))
            assert source.canvas is not None
            assert target.canvas is not None
            if source.defects == target.defects:
                assert np.array_equal(source.canvas, target.canvas)
            has_background = "non_white_background" in target.defects
            inside = target.canvas[content(target.canvas)]
            border = np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]])
            white = (border.min(axis=1) > 240).mean()
            assert white < 0.5 if has_background else white > 0.5 or (inside.min(axis=2) < 240).mean() > 0.9
            seen[str(row["defect"])].add((source.defects, target.defects))
    background = ("non_white_background",)
    assert seen["non_white_background"] == {(background, ()), ((), ())}
    assert {(("watermark",), ()), (("watermark", *background), background)} <= seen["watermark"]
    assert seen["wrong_angle"] == {(("wrong_angle",), ()), ((), ())}
