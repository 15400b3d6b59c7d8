"""The loop in process: it learns, it survives, it says what is wrong."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.config import DiscriminatorConfig, GeneratorConfig
from model.errors import ConfigurationError
from model.recipes import MethodConfig
from model.semi_paired import SemiPairedObjective
from model.training_step import OptimizerConfig
from pipelines.label_map import LabelMap
from pipelines.training.loop import Training, TrainingError, TrainSettings
from pipelines.training.source import (
    do_nothing_errors,
    first_pairs,
    local_rows,
    open_source,
    shard_rows,
    task_weights,
    train_pairs,
)
from tests.training_data import write_dataset

SIZE = 32


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory):
    torch.set_num_threads(1)
    return open_source([str(write_dataset(tmp_path_factory.mktemp("data") / "set"))])


SMALL = MethodConfig(
    "proposed",
    GeneratorConfig(n_groups=2, n_types=3, width=4, n_blocks=1, n_before_eta=0),
    DiscriminatorConfig(width=4, n_layers=1),
    SemiPairedObjective(),
)


def settings(output: Path, **changes) -> TrainSettings:
    base = TrainSettings(
        output=str(output),
        method=SMALL,
        image_size=SIZE,
        steps=6,
        batch_size=2,
        cycle_groups=frozenset({"background"}),
        log_every=1,
    )
    return replace(base, **changes)


def run(training: Training, source) -> list[dict]:
    found: list[dict] = []
    config = training.settings

    def rows(epoch: int):
        return local_rows(source, epoch, SIZE, config.cropped_groups, config.uses)

    training.run(rows, found.append, lambda _: None)
    return found


def test_the_whole_objective_trains_and_records_every_term(source, tmp_path: Path) -> None:
    records = run(Training(settings(tmp_path), source.label_map, None), source)
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    for name in ("adversarial", "reconstruction", "discriminator"):
        assert all(record[name] > 0 for record in records)
    assert any(record["cycle"] > 0 for record in records)


def test_reconstruction_alone_learns_the_tasks(source, tmp_path: Path) -> None:
    config = settings(
        tmp_path,
        method=replace(
            SMALL,
            generator=replace(SMALL.generator, width=8, head="blend"),
            objective=SemiPairedObjective(
                adversarial=0, reconstruction=1, cycle=0, identity=0, directions="forward"
            ),
        ),
        optimizer=OptimizerConfig(rate=3e-3, beta1=0.9),
        steps=120,
    )
    records = run(Training(config, source.label_map, None), source)
    losses = [record["reconstruction"] for record in records]
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(source, tmp_path: Path) -> None:
    curves = []
    for index, seed in enumerate((0, 0, 1)):
        training = Training(settings(tmp_path / str(index), seed=seed, steps=3), source.label_map, None)
        curves.append([record["total"] for record in run(training, source)])
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


def test_a_training_goes_on_from_its_checkpoint(source, tmp_path: Path) -> None:
    first = Training(settings(tmp_path, steps=4), source.label_map, None)
    run(first, source)
    again = Training(settings(tmp_path, steps=6), source.label_map, None)
    assert again.step == 4
    for name, value in first.step_once.method.state_dict().items():
        torch.testing.assert_close(again.step_once.method.state_dict()[name], value, rtol=0, atol=0)
    assert [record["step"] for record in run(again, source)] == [5, 6]
    assert [record["step"] for record in again.history] == [1, 2, 3, 4, 5, 6]


def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_and_checkpoint(
    source, tmp_path: Path
) -> None:
    training = Training(settings(tmp_path), source.label_map, None)
    with torch.no_grad():
        training.step_once.generator.head.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"step 1; .*checkpoint\.pt"):
        run(training, source)


def test_too_little_data_for_one_batch_is_an_error_and_not_an_endless_loop(source, tmp_path: Path) -> None:
    training = Training(settings(tmp_path, batch_size=1000), source.label_map, None)
    with pytest.raises(ConfigurationError, match="--batch-size"):
        run(training, source)


def test_a_source_knows_its_pairs_and_splits(source) -> None:
    # 16 photos, of which 4 are test; 3 tasks each; two background rows of the training split have no target.
    assert train_pairs(source, {}) == 12 * 3 - 2
    assert train_pairs(source, {"watermark": 3}) == 12 * 5 - 2
    assert len(list(shard_rows(source.shards, "train"))) == 36
    pairs = first_pairs(source, "test", 2, SIZE)
    assert sorted(row["defect"] for row in pairs) == sorted(2 * list(source.label_map.defects))
    assert {row["image_id"] for row in pairs} <= {"p3", "p7", "p11", "p15"}


def test_the_task_balance_makes_doing_nothing_cost_one_in_every_task(source) -> None:
    pairs = first_pairs(source, "train", 8, SIZE)
    errors = do_nothing_errors(pairs)
    weights = task_weights(source.label_map, errors)
    for name, defect in source.label_map.defects.items():
        assert errors[name] * weights[defect.id] == pytest.approx(1)


def test_rows_of_a_repeated_defect_come_more_often_and_useless_rows_never(source, tmp_path: Path) -> None:
    only_pairs = replace(SMALL, objective=SemiPairedObjective(adversarial=0, cycle=0, identity=0))
    config = settings(tmp_path, method=only_pairs, repeat=(("watermark", 3),))
    counts = Counter(row["defect"] for row in local_rows(source, 1, SIZE, frozenset(), config.uses))
    assert counts == {"non_white_background": 10, "watermark": 36, "wrong_angle": 12}


def test_data_that_was_never_prepared_is_an_error_that_names_the_flag(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--data .*prepare_dataset"):
        open_source([str(tmp_path)])


@pytest.mark.parametrize("damage", ["other networks", "half", "no checkpoint", "empty"])
def test_an_unusable_checkpoint_is_named_with_the_remedy(damage: str, tmp_path: Path) -> None:
    label_map = LabelMap.default()
    Training(settings(tmp_path), label_map, None).save()
    checkpoint = tmp_path / "checkpoint.pt"
    whole = checkpoint.read_bytes()
    wider = replace(SMALL, generator=replace(SMALL.generator, width=8))
    changes = {"method": wider} if damage == "other networks" else {}
    content = {"half": whole[: len(whole) // 2], "no checkpoint": b"junk", "empty": b""}
    checkpoint.write_bytes(content.get(damage, whole))
    with pytest.raises(
        ConfigurationError, match=r"checkpoint\.pt.*same network flags; --overwrite starts anew"
    ):
        Training(settings(tmp_path, **changes), label_map, None)
