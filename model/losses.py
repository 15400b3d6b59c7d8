"""Losses of images and logits, one value per sample.

Per-sample values let a mask per sample decide which terms it enters, and make a batch exactly the mean of its samples.
"""

import torch.nn.functional as F
from torch import Tensor


def l1(a: Tensor, b: Tensor) -> Tensor:
    """|a - b| averaged over channels and pixels: (B, C, H, W) twice to (B,)."""
    return (a.float() - b.float()).abs().flatten(1).mean(dim=1)


def relativistic_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Relativistic discriminator loss per sample: mean softplus(-(C(y) - C(y'))) over patches.

    real, fake: logits (B, 1, h, w) of same-index pairs. Equals -log sigmoid of the difference; ln 2 where they tie.
    """
    return F.softplus(fake - real).flatten(1).mean(dim=1)


def relativistic_generator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The generator's side of the same game: mean softplus(C(y) - C(y')) over patches, per sample.

    `real` is a constant here: detach it, so that no gradient is spent on the discriminator.
    """
    return F.softplus(real - fake).flatten(1).mean(dim=1)
