"""The outputs of a training."""

import pytest
from matplotlib.axes import Axes

from pipelines.training.generator.outputs import curves_png


def test_the_curves_are_the_methods_own_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[str] = []
    plot = Axes.plot

    def spy(self: Axes, *args: object, label: str) -> object:
        labels.append(label)
        return plot(self, *args, label=label)

    monkeypatch.setattr(Axes, "plot", spy)
    record = {"step": 1, "epoch": 1, "rate": 1e-4, "images_per_second": 9.0, "total": 2.0, "cycle": 0.0}
    assert curves_png([{**record, "nce": 3.0, "nce_identity": 4.0}]).startswith(b"\x89PNG")
    assert labels == ["nce", "nce_identity"]
