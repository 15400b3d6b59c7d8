"""The terminal's display of workers' reports, also when their queue is lost."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayActorError

from pipelines.training.display import progress_line
from pipelines.training.on_ray import _fit, _show
from tests.reported import Reported

RECORD = {"step": 10.0, "epoch": 1.0, "rate": 1e-4, "images_per_second": 2.0, "total": 0.5}


class Lines:
    """Stand for a queue that yields its items, and is then lost with its node."""

    def __init__(self, *items: Any) -> None:
        self.items = list(items)

    def get(self) -> Any:
        if not self.items:
            raise RayActorError
        return self.items.pop(0)


def test_a_lost_log_is_a_line_and_not_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "train")
    plan: Any = SimpleNamespace(settings=SimpleNamespace(steps=70, update_size=4))
    errors: list[str] = []
    _show(Lines(RECORD | {"workers": 2}, "a line", ("stopped", "diverged")), plan, errors)  # type: ignore[arg-type]
    assert errors == ["diverged"]
    assert "4 min left" in caplog.messages[0]  # 60 updates of 2 x 4 images, 2 a second
    assert caplog.messages[1] == "a line"
    assert "no longer shown" in caplog.messages[2]


def test_records_become_metrics(reported: Reported) -> None:
    plan: Any = SimpleNamespace(settings=SimpleNamespace(steps=70, update_size=4))
    monitors = {"attention_rms/0": 3.0, "rate": 1e-4}
    _show(Lines(RECORD | monitors | {"workers": 2, "watermark": 0.25}), plan, [])  # type: ignore[arg-type]
    assert reported.values == {
        ("training_loss", "total"): 0.5,
        ("training_loss", "watermark"): 0.25,
        ("training_step",): 10,
        ("training_steps",): 70,
        ("training_images_per_second",): 2.0,
        ("training_workers",): 2,
    }


def test_time_left_depends_on_the_number_of_workers() -> None:
    assert "2 min left" in progress_line(RECORD, 70, 4)
    assert "6 min left" in progress_line(RECORD | {"workers": 3}, 70, 4)
    assert "workers" not in progress_line(RECORD | {"workers": 3}, 70, 4)


class Queued(Lines):
    """Stand for a queue to which the driver sends, too."""

    def put(self, item: Any) -> None:
        self.items.append(item)

    def shutdown(self) -> None:
        self.items.append("shut down")


class Trainer:
    """Stand for Ray Train's trainer, whose training ends by raising."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def fit(self) -> None:
        raise self.error


def test_a_training_s_end_comes_with_what_its_workers_sent() -> None:
    plan: Any = SimpleNamespace(settings=SimpleNamespace(steps=70, update_size=4))
    lines, failure = Queued(("stopped", "diverged")), ValueError("a worker died")
    assert _fit(Trainer(failure), plan, lines) == (["diverged"], failure)  # type: ignore[arg-type]
    assert lines.items[-1] == "shut down"
    with pytest.raises(KeyboardInterrupt):
        _fit(Trainer(SystemExit()), plan, Queued())  # type: ignore[arg-type]
