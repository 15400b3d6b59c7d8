"""Losses of images and logits, one value per sample.

A mask per sample can then decide which terms it enters, and a batch's loss is exactly the mean of its samples.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Return |a - b| averaged over channels and pixels: two (B, C, H, W) to (B,)."""
    return (a.float() - b.float()).abs().flatten(1).mean(dim=1)


def matte_loss(matte: Tensor, changed: Tensor) -> Tensor:
    """Return the binary cross-entropy of matte and changed, (B, 1, H, W) in [0, 1] each, averaged over pixels: (B,)."""
    # torch refuses cross-entropy of probabilities under autocast. A probability of exactly 0 or 1 costs at most 100.
    with torch.autocast(matte.device.type, enabled=False):
        values = F.binary_cross_entropy(matte.float(), changed.float(), reduction="none")
    return values.flatten(1).mean(dim=1)


def theta_loss(theta: Tensor, truth: Tensor) -> Tensor:
    """Return |theta - truth| averaged over the six entries of the affine maps (B, 2, 3): (B,)."""
    return (theta.float() - truth.float()).abs().flatten(1).mean(dim=1)


def relativistic_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the relativistic discriminator loss per sample: mean softplus(-(C(y) - C(y'))) over patches.

    real, fake: logits (B, 1, h, w) of same-index pairs. The loss equals -log sigmoid of the difference; ln 2 at a tie.
    """
    return F.softplus(fake - real).flatten(1).mean(dim=1)


def relativistic_generator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the generator's side of the same game: mean softplus(C(y) - C(y')) over patches, per sample.

    `real` is a constant here: detach it, so that no gradient is spent on the discriminator.
    """
    return F.softplus(real - fake).flatten(1).mean(dim=1)


def average_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return half the relativistic average discriminator loss (Jolicoeur-Martineau, 2018, "RaGAN") per sample.

    Each logit (B, 1, h, w) is compared with the mean of the other kind over the whole batch and its patches. So a batch
    is not the mean of its samples, and accumulated batches or several processes do not equal one large batch. ln 2 at a
    tie.
    """
    real_wins = F.softplus(fake.mean() - real).flatten(1).mean(dim=1)
    fake_loses = F.softplus(fake - real.mean()).flatten(1).mean(dim=1)
    return (real_wins + fake_loses) / 2


def average_generator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the generator's side of `average_discriminator_loss`, with exchanged roles; `real` is a constant here."""
    return average_discriminator_loss(fake, real)


def least_squares(logits: Tensor, target: float) -> Tensor:
    """Return LSGAN's mean (C - target)^2 over patches (Mao et al., 2017): (B, 1, h, w) to (B,). target: 1 is real."""
    return (logits - target).square().flatten(1).mean(dim=1)


def cross_entropy(logits: Tensor, real: bool) -> Tensor:
    """Return the mean of -log sigmoid(C), or of -C if not `real`, over patches (Goodfellow et al., 2014): to (B,)."""
    return F.softplus(-logits if real else logits).flatten(1).mean(dim=1)
