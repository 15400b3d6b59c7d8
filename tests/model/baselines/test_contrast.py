"""Tests of MoNCE's weights and loss (property 20)."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.baselines.contrast import (
    ROUNDS,
    negative_weights,
    patches,
    positions,
    sinkhorn,
    unit,
    weighted_contrast,
)
from tests.model.builders import images

TEMPERATURE = 0.07


def vectors(seed: int, batch: int = 2, count: int = 12, width: int = 8) -> Tensor:
    """Return random unit vectors (batch, count, width), float64."""
    generator = torch.Generator().manual_seed(seed)
    return unit(torch.randn(batch, count, width, generator=generator, dtype=torch.float64))


def related(seed: int, noise: float = 0.5, count: int = 24) -> tuple[Tensor, Tensor]:
    """Return queries that resemble their keys, as generated patches resemble their sources."""
    keys = vectors(seed, 1, count)
    return unit(keys + noise * vectors(seed + 1, 1, count)), keys


def plain_contrast(queries: Tensor, keys: Tensor) -> Tensor:
    """Return PatchNCE per image (Park et al., 2020): cross-entropy of the positive against the other patches."""
    similarity = queries @ keys.transpose(1, 2)
    own = torch.eye(similarity.shape[-1], dtype=torch.bool)
    logits = torch.cat(
        [similarity.diagonal(dim1=1, dim2=2)[..., None], similarity.masked_fill(own, -10)], dim=2
    )
    targets = torch.zeros(logits.shape[:2], dtype=torch.long)
    return F.cross_entropy(logits.transpose(1, 2) / TEMPERATURE, targets, reduction="none").mean(dim=1)


def off_diagonal(values: Tensor) -> Tensor:
    """Return the off-diagonal elements of (N, N) as (N (N - 1),)."""
    return values[~torch.eye(len(values), dtype=torch.bool)]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), weighting=st.sampled_from(["hard", "easy"]), epsilon=st.floats(0.1, 2.0))
def test_20_the_log_domain_agrees_with_the_definition(seed: int, weighting: str, epsilon: float) -> None:
    """Compare with Sinkhorn's iteration as it is written, with K, u and v themselves, image by image."""
    similarity = vectors(seed) @ vectors(seed + 1).transpose(1, 2)
    computed = negative_weights(similarity, weighting, epsilon).exp()
    for image, weights in zip(similarity, computed, strict=True):
        affinity = image.clone() if weighting == "hard" else 1 - image
        affinity.fill_diagonal_(-10)
        kernel = torch.exp(affinity / epsilon)
        u = v = torch.ones(len(image), dtype=torch.float64)
        for _ in range(ROUNDS):
            u = 1 / (kernel @ v)
            v = 1 / (kernel.T @ u)
        torch.testing.assert_close(weights, u[:, None] * kernel * v[None, :], rtol=0, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), epsilon=st.floats(0.01, 2.0))
def test_20_columns_sum_to_one(seed: int, epsilon: float) -> None:
    """Also with a regularisation whose kernel float32 cannot hold, to float32's accuracy."""
    similarity = (vectors(seed) @ vectors(seed + 1).transpose(1, 2)).float()
    for weighting in ("hard", "easy"):
        sums = negative_weights(similarity, weighting, epsilon).exp().sum(dim=1)
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-3)
        exact = negative_weights(similarity.double(), weighting, epsilon).exp().sum(dim=1)
        torch.testing.assert_close(exact, torch.ones_like(exact), rtol=0, atol=1e-6)


@pytest.mark.parametrize("weighting", ["hard", "easy"])
@pytest.mark.parametrize("count", [16, 256])
def test_20_equal_similarities_give_equal_weights_and_patch_nce(weighting: str, count: int) -> None:
    """A shared component e_0 makes all different patches equally similar; only the diagonal's mass remains."""
    shared = math.sqrt(0.25)
    keys = torch.zeros(1, count, count + 1, dtype=torch.float64)
    keys[:, :, 0] = shared
    keys[0, torch.arange(count), torch.arange(count) + 1] = math.sqrt(1 - shared**2)
    similarity = keys @ keys.transpose(1, 2)
    weights = off_diagonal(negative_weights(similarity, weighting, 1.0).exp()[0]) * (count - 1)
    torch.testing.assert_close(weights, torch.ones_like(weights), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        weighted_contrast(keys, keys, weighting=weighting), plain_contrast(keys, keys), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("seed", range(5))
def test_20_hard_weights_follow_similarity_and_easy_ones_oppose_it(seed: int) -> None:
    queries, keys = related(seed)
    similarity = queries @ keys.transpose(1, 2)
    alike = off_diagonal(similarity[0])
    for weighting, sign in (("hard", 1), ("easy", -1)):
        weights = off_diagonal(negative_weights(similarity, weighting, 0.1).exp()[0])
        assert sign * torch.corrcoef(torch.stack([weights, alike]))[0, 1] > 0.3


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_20_hard_costs_most_and_easy_least(seed: int, epsilon: float) -> None:
    queries, keys = related(seed)
    hard, easy = (weighted_contrast(queries, keys, weighting=w, epsilon=epsilon) for w in ("hard", "easy"))
    assert hard > plain_contrast(queries, keys) > easy


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_20_the_order_of_patches_does_not_matter(seed: int) -> None:
    queries, keys = vectors(seed), vectors(seed + 1)
    order = torch.randperm(queries.shape[1], generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        weighted_contrast(queries[:, order], keys[:, order]),
        weighted_contrast(queries, keys),
        rtol=1e-9,
        atol=0,
    )


@pytest.mark.parametrize("detached", [True, False])
def test_20_no_gradient_reaches_the_keys(detached: bool) -> None:
    queries, keys = vectors(0).requires_grad_(), vectors(1).requires_grad_()
    weighted_contrast(queries, keys, detach_weights=detached).sum().backward()
    assert keys.grad is None
    assert queries.grad is not None
    assert queries.grad.abs().sum() > 0


def test_detached_weights_change_the_gradient_and_not_the_loss() -> None:
    results: list[tuple[Tensor, Tensor]] = []
    for detached in (True, False):
        queries = vectors(0).requires_grad_()
        loss = weighted_contrast(queries, vectors(1), detach_weights=detached).sum()
        loss.backward()
        assert queries.grad is not None
        results.append((loss.detach(), queries.grad))
    assert torch.equal(results[0][0], results[1][0])
    change = (results[0][1] - results[1][1]).norm() / results[1][1].norm()
    assert 1e-3 < change < 0.3


def test_images_of_a_batch_are_independent() -> None:
    queries, keys = vectors(0, batch=3), vectors(1, batch=3)
    single = [weighted_contrast(queries[i : i + 1], keys[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(weighted_contrast(queries, keys), torch.cat(single))


def test_gamma_weighs_all_negatives() -> None:
    """The negatives' sum grows by gamma: log(1 + gamma S / P) per query."""
    queries, keys = related(3, count=6)
    losses = [weighted_contrast(queries, keys, gamma=gamma) for gamma in (1.0, 2.0)]
    similarity = queries @ keys.transpose(1, 2)
    weights = negative_weights(similarity, "hard", 1.0).exp() * 5
    weights[0].fill_diagonal_(0)
    positive = (similarity.diagonal(dim1=1, dim2=2) / TEMPERATURE).exp()
    negatives = (weights * (similarity / TEMPERATURE).exp()).sum(dim=2)
    for gamma, loss in zip((1.0, 2.0), losses, strict=True):
        expected = torch.log1p(gamma * negatives / positive).mean(dim=1)
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6)


def test_few_rounds_already_scale_columns() -> None:
    logits = vectors(0) @ vectors(1).transpose(1, 2)
    sums = sinkhorn(logits, rounds=1).exp().sum(dim=1)
    torch.testing.assert_close(sums, torch.ones_like(sums))


@pytest.mark.parametrize(("count", "limit"), [(10, 4), (4, 4), (3, 10)])
def test_positions_are_different_and_within(count: int, limit: int) -> None:
    drawn = positions(count, limit, torch.device("cpu")).tolist()
    assert len(drawn) == len(set(drawn)) == min(count, limit)
    assert set(drawn) <= set(range(count))


def test_patches_are_the_features_at_flat_positions() -> None:
    features = images(2, 4)
    taken = patches(features, torch.tensor([0, 6, 15]))
    assert taken.shape == (2, 3, 3)
    assert torch.equal(taken[1, 1], features[1, :, 1, 2])
    assert torch.equal(taken[0, 2], features[0, :, 3, 3])


@pytest.mark.parametrize("make", [lambda: vectors(0).float(), lambda: vectors(0).bfloat16()])
def test_computed_in_float32_under_autocast(make: Callable[[], Tensor]) -> None:
    queries = make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = weighted_contrast(queries, queries)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, weighted_contrast(queries.float(), queries.float()))
