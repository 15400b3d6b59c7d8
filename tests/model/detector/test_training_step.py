import itertools

import pytest
import torch

from model.detector.network import Detector, DetectorConfig
from model.detector.training_step import DetectionBatch, DetectorStep, detection_losses
from model.training_step import OptimizerConfig
from tests.model import gloo_worker


def batch(known: list[list[float]]) -> DetectionBatch:
    torch.manual_seed(1)
    return DetectionBatch(
        torch.rand(2, 3, 32, 32), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor(known)
    )


def test_unknown_labels_do_not_count() -> None:
    logits = torch.tensor([[2.0, 5.0], [0.0, -1.0]], requires_grad=True)
    data = batch([[1, 0], [1, 0]])
    losses = detection_losses(logits, data, data.known.sum(0))
    expected = (torch.nn.functional.softplus(torch.tensor(-2.0)) + torch.log(torch.tensor(2.0))) / 2
    torch.testing.assert_close(losses.detach(), torch.stack([expected, torch.tensor(0.0)]))
    losses.sum().backward()
    assert logits.grad is not None
    assert logits.grad[:, 1].tolist() == [0, 0]
    assert (logits.grad[:, 0] != 0).all()


def test_updates_learn_and_a_restored_step_goes_on_alike() -> None:
    torch.manual_seed(0)
    config = OptimizerConfig(1e-3, 0.9)
    first = DetectorStep(Detector(DetectorConfig(("a", "b"))), config, 0.01, torch.float32)
    data = batch([[1, 1], [1, 1]])
    losses = []
    for seed in range(8):
        torch.manual_seed(seed)  # dropout
        losses.append(float(first([data], 1e-3)["total"]))
        if seed == 3 and (state := first.state()) is not None:
            saved = {name: torch.utils._pytree.tree_map(_copied, part) for name, part in state.items()}
    assert losses[-1] < losses[0]
    second = DetectorStep(Detector(DetectorConfig(("a", "b"))), config, 0.01, torch.float32)
    second.load_state(saved)
    for seed in range(4, 8):
        torch.manual_seed(seed)
        assert float(second([data], 1e-3)["total"]) == pytest.approx(losses[seed])


def test_an_encoder_of_rate_0_stays_unchanged_and_the_rest_learns() -> None:
    torch.manual_seed(0)
    step = DetectorStep(
        Detector(DetectorConfig(("a", "b"))), OptimizerConfig(1e-2, encoder_rate=0.0), 0.01, torch.float32
    )
    before = {name: value.clone() for name, value in step.detector.state_dict().items()}
    step([batch([[1, 1], [1, 1]])], 1e-2)
    changed = {
        name for name, value in step.detector.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed
    assert not [name for name in changed if name.startswith("encoder.")]
    assert all(parameter.grad is None for parameter in step.detector.encoder.parameters())


@pytest.mark.parametrize("sizes", [(2, 2), (1, 3), (1, 1, 1, 1)])
def test_a_batch_in_parts_equals_the_whole_for_any_known_labels(sizes: tuple[int, ...]) -> None:
    edges = [sum(sizes[:index]) for index in range(len(sizes) + 1)]
    whole = gloo_worker.detected([gloo_worker.labelled(0, gloo_worker.SAMPLES)])
    parts = gloo_worker.detected([gloo_worker.labelled(*edge) for edge in itertools.pairwise(edges)])
    for name, value in whole["losses"].items():
        torch.testing.assert_close(parts["losses"][name], value, msg=name)
    for gradient, expected in zip(parts["gradients"], whole["gradients"], strict=True):
        torch.testing.assert_close(gradient, expected)


def test_a_defect_of_any_name_leaves_the_total_alone() -> None:
    totals = []
    for name in ("a", "total"):
        torch.manual_seed(0)
        detector = Detector(DetectorConfig((name, "b")))
        step = DetectorStep(detector, OptimizerConfig(1e-3, 0.9), 0.01, torch.float32)
        totals.append(float(step([batch([[1, 1], [1, 1]])], 1e-3)["total"]))
    assert totals[1] == totals[0]


def _copied(value: object) -> object:
    return value.clone() if isinstance(value, torch.Tensor) else value
