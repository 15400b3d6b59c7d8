import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from torch import Tensor

from model.config import GeneratorConfig
from model.errors import ConfigurationError
from model.layers import ImageGenerator
from model.method import Batch
from model.precision import autocast
from model.semi_paired import SemiPaired, SemiPairedObjective
from model.training_step import MovingAverage, OptimizerConfig, TrainingStep, average_gradients
from tests.model import gloo_worker
from tests.model.builders import SMALL_CRITIC, images, labels, part, small_batch, small_config

RATE = 1e-3


def step_of(objective: SemiPairedObjective = SemiPairedObjective(), **changes: Any) -> TrainingStep:  # noqa: B008 - frozen
    return TrainingStep(SemiPaired(small_config(), SMALL_CRITIC, objective), OptimizerConfig(), **changes)


def gradients(parameters: list[torch.nn.Parameter]) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in parameters]


def weights(step: TrainingStep) -> dict[str, Tensor]:
    return copy.deepcopy(step.method.state_dict())


def same(first: list[Tensor | None], second: list[Tensor | None]) -> bool:
    return all(
        a is b or (a is not None and b is not None and torch.equal(a, b))
        for a, b in zip(first, second, strict=True)
    )


def test_11_neither_player_leaves_gradients_in_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each backward pass adds gradients to its own player only, as seen just before its update (property 11)."""
    step, batch = step_of(), small_batch((1, 0), (0, 1))
    assert step.discriminator_optimizer is not None
    seen: dict[str, list[list[Tensor | None]]] = {"generators": [], "discriminators": []}

    def spy(optimizer: torch.optim.Optimizer) -> None:
        original = optimizer.step

        def observed() -> None:
            seen["generators"].append(gradients(step.generator_parameters))
            seen["discriminators"].append(gradients(step.discriminator_parameters))
            original()

        monkeypatch.setattr(optimizer, "step", observed)

    spy(step.generator_optimizer)
    spy(step.discriminator_optimizer)
    for _ in range(2):
        step(batch, RATE)
    first_g, first_d, second_g, second_d = range(
        4
    )  # moments: the generators' update, the discriminators', twice
    assert all(gradient is None for gradient in seen["discriminators"][first_g])
    assert same(seen["discriminators"][first_d], seen["discriminators"][second_g])
    assert same(seen["generators"][first_g], seen["generators"][first_d])
    assert same(seen["generators"][second_g], seen["generators"][second_d])
    assert not same(seen["generators"][first_g], seen["generators"][second_g])
    assert not same(seen["discriminators"][first_d], seen["discriminators"][second_d])


def test_both_players_move_and_losses_are_reported() -> None:
    step = step_of()
    before = weights(step)
    values = step(small_batch((1, 0), (0, 1)), RATE)
    assert set(values) == {"adversarial", "reconstruction", "cycle", "identity", "total", "discriminator"}
    assert all(value.ndim == 0 and value.isfinite() and not value.requires_grad for value in values.values())
    after = weights(step)
    assert all(not torch.equal(before[name], after[name]) for name in before if name.endswith("weight"))


def test_without_discriminators_there_is_no_discriminator_loss() -> None:
    values = step_of(SemiPairedObjective(adversarial=0))(small_batch((1,), (1,)), RATE)
    assert "discriminator" not in values
    assert values["adversarial"] == 0


def test_the_rate_is_the_one_of_the_call() -> None:
    """Rate 0 changes nothing; Adam's first step moves every weight that has a gradient by the rate."""
    step, batch = step_of(), small_batch((1, 0), (0, 1))
    before = weights(step)
    step(batch, 0.0)
    assert all(torch.equal(before[name], value) for name, value in weights(step).items())
    fresh = step_of()
    before = weights(fresh)
    fresh(batch, 0.01)
    moved = torch.cat([(value - before[name]).abs().flatten() for name, value in weights(fresh).items()])
    assert moved.max().item() == pytest.approx(0.01, rel=1e-3)
    assert moved.median().item() == pytest.approx(0.01, rel=1e-2)


def test_an_encoder_learns_at_its_own_rate() -> None:
    config = GeneratorConfig(2, 3, width=4, architecture="pretrained_unet", head="blend", reduce="sqrt")
    objective = SemiPairedObjective(adversarial=0, cycle=0, identity=0, directions="forward")
    torch.manual_seed(0)
    of = SemiPaired(config, SMALL_CRITIC, objective)
    batch = small_batch((1, 1), (0, 0))._replace(x=images(2, 64), y=images(2, 64, seed=1))
    step = TrainingStep(of, OptimizerConfig(rate=1e-2, encoder_rate=1e-3))
    before = {name: value.clone() for name, value in of.named_parameters()}
    step(batch, 5e-3)  # half of the rate, so the encoder's rate is halved, too
    moved = {name: float((value - before[name]).abs().max()) for name, value in of.named_parameters()}
    # Adam's first step has the size of the rate for any gradient.
    assert max(size for name, size in moved.items() if "encoder" in name) == pytest.approx(5e-4, rel=1e-2)
    assert max(size for name, size in moved.items() if "encoder" not in name) == pytest.approx(5e-3, rel=1e-2)
    still = TrainingStep(of, OptimizerConfig(rate=1e-2, encoder_rate=0.0))
    encoder = copy.deepcopy(dict(of.generator.encoder.named_parameters()))  # type: ignore[union-attr]
    still(batch, 1e-2)
    for name, value in of.generator.encoder.named_parameters():  # type: ignore[union-attr]
        assert torch.equal(value, encoder[name])


def test_gradients_are_clipped_to_the_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    norms = {}
    for clip in (0.0, 1e-3):
        torch.manual_seed(0)
        of = SemiPaired(small_config(), SMALL_CRITIC, SemiPairedObjective())
        step = TrainingStep(of, OptimizerConfig(clip=clip))

        def record_norm(clip: float = clip, step: TrainingStep = step) -> None:
            grads = [p.grad.norm() for p in step.generator_parameters if p.grad is not None]
            norms[clip] = float(torch.stack(grads).norm())

        monkeypatch.setattr(step.generator_optimizer, "step", record_norm)
        step(small_batch((1, 1), (0, 0)), RATE)
    assert norms[0.0] > 1e-2
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-3)


def test_a_batch_that_no_term_uses_changes_nothing() -> None:
    """With cycle and identity only and no sample with u, there is nothing to learn and no error."""
    step = step_of(SemiPairedObjective(adversarial=0, reconstruction=0))
    before = weights(step)
    assert step(small_batch((1, 1), (0, 0)), RATE)["total"] == 0
    assert all(torch.equal(before[name], value) for name, value in weights(step).items())


def test_16_a_restored_state_continues_alike() -> None:
    """The state restores weights and both optimisers' moments, in one process (property 16's resume)."""
    batches = [small_batch((1, 0), (0, 1), seed) for seed in range(3)]
    step, resumed = step_of(), step_of()
    step(batches[0], RATE)
    resumed.load_state(copy.deepcopy(step.state()))
    for batch in batches[1:]:
        first, second = step(batch, RATE), resumed(batch, RATE)
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(value, weights(step)[name]) for name, value in weights(resumed).items())


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (1, 3), (2, 2)])
def test_accumulated_batches_equal_their_concatenation(sizes: tuple[int, ...]) -> None:
    """Gradients of both players and reported losses agree, under mixed masks and parts of unequal size."""
    batch = small_batch((1, 0, 1, 1), (0, 1, 1, 0))
    edges = [sum(sizes[:index]) for index in range(len(sizes) + 1)]
    parts = [part(batch, start, stop) for start, stop in itertools.pairwise(edges)]
    torch.manual_seed(3)
    whole, split = step_of(), step_of()
    split.load_state(copy.deepcopy(whole.state()))
    expected, accumulated = (
        whole(batch, 0.0),
        split(parts, 0.0),
    )  # a rate of 0 leaves only gradients to compare
    assert expected.keys() == accumulated.keys()
    for name, value in expected.items():
        assert accumulated[name].item() == pytest.approx(value.item(), rel=1e-4), name
    for (name, one), two in zip(whole.method.named_parameters(), split.method.parameters(), strict=True):
        assert one.grad is not None
        assert two.grad is not None
        largest = one.grad.abs().max().item()
        torch.testing.assert_close(two.grad, one.grad, rtol=1e-3, atol=1e-3 * largest + 2e-5, msg=name)


def test_the_average_follows_the_generator_slowly() -> None:
    """After updates that move every weight by the rate, the average is between the initial and the last weights."""
    step, batch = step_of(ema=0.9), small_batch((1, 0), (0, 1))
    start = weights(step)
    assert step.generator is not step.method.generator
    expected = {name: value.clone() for name, value in step.generator.named_parameters()}
    for update in range(1, 6):
        step(batch, RATE)
        decay = min(0.9, (1 + update) / (10 + update))
        for name, value in step.method.generator.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * value.detach()
    for name, value in step.generator.named_parameters():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)
        assert not value.requires_grad
    moved = step.generator.head.weight
    assert not torch.equal(moved, start["generator.head.weight"])
    assert not torch.equal(moved, step.method.generator.head.weight)


def test_without_an_average_the_generator_is_the_trained_one() -> None:
    step = step_of()
    assert step.generator is step.method.generator


@pytest.mark.parametrize("ema", [-0.1, 1.0, float("nan")])
def test_an_invalid_decay_is_refused(ema: float) -> None:
    with pytest.raises(ConfigurationError, match="ema"):
        step_of(ema=ema)


def test_the_average_is_restored() -> None:
    batches = [small_batch((1, 0), (0, 1), seed) for seed in range(3)]
    step, resumed = step_of(ema=0.5), step_of(ema=0.5)
    step(batches[0], RATE)
    resumed.load_state(copy.deepcopy(step.state()))
    for batch in batches[1:]:
        step(batch, RATE)
        resumed(batch, RATE)
    for one, two in zip(step.generator.parameters(), resumed.generator.parameters(), strict=True):
        assert torch.equal(one, two)


class Normalising(ImageGenerator):
    """A generator with running statistics."""

    def __init__(self) -> None:
        super().__init__(small_config())
        self.norm = torch.nn.BatchNorm2d(3)
        self.register_buffer("fixed", torch.tensor([True]))

    def forward(self, image: Tensor, group: Tensor, type_: Tensor) -> Tensor:
        return self.norm(image)


def test_the_average_follows_running_statistics_too() -> None:
    """Statistics are averaged like the weights that they belong to; other buffers are copied."""
    source = Normalising()
    average = MovingAverage(source, 0.9)
    expected = average.generator.norm.running_mean.clone()
    for update in range(1, 4):
        source.train()(images(2, seed=update) + update, labels(0), labels(0))
        average.update()
        decay = min(0.9, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * source.norm.running_mean
    norm = average.generator.norm
    torch.testing.assert_close(norm.running_mean, expected)
    assert not torch.equal(norm.running_var, torch.ones(3))
    assert norm.num_batches_tracked.item() == source.norm.num_batches_tracked.item() == 3
    assert average.generator.fixed.tolist() == [True]


def test_bfloat16_computes_nearly_the_same_losses() -> None:
    batch = small_batch((1, 0), (0, 1))
    torch.manual_seed(3)
    exact = step_of()(batch, RATE)
    torch.manual_seed(3)
    rounded = step_of(precision=autocast(torch.device("cpu"), torch.bfloat16))(batch, RATE)
    for name, value in exact.items():
        assert rounded[name].dtype == torch.float32
        assert rounded[name].item() == pytest.approx(value.item(), rel=0.05), name


def test_a_single_process_keeps_its_gradients() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))]
    parameters[0].grad = torch.ones(2)
    average_gradients(parameters)
    assert parameters[0].grad.tolist() == [1, 1]
    assert parameters[1].grad is None


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the results of two processes on loopback, by rank."""
    folder = tmp_path_factory.mktemp("gloo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        torch.multiprocessing.spawn(gloo_worker.run, (str(folder),), nprocs=gloo_worker.WORKERS)
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(gloo_worker.WORKERS)]


@pytest.mark.parametrize("case", gloo_worker.OBJECTIVES)
def test_two_workers_equal_one_with_twice_the_batch(workers: list[dict[str, Any]], case: str) -> None:
    """Also if the workers' halves have different p and u, and if one worker's half trains nothing."""
    single = gloo_worker.one_step(case, 0, gloo_worker.SAMPLES)
    first, second = (worker["steps"][case] for worker in workers)
    assert first.keys() == second.keys() == single.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)  # workers stay equal
    compared = 0
    for name, gradient in single.items():
        if not name.startswith("gradient "):
            continue
        largest = gradient.abs().max().item()
        torch.testing.assert_close(first[name], gradient, rtol=1e-3, atol=1e-4 * largest + 2e-5, msg=name)
        # Adam divides by the gradient's size, so tiny gradients would only compare rounding noise.
        clear = gradient.abs() > max(1e-2 * largest, 1e-3)
        parameter = name.removeprefix("gradient ")
        torch.testing.assert_close(
            first[parameter][clear], single[parameter][clear], rtol=0, atol=0.05 * gloo_worker.RATE, msg=name
        )
        compared += int(clear.sum())
    assert compared > 1000


def test_parameters_that_one_worker_did_not_use_count_as_zero(workers: list[dict[str, Any]]) -> None:
    """Gradients are 10 * rank + index; rank 0 lacks the first, rank 1 the second."""
    for worker in workers:
        used = worker["averaged"][:3]
        assert [gradient.unique().tolist() for gradient in used] == [[5.0], [0.5], [7.0]]
        assert [tuple(gradient.shape) for gradient in used] == [(2, 3), (4,), (1,)]


def test_parameters_that_no_worker_used_have_no_gradient_and_do_not_move(
    workers: list[dict[str, Any]],
) -> None:
    """As in a single process, because Adam's momentum would move parameters with a gradient of zero."""
    for worker in workers:
        assert worker["averaged"][3] is None
        assert worker["idle"] == 0


def test_all_workers_start_from_the_first_ones_weights_and_buffers(workers: list[dict[str, Any]]) -> None:
    first, second = (worker["started"] for worker in workers)
    differing = [
        name for name, value in first["made"].items() if not torch.equal(value, second["made"][name])
    ]
    assert any(name.endswith("running_mean") for name in differing)
    assert any(name.startswith("generator.") for name in differing)
    assert first["training"].keys() == second["training"].keys()
    for name, value in first["training"].items():
        assert torch.equal(second["training"][name], value), name
    for name, value in first["made"].items():
        assert torch.equal(first["training"][name], value), name


def test_only_the_first_worker_gets_the_state(workers: list[dict[str, Any]]) -> None:
    assert [worker["states"] for worker in workers] == [[True, True], [False, False]]


def test_running_statistics_are_the_workers_mean(workers: list[dict[str, Any]]) -> None:
    first, second = (worker["statistics"] for worker in workers)
    assert not torch.equal(first["alone"][0], second["alone"][0])
    for one, two, here, there in zip(
        first["alone"], second["alone"], first["together"], second["together"], strict=True
    ):
        assert torch.equal(here, there)
        torch.testing.assert_close(here, (one + two) / 2, rtol=1e-3, atol=1e-5)


def test_each_worker_resumes_with_its_own_pool_of_fakes(workers: list[dict[str, Any]]) -> None:
    kept = [worker["pools"][0] for worker in workers]
    for taken, resumed in (worker["pools"] for worker in workers):
        assert len(taken) == 1
        assert torch.equal(torch.stack(taken), torch.stack(resumed))
    assert not torch.equal(kept[0][0], kept[1][0])


def test_a_detectors_workers_equal_one_with_all_samples_for_any_known_labels(
    workers: list[dict[str, Any]],
) -> None:
    """One worker knows one sample of the first label and the other two; of the second label, one and none."""
    single = gloo_worker.detected([gloo_worker.labelled(0, gloo_worker.SAMPLES)])
    for worker in workers:
        detected = worker["detected"]
        assert detected["losses"].keys() == single["losses"].keys()
        for name, value in single["losses"].items():
            torch.testing.assert_close(detected["losses"][name], value, msg=name)
        for gradient, expected in zip(detected["gradients"], single["gradients"], strict=True):
            torch.testing.assert_close(gradient, expected)


def toy_batch(seed: int) -> Batch:
    """Return two tasks on the same smooth random images: type 0 paints them white, type 1 keeps them."""
    coarse = images(8, 4, seed)
    x = torch.nn.functional.interpolate(coarse, size=(16, 16), mode="bilinear")
    type_ = torch.arange(8) % 2
    y = torch.where(type_[:, None, None, None] == 0, torch.ones_like(x), x)
    return Batch(x, y, torch.zeros_like(type_), type_, torch.ones(8), torch.zeros(8), n_unpaired=0)


def toy_error(n_types: int, seed: int) -> float:
    """Return the L1 error after fifty steps, on images that were not trained on."""
    torch.manual_seed(seed)
    objective = SemiPairedObjective(adversarial=0, cycle=0, identity=0, directions="forward")
    config = small_config(n_groups=0, n_types=n_types, width=8, n_blocks=0, n_before_eta=0)
    step = TrainingStep(SemiPaired(config, SMALL_CRITIC, objective), OptimizerConfig(beta1=0.9))
    for number in range(50):
        step(toy_batch(1000 * seed + number), 2e-3)
    held_back = toy_batch(1000 * seed + 999)
    with torch.no_grad():
        made = step.generator(held_back.x, held_back.group, held_back.type_)
    return (made - held_back.y).abs().mean().item()


@pytest.mark.parametrize("seed", range(3))
def test_27_labels_help(seed: int) -> None:
    """Fifty steps on two tasks that share their inputs beat the model without labels (property 27)."""
    assert toy_error(2, seed) < 0.75 * toy_error(0, seed)
