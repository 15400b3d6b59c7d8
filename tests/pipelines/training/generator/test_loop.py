from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.config import GeneratorConfig
from model.method import Batch
from model.recipes import method_config
from model.semi_paired import SemiPairedObjective
from model.training_step import OptimizerConfig
from pipelines.contracts.label_map import LabelMap
from pipelines.shards.source import TrainingSource, open_source
from pipelines.training.generator.loop import Training
from tests.pipelines.training.builders import SIZE, SMALL, run, settings
from tests.training_data import write_dataset


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TrainingSource:
    torch.set_num_threads(1)
    return open_source([str(write_dataset(tmp_path_factory.mktemp("data") / "set"))])


def test_the_whole_objective_trains_and_records_every_term(source: TrainingSource, tmp_path: Path) -> None:
    records = run(Training(settings(tmp_path), source.label_map), source)
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    for name in ("adversarial", "reconstruction", "discriminator"):
        assert all(record[name] > 0 for record in records)
    assert any(record["cycle"] > 0 for record in records)


@pytest.mark.parametrize(
    "cyclic", [frozenset(), frozenset({"background"}), frozenset({"background", "angle"})]
)
def test_pairs_of_cyclic_groups_and_all_unpaired_samples_enter_cycle_and_identity(
    cyclic: frozenset[str], source: TrainingSource, tmp_path: Path
) -> None:
    training, seen = Training(settings(tmp_path, cycle_groups=cyclic, steps=18), source.label_map), []
    update = training.step_once

    def spy(parts: list[Batch], rate: float) -> dict[str, torch.Tensor]:
        losses = update(parts, rate)
        for part in parts:
            flags = (part.group.tolist(), part.paired.tolist(), part.unpaired.tolist())
            seen.extend(zip(*flags, strict=True))
            if not part.n_unpaired:
                assert losses["cycle"] == losses["identity"] == 0
        return losses

    training.step_once = spy
    training.save = lambda: None
    run(training, source)
    ids = {source.label_map.groups[name] for name in cyclic}
    assert {(group, paired) for group, paired, _ in seen} == {(0, 0.0), (0, 1.0), (1, 1.0)}
    assert all(bool(u) == (not paired or group in ids) for group, paired, u in seen)


def test_reconstruction_alone_learns_the_defects(source: TrainingSource, tmp_path: Path) -> None:
    method = replace(
        SMALL,
        generator=GeneratorConfig(n_groups=2, n_types=3, width=8, n_blocks=1, n_before_eta=0, head="blend"),
        objective=SemiPairedObjective(
            adversarial=0, reconstruction=1, cycle=0, identity=0, directions="forward"
        ),
    )
    config = settings(tmp_path, method=method, optimizer=OptimizerConfig(rate=3e-3, beta1=0.9), steps=120)
    losses = [record["reconstruction"] for record in run(Training(config, source.label_map), source)]
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])


def test_images_have_the_asked_size(source: TrainingSource, tmp_path: Path) -> None:
    side = SIZE + 4
    config = settings(tmp_path, image_size=side, steps=1, cropped_groups=frozenset({"background"}))
    training, shapes = Training(config, source.label_map), []
    update = training.step_once

    def spy(parts: list[Batch], rate: float) -> dict[str, torch.Tensor]:
        shapes.extend((part.x.shape, part.y.shape) for part in parts)
        return update(parts, rate)

    training.step_once = spy
    training.save = lambda: None
    run(training, source)
    assert shapes == [((2, 3, side, side), (2, 3, side, side))]


@pytest.mark.parametrize(
    ("recipe", "compiled"),
    [("cyclegan", ["Generator"] * 2 + ["PatchDiscriminator"] * 2), ("monce", ["PatchDiscriminator"])],
)
def test_only_networks_that_are_called_directly_are_compiled(
    recipe: str,
    compiled: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    called: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: called.append(type(self).__name__))
    caplog.set_level("INFO")
    method = method_config(recipe, n_groups=2, n_types=3, generator={"width": 4, "n_blocks": 1})
    Training(settings(tmp_path, method=method, compile=True), LabelMap.default())
    assert sorted(called) == sorted(compiled)
    assert ("generator of monce is not compiled" in caplog.text) == (recipe == "monce")
