"""MoNCE's contrastive loss: negatives weighted by an optimal transport between patches (Zhan et al., 2022)."""

import torch
from torch import Tensor

#: Iterations of Sinkhorn's algorithm.
ROUNDS = 50
#: Logit that excludes the positive from the negatives and from the transport.
EXCLUDED = -10.0
#: Lower bound inside the logarithm of the weights.
SMALLEST_WEIGHT = 1e-8


def sinkhorn(logits: Tensor, rounds: int = ROUNDS) -> Tensor:
    """Return log w (B, N, N) of w = diag(u) K diag(v), K = exp(logits), after `rounds` of u <- 1/(Kv), v <- 1/(K'u).

    Works in the log domain, so that no regularisation is too small for float32. Columns of w sum to exactly 1; rows do
    so once the iteration has converged (Cuturi, 2013).
    """
    columns = torch.zeros_like(logits[:, :1, :])  # log v
    rows = torch.zeros_like(logits[:, :, :1])  # log u
    for _ in range(rounds):
        rows = -torch.logsumexp(logits + columns, dim=2, keepdim=True)
        columns = -torch.logsumexp(logits + rows, dim=1, keepdim=True)
    return logits + rows + columns


def negative_weights(similarity: Tensor, weighting: str, epsilon: float) -> Tensor:
    """Return log w_ij (B, N, N) of negative j for query i, from similarities s_ij (B, N, N) in [-1, 1].

    weighting: 'hard' gives similar negatives more weight, 'easy' less. epsilon: smaller values strengthen this. With
    equal similarities (N - 1) w is 1 off the diagonal.
    """
    affinity = similarity if weighting == "hard" else 1 - similarity
    diagonal = torch.eye(similarity.shape[-1], dtype=torch.bool, device=similarity.device)
    return sinkhorn(affinity.masked_fill(diagonal, EXCLUDED) / epsilon)


def weighted_contrast(
    queries: Tensor,
    keys: Tensor,
    *,
    weighting: str = "hard",
    epsilon: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 0.07,
    detach_weights: bool = False,
) -> Tensor:
    """Return MoNCE's loss per image (B,) of unit vectors queries and keys (B, N, C). No gradient reaches the keys.

    This is the cross-entropy of the positive s_ii / tau against negatives s_ij / tau + log(gamma (N - 1) w_ij + 1e-8),
    averaged over the N queries. detach_weights: treat w as constants. Computed in float32 or wider.
    """
    with torch.autocast(queries.device.type, enabled=False):
        wide = queries if queries.dtype == torch.float64 else queries.float()
        similarity = wide @ keys.detach().to(wide.dtype).transpose(1, 2)  # (B, N, N)
        count = similarity.shape[-1]
        measured = similarity.detach() if detach_weights else similarity
        weights = negative_weights(measured, weighting, epsilon).exp()
        diagonal = torch.eye(count, dtype=torch.bool, device=similarity.device)
        negatives = similarity / temperature + torch.log(gamma * (count - 1) * weights + SMALLEST_WEIGHT)
        negatives = negatives.masked_fill(diagonal, EXCLUDED / temperature)
        positives = similarity.diagonal(dim1=1, dim2=2) / temperature  # (B, N)
        every = torch.logsumexp(torch.cat([positives[:, :, None], negatives], dim=2), dim=2)
        return (every - positives).mean(dim=1)


def unit(features: Tensor) -> Tensor:
    """Return features / (their norm + 1e-7) along the last dimension."""
    return features / (features.norm(dim=-1, keepdim=True) + 1e-7)


def positions(count: int, limit: int, device: torch.device) -> Tensor:
    """Return min(count, limit) different random indices below `count`, from torch's generator of the device."""
    if count <= limit:
        return torch.arange(count, device=device)
    return torch.randperm(count, device=device)[:limit]


def patches(features: Tensor, at: Tensor) -> Tensor:
    """Return (B, N, C) of features (B, C, h, w) at flat positions (N,)."""
    return features.flatten(2)[:, :, at].transpose(1, 2)
