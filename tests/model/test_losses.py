import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.losses import (
    average_discriminator_loss,
    average_generator_loss,
    cross_entropy,
    l1,
    least_squares,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
)

logit_lists = st.lists(st.tuples(st.floats(-30, 30), st.floats(-30, 30)), min_size=1, max_size=6)


def as_logits(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[None, None, None]


@settings(max_examples=40, deadline=None)
@given(pairs=logit_lists)
def test_9_adversarial_losses_are_log_likelihoods_of_the_difference(pairs: list[tuple[float, float]]) -> None:
    """The loss is -log sigmoid(d) per patch, averaged; the generator's is the discriminator's at -d (property 9)."""
    real, fake = as_logits([pair[0] for pair in pairs]), as_logits([pair[1] for pair in pairs])
    # Above 20, torch's softplus(d) is d itself: e^-20 less than the definition.
    expected = -F.logsigmoid(real - fake).mean()
    torch.testing.assert_close(
        relativistic_discriminator_loss(real, fake)[0], expected, rtol=1e-9, atol=1e-15
    )
    assert torch.equal(relativistic_generator_loss(real, fake), relativistic_discriminator_loss(fake, real))


@settings(max_examples=20, deadline=None)
@given(value=st.floats(-100, 100))
def test_9_a_tie_costs_ln_2(value: float) -> None:
    """At a tie, d = 0 (property 9)."""
    logits = as_logits([value])
    for loss in (relativistic_discriminator_loss, relativistic_generator_loss):
        assert loss(logits, logits).item() == pytest.approx(math.log(2), abs=1e-15)


@pytest.mark.parametrize("difference", [1e4, -1e4])
@pytest.mark.parametrize("loss", [relativistic_discriminator_loss, relativistic_generator_loss])
def test_10_extreme_logits_stay_finite(loss: Callable[[Tensor, Tensor], Tensor], difference: float) -> None:
    """Also the gradient is finite, in float32 (property 10)."""
    fake = torch.zeros(1, 1, 2, 2, requires_grad=True)
    value = loss(torch.full((1, 1, 2, 2), difference), fake)
    value.sum().backward()
    assert fake.grad is not None
    assert value.isfinite().all()
    assert fake.grad.isfinite().all()
    # The winning side pays nothing, the other one linearly.
    winning = (difference > 0) == (loss is relativistic_discriminator_loss)
    assert value.item() == pytest.approx(0 if winning else 1e4)


def test_one_value_per_sample() -> None:
    a = torch.zeros(2, 3, 4, 4)
    b = torch.stack([torch.full((3, 4, 4), 0.5), torch.full((3, 4, 4), -1.0)])
    assert l1(a, b).tolist() == [0.5, 1.0]
    logits = torch.tensor([0.0, 5.0])[:, None, None, None].expand(2, 1, 3, 3)
    assert relativistic_discriminator_loss(logits, torch.zeros(2, 1, 3, 3)).tolist() == pytest.approx(
        [math.log(2), math.log1p(math.exp(-5))]
    )


def test_l1_of_half_precision_is_computed_in_float32() -> None:
    a = torch.full((1, 3, 64, 64), 1.0, dtype=torch.bfloat16)
    b = torch.full((1, 3, 64, 64), 0.0, dtype=torch.bfloat16)
    b[..., :1] = 0.5
    assert l1(a, b).item() == pytest.approx(1 - 0.5 / 64, abs=1e-6)  # bfloat16 could only give 0.9922
    assert l1(a, b).dtype == torch.float32


@settings(max_examples=40, deadline=None)
@given(pairs=logit_lists, more=logit_lists)
def test_the_average_game_compares_with_the_other_sides_mean(
    pairs: list[tuple[float, float]], more: list[tuple[float, float]]
) -> None:
    """Jolicoeur-Martineau's definition over a batch of two, halved; exchanging the players exchanges the losses."""
    size = min(len(pairs), len(more))
    rows = (pairs[:size], more[:size])
    real, fake = (torch.cat([as_logits([pair[side] for pair in row]) for row in rows]) for side in (0, 1))
    expected = -(F.logsigmoid(real - fake.mean()) + F.logsigmoid(-(fake - real.mean()))).mean() / 2
    torch.testing.assert_close(average_discriminator_loss(real, fake).mean(), expected, rtol=1e-8, atol=1e-14)
    assert torch.equal(average_generator_loss(real, fake), average_discriminator_loss(fake, real))
    assert average_discriminator_loss(real, fake).shape == (2,)


def test_the_average_game_ties_at_ln_2_and_stays_finite() -> None:
    tie = torch.full((1, 1, 2, 2), 3.0)
    torch.testing.assert_close(average_discriminator_loss(tie, tie), torch.tensor([math.log(2)]))
    far = torch.full((1, 1, 1, 1), 1e4)
    assert average_discriminator_loss(-far, far).isfinite().all()
    assert average_discriminator_loss(far, -far).item() == 0


@settings(max_examples=40, deadline=None)
@given(pairs=logit_lists)
def test_cross_entropy_and_least_squares_by_definition(pairs: list[tuple[float, float]]) -> None:
    logits = as_logits([pair[0] for pair in pairs])
    for real in (True, False):
        target = torch.full_like(logits, float(real))
        torch.testing.assert_close(
            cross_entropy(logits, real)[0],
            F.binary_cross_entropy_with_logits(logits, target),
            rtol=1e-8,
            atol=1e-12,
        )
        torch.testing.assert_close(
            least_squares(logits, float(real))[0], F.mse_loss(logits, target), rtol=1e-9, atol=1e-12
        )
