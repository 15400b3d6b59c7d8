import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from model.detector.network import Detector, DetectorConfig, load_detector
from model.errors import ConfigurationError
from pipelines.training.detector.job import train_in_process
from pipelines.training.detector.loop import DetectorTraining
from pipelines.training.detector.outputs import DetectorObserver
from pipelines.training.detector.plan import DetectorPlan, initial_state
from pipelines.training.feed.batches import load_here
from tests.catalogs import write_detector
from tests.pipelines.training.detector.builders import LABELS, plan


def run(one: DetectorPlan) -> DetectorTraining:
    training = DetectorTraining(one.settings, one.source.label_map, one.init)
    load = partial(load_here, decode=one.settings.decoding)
    training.run(one.index, load, DetectorObserver(one, lambda record: None))
    return training


def test_a_resumed_training_ends_where_the_whole_one_does(data: str, tmp_path: Path) -> None:
    whole = run(plan(data, tmp_path / "whole"))
    # Stopped behind step 2 of 4, with the whole training's rates.
    stopped = plan(data, tmp_path / "parts")
    first = DetectorTraining(stopped.settings, stopped.source.label_map)

    class InterruptedByTestError(Exception):
        pass

    class Interrupting(DetectorObserver):
        def saved(self, training: DetectorTraining) -> None:
            raise InterruptedByTestError

    with pytest.raises(InterruptedByTestError):
        first.run(
            stopped.index,
            partial(load_here, decode=stopped.settings.decoding),
            Interrupting(stopped, lambda r: None),
        )
    second = run(stopped)
    assert second.step == 4
    for (name, value), other in zip(
        whole.method.state_dict().items(), second.method.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(other, value, msg=name)
    assert [r["total"] for r in second.history] == pytest.approx([r["total"] for r in whole.history])


def test_a_training_leaves_a_bundle_whose_card_has_the_table(data: str, tmp_path: Path) -> None:
    train_in_process(plan(data, tmp_path, steps=2), lambda: None)
    bundle = load_detector(tmp_path / "bundle")
    assert bundle.labels == LABELS
    scores = bundle.config["scores"]["labels"]
    card = (tmp_path / "bundle" / "model_card.md").read_text()
    for label in LABELS:
        assert scores[label]["positives"] >= 6
        assert re.search(rf"\| {label} \| {scores[label]['positives']} \|", card)
    assert bundle.config["scores_split"] == "test"
    assert bundle.config["dataset"]["fingerprint"]
    assert (tmp_path / "history.parquet").exists()


def test_a_training_starts_from_a_bundle_s_weights(data: str, tmp_path: Path) -> None:
    start = write_detector(tmp_path / "start", {"watermark": 2.0, "crease": 1.0})
    state, source = initial_state(DetectorConfig(LABELS), 0, str(start), "none")
    assert source is None
    one = replace(plan(data, tmp_path / "run"), init=state)
    training = DetectorTraining(one.settings, one.source.label_map, one.init)
    training.method.eval()
    assert training.method(torch.zeros(1, 3, 32, 32))[0, 1].item() == pytest.approx(2.0)


def test_a_training_starts_from_the_backbone_s_weights_and_says_so(data: str, tmp_path: Path) -> None:
    config = DetectorConfig(LABELS, freeze_norms=False)
    weights = tmp_path / "weights.pt"
    torch.save(Detector(DetectorConfig(LABELS, "resnet18")).encoder.backbone.state_dict(), weights)
    with pytest.raises(ConfigurationError, match=r"^--encoder-weights .*tf_efficientnet_lite0"):
        initial_state(config, 0, None, str(weights))
    other = Detector(config).encoder.backbone.state_dict()
    torch.save(other, weights)
    state, source = initial_state(config, 0, None, str(weights))
    assert torch.equal(state["encoder.backbone.conv_stem.weight"], other["conv_stem.weight"])
    one = replace(plan(data, tmp_path / "run", steps=1, detector=config), init=state, encoder=source)
    train_in_process(one, lambda: None)
    assert load_detector(tmp_path / "run" / "bundle").config["encoder_weights"] == source
    assert "started from weights.pt" in (tmp_path / "run" / "bundle" / "model_card.md").read_text()
