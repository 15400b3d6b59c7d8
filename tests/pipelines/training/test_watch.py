"""Detection of losses that are not finite or diverge."""

import math

import torch

from pipelines.training.watch import DIVERGED, WINDOW, Watch


def feed(
    watch: Watch, values: list[float], start: int = 0, defects: tuple[str, ...] = ("watermark",)
) -> None:
    for number, value in enumerate(values):
        watch.add(start + number + 1, {"total": torch.tensor(value), "cycle": torch.tensor(1.0)}, defects)


def test_means_are_since_the_last_call() -> None:
    watch = Watch()
    feed(watch, [1.0, 3.0])
    assert watch.collect() == ({"cycle": 1.0, "total": 2.0}, None)
    feed(watch, [5.0])
    assert watch.collect()[0]["total"] == 5.0
    assert watch.collect() == ({}, None)


def test_the_first_loss_that_is_not_finite_is_named_with_its_step_and_defect() -> None:
    for value in (math.nan, math.inf, -math.inf):
        watch = Watch()
        feed(watch, [1.0] * 3)
        feed(watch, [value], 3, ("wrong_angle",))
        feed(watch, [math.nan], 4)
        _, trouble = watch.collect()
        assert (trouble.step, trouble.good) == (4, 3)
        assert trouble.reason == f"the loss total is {value} in a batch of wrong_angle"


def test_divergence_is_detected_and_names_the_defect_that_grew() -> None:
    watch, half = Watch(), WINDOW // 2
    step = 0
    for background, angle in ((1.0, 1.0), (0.5, 0.4), (0.5, 30 * DIVERGED)):
        feed(watch, [background] * half, step, ("background",))
        feed(watch, [angle] * half, step + half, ("wrong_angle",))
        step += WINDOW
        _, trouble = watch.collect()
        assert (trouble is None) == (angle < 2)
    assert trouble.step == 3 * WINDOW
    assert trouble.good == WINDOW  # divergence may have begun in the window before
    assert "grew most in batches of wrong_angle" in trouble.reason


def test_ups_and_downs_are_not_divergence() -> None:
    watch = Watch()
    feed(watch, [1.0] * WINDOW)
    feed(watch, [1e-6] * WINDOW)
    feed(watch, [0.9] * WINDOW)  # far above its best, but not above where it began
    feed(watch, [5.0] * WINDOW)
    assert watch.collect()[1] is not None
    watch = Watch()
    feed(watch, [1.0] * WINDOW + [5.0, 0.5] * WINDOW)
    assert watch.collect()[1] is None
