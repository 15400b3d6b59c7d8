"""Losses of images and logits, one value per sample.

Per-sample values let a mask per sample decide which terms it enters, and make a batch exactly the mean of its samples.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def l1(a: Tensor, b: Tensor) -> Tensor:
    """|a - b| averaged over channels and pixels: (B, C, H, W) twice to (B,)."""
    return (a.float() - b.float()).abs().flatten(1).mean(dim=1)


def matte_loss(matte: Tensor, changed: Tensor) -> Tensor:
    """Binary cross-entropy between matte and changed, (B, 1, H, W) in [0, 1] each, averaged over pixels: (B,)."""
    # Of probabilities, which torch refuses under autocast. One of exactly 0 or 1 costs at most 100.
    with torch.autocast(matte.device.type, enabled=False):
        values = F.binary_cross_entropy(matte.float(), changed.float(), reduction="none")
    return values.flatten(1).mean(dim=1)


def theta_loss(theta: Tensor, truth: Tensor) -> Tensor:
    """|theta - truth| averaged over the six entries of the affine maps (B, 2, 3): (B,)."""
    return (theta.float() - truth.float()).abs().flatten(1).mean(dim=1)


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


def average_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Relativistic average discriminator loss per sample (Jolicoeur-Martineau, 2018, "RaGAN"), half of its two terms.

    Each logit (B, 1, h, w) is compared with the other kind's mean over the whole batch and its patches, so a batch is
    not the mean of its samples, nor do accumulated batches or several processes equal one large batch. ln 2 at a tie.
    """
    real_wins = F.softplus(fake.mean() - real).flatten(1).mean(dim=1)
    fake_loses = F.softplus(fake - real.mean()).flatten(1).mean(dim=1)
    return (real_wins + fake_loses) / 2


def average_generator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The generator's side of `average_discriminator_loss`, the players exchanged; `real` is a constant here."""
    return average_discriminator_loss(fake, real)


def least_squares(logits: Tensor, target: float) -> Tensor:
    """LSGAN (Mao et al., 2017): mean (C - target)^2 over patches, (B, 1, h, w) to (B,). target: 1 real, 0 generated."""
    return (logits - target).square().flatten(1).mean(dim=1)


def cross_entropy(logits: Tensor, real: bool) -> Tensor:
    """-log sigmoid(C), or of -C where not `real`: mean over patches, (B, 1, h, w) to (B,) (Goodfellow et al., 2014)."""
    return F.softplus(-logits if real else logits).flatten(1).mean(dim=1)
