"""Attention injection of a label into a feature map: the red (group) and green (type) boxes of Li et al., 2022."""

import math

import torch
from torch import Tensor, nn


class AttentionInjection(nn.Module):
    """out = I * M', where M' is one signed attention map computed from the features and the label's embedding.

    H = tanh(W onehot(k) + b); M = tanh(A(I * H) + a) with a 1x1 convolution A; M' = sum over channels of M. There is no
    softmax, residual or scaling; M' lies in (-c, c). `rms` is the root mean square of M' in the last forward pass, a
    scalar tensor; None before the first.
    """

    rms: Tensor | None = None

    def __init__(self, channels: int, n_labels: int, reduce: str = "sum") -> None:
        """channels: c of the feature map; n_labels: K; reduce: 'sum' (paper), 'sqrt' (sum/sqrt c) or 'mean' (sum/c)."""
        super().__init__()
        self.embedding = nn.Linear(n_labels, channels)
        self.attention = nn.Conv2d(channels, channels, kernel_size=1)
        self.scale = {"sum": 1.0, "sqrt": 1 / math.sqrt(channels), "mean": 1 / channels}[reduce]

    def attention_map(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return M' (B, 1, h, w) of features (B, c, h, w) and labels (B,) int64 in 0..K-1."""
        # Column k of W is the embedding of label k, so indexing equals the product with a one-hot vector.
        embedded = torch.tanh(self.embedding.weight.t()[labels] + self.embedding.bias)  # (B, c)
        attended = torch.tanh(self.attention(features * embedded[:, :, None, None]))  # (B, c, h, w)
        return attended.sum(dim=1, keepdim=True) * self.scale

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return features (B, c, h, w) times their attention map; same shape and dtype as `features`."""
        # Two injections can amplify by c^2 = 65,536, beyond float16, and sums of c terms lose bits in bfloat16.
        with torch.autocast(features.device.type, enabled=False):
            wide = features if features.dtype == torch.float64 else features.float()
            attention = self.attention_map(wide, labels)
            self.rms = attention.detach().square().mean().sqrt()
            return (wide * attention).to(features.dtype)
