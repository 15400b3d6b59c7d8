"""What a generator's training is resolved to: weights to start from, networks that suit its size, validation."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.bundle import load_bundle
from model.config import DiscriminatorConfig, GeneratorConfig
from model.errors import ConfigurationError
from model.generator import build_generator
from model.recipes import MethodConfig, method_config
from pipelines.contracts.label_map import LabelMap
from pipelines.shards.index import PAIRED, build_index
from pipelines.shards.source import TrainingSource, open_source
from pipelines.training.feed.selected import do_nothing_errors, some_rows
from pipelines.training.generator.plan import Plan, balanced, check_networks, initial_weights
from tests.catalogs import write_bundle
from tests.pipelines.training.builders import SMALL, plan_of, settings
from tests.training_data import write_dataset

#: As `catalogs.write_bundle` makes them, for the labels of LARGER.
GENERATOR = GeneratorConfig(
    n_groups=3,
    n_types=4,
    width=4,
    n_blocks=2,
    n_before_eta=1,
    head="blend",
    geometry="affine",
    geometric_groups=(0,),
)
#: The default map's labels under other ids, and one more of each.
LARGER = LabelMap.parse(
    """
    version: 1
    groups: {angle: 0, colour: 1, background: 2}
    defects:
      wrong_angle: {id: 0, group: angle, order: 1}
      cast: {id: 1, group: colour, order: 2}
      non_white_background: {id: 2, group: background, order: 4}
      watermark: {id: 3, group: background, order: 3}
    rules: [{label: cast, defect: cast}]
    """,
    "map",
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TrainingSource:
    return open_source([str(write_dataset(tmp_path_factory.mktemp("data") / "set"))])


def plan(source: TrainingSource, output: Path, **changes: Any) -> Plan:
    return Plan(settings(output, **changes), source, build_index(source.shards, source.label_map, 0), "train")


def test_a_defect_keeps_what_was_learned_for_its_name_under_another_id(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "train")
    uri = str(write_bundle(tmp_path / "bundle", encoder_weights="somewhere"))
    weights, encoder = initial_weights(
        uri, settings(tmp_path, method=replace(SMALL, generator=GENERATOR)), LARGER
    )
    assert encoder == "somewhere"
    assert "cast start afresh" in caplog.text
    new = build_generator(GENERATOR).eval()
    new.load_state_dict(weights)
    old = load_bundle(tmp_path / "bundle")
    before = LabelMap.parse(old.label_map, "map").conditions
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    answers = {}
    with torch.inference_mode():
        for name, conditions in LARGER.conditions.items():
            answers[name] = new(image, *(torch.tensor([id_]) for id_ in conditions))
            if name in before:
                same = old.generator(image, *(torch.tensor([id_]) for id_ in before[name]))
                torch.testing.assert_close(answers[name], same, msg=name)
    assert not torch.allclose(answers["watermark"], answers["wrong_angle"], atol=1e-4)


def test_a_bundle_of_another_architecture_is_refused_by_flag_and_setting(tmp_path: Path) -> None:
    uri = str(write_bundle(tmp_path / "bundle"))
    wider = replace(SMALL, generator=replace(GENERATOR, width=8))
    with pytest.raises(ConfigurationError, match=rf"^--init-from {uri}: .*width 4, this training 8"):
        initial_weights(uri, settings(tmp_path, method=wider), LARGER)


def test_doing_nothing_costs_the_same_for_every_defect(source: TrainingSource, tmp_path: Path) -> None:
    objective = replace(SMALL.objective, task_balance="baseline")
    one = balanced(plan(source, tmp_path, method=replace(SMALL, objective=objective)))
    pairs = some_rows(source, one.index, PAIRED, 0, 100, one.settings.validation_decoding)
    errors, weights = do_nothing_errors(pairs), one.settings.defect_weight
    costs = [errors[name] * weights[defect.id] for name, defect in source.label_map.defects.items()]
    assert costs == pytest.approx([1, 1, 1])
    assert max(errors.values()) > 2 * min(errors.values())
    without = plan(source, tmp_path)
    assert balanced(without) is without


@pytest.mark.parametrize(
    ("method", "complaint"),
    [
        (
            replace(SMALL, discriminator=DiscriminatorConfig(width=4, n_layers=5)),
            "a discriminator with n_layers 5; use fewer",
        ),
        (
            method_config("pix2pix", n_groups=2, n_types=3, generator={"n_downsamplings": 6}),
            "a generator with n_downsamplings 6; use fewer",
        ),
    ],
)
def test_networks_too_deep_for_the_images_are_named_before_anything_starts(
    method: MethodConfig, complaint: str, tmp_path: Path
) -> None:
    check_networks(settings(tmp_path))
    with pytest.raises(ConfigurationError, match=rf"^--image-size 32 does not suit {complaint}"):
        check_networks(settings(tmp_path, method=method))


@pytest.mark.parametrize(
    ("changes", "share", "validated"),
    [({}, 0.25, True), ({"validate_every": 0}, 0.25, False), ({}, 0.0, False)],
)
def test_a_training_validates_if_that_is_wanted_and_photos_are_held_back(
    changes: dict[str, Any], share: float, validated: bool, source: TrainingSource, tmp_path: Path
) -> None:
    one = plan_of(source, tmp_path, **{"validate_every": 2, **changes})
    index = build_index(source.shards, source.label_map, share)
    assert replace(one, index=index).is_validated == validated
