"""Watches the losses of a training: computes their means for the record, and detects divergence."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: Steps whose mean loss is compared. A single batch says little, because defects differ.
WINDOW = 100
#: A window has diverged if its mean is this many times the best one, and worse than the first. Generous, because
#: adversarial losses swing by a factor of a few.
DIVERGED = 10.0


@dataclass(frozen=True)
class Trouble:
    """Describe how the losses went wrong at `step`. reason: which loss and, as far as known, which defect.

    good: checkpoints up to this step are from before it began.
    """

    step: int
    reason: str
    good: int


class Watch:
    """Collect losses on their device, so that no step waits for a GPU; `collect` evaluates them."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, dict[str, Tensor], tuple[str, ...]]] = []
        self._window: list[tuple[float, tuple[str, ...]]] = []
        # Steps after which the present window begins, and the one before it.
        self._begin = self._begin_before = 0
        self._first: float | None = None
        self._best: dict[str, float] = {}

    def add(self, step: int, losses: dict[str, Tensor], defects: Sequence[str]) -> None:
        """Add one step's losses, scalars, and the defects in its batch."""
        self._steps.append((step, losses, tuple(sorted(set(defects)))))

    def collect(self) -> tuple[dict[str, float], Trouble | None]:
        """Return the means of all losses since the last call, and the trouble with them, if any."""
        if not self._steps:
            return {}, None
        names = sorted({name for _, losses, _ in self._steps for name in losses})
        zero = torch.zeros((), device=next(iter(self._steps[0][1].values())).device)
        table = torch.stack(
            [torch.stack([losses.get(name, zero).float() for name in names]) for _, losses, _ in self._steps]
        ).cpu()
        means = {name: float(value) for name, value in zip(names, table.double().mean(0), strict=True)}
        trouble = self._not_finite(names, table) or self._diverging(table[:, names.index("total")])
        self._steps = []
        return means, trouble

    def _not_finite(self, names: list[str], table: Tensor) -> Trouble | None:
        bad = ~torch.isfinite(table)
        if not bad.any():
            return None
        row = int(bad.any(1).nonzero()[0])
        step, _, defects = self._steps[row]
        name = names[int(bad[row].nonzero()[0])]
        value = float(table[row, names.index(name)])
        return Trouble(step, f"the loss {name} is {value} in a batch of {', '.join(defects)}", step - 1)

    def _diverging(self, totals: Tensor) -> Trouble | None:
        for (step, _, defects), total in zip(self._steps, totals.tolist(), strict=True):
            if not self._window:
                self._begin_before, self._begin = (step - 1 if self._first is None else self._begin), step - 1
            self._window.append((total, defects))
            if len(self._window) < WINDOW:
                continue
            mean = math.fsum(value for value, _ in self._window) / WINDOW
            by_defect = self._by_defect()
            self._window = []
            if self._first is None:
                self._first = mean
            best = self._best.get("", mean)
            if mean > DIVERGED * best and mean > self._first:
                worst = max(
                    by_defect,
                    key=lambda defect: (
                        by_defect[defect] / max(self._best.get(defect, by_defect[defect]), 1e-12)
                    ),
                )
                return Trouble(
                    step,
                    f"the loss diverges: {mean:.4g} on average over the last {WINDOW} steps, {best:.4g} at its best; "
                    f"it grew most in batches of {worst} ({by_defect[worst]:.4g})",
                    # It may have begun late in the window before, whose mean then hardly shows it.
                    self._begin_before,
                )
            for defect, value in {"": mean, **by_defect}.items():
                self._best[defect] = min(value, self._best.get(defect, value))
        return None

    def _by_defect(self) -> dict[str, float]:
        by_defect: dict[str, list[float]] = defaultdict(list)
        for value, defects in self._window:
            for defect in defects:
                by_defect[defect].append(value)
        return {defect: math.fsum(values) / len(values) for defect, values in by_defect.items()}
