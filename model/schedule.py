"""Learning rates over a training: constant, then linear to zero (CycleGAN's convention)."""

from model.config import require

#: The paper's number of epochs: constant for 150, then falling over 150.
PAPER_EPOCHS, PAPER_CONSTANT_EPOCHS = 300, 150


def epoch_rate(
    epoch: int, base: float, epochs: int = PAPER_EPOCHS, constant: int = PAPER_CONSTANT_EPOCHS
) -> float:
    """Return the rate of epoch 1..epochs: base * (1 - max(0, epoch - constant) / (epochs - constant + 1)).

    With the paper's 2e-4, 300 and 150 it is 2e-4 up to epoch 150 and 1.3245e-6 in epoch 300: never exactly zero.
    """
    require(1 <= epoch <= epochs, f"epoch {epoch} is outside 1..{epochs}")
    return base * (1 - max(0, epoch - constant) / (epochs - constant + 1))


def step_rate(step: int, steps: int, base: float, constant_share: float = 0.5) -> float:
    """Return the rate of step 0..steps-1 on the same schedule, constant for `constant_share` of the steps."""
    require(0 <= step < steps, f"step {step} is outside 0..{steps - 1}")
    return epoch_rate(step + 1, base, steps, int(steps * constant_share))
