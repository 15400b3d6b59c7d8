import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ConfigurationError
from model.schedule import epoch_rate, step_rate


@pytest.mark.parametrize(("epoch", "rate"), [(1, 2e-4), (150, 2e-4), (151, 1.98675e-4), (300, 1.3245e-6)])
def test_16_the_papers_epochs(epoch: int, rate: float) -> None:
    """The rates are those of the paper (property 16)."""
    assert epoch_rate(epoch, 2e-4) == pytest.approx(rate, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(steps=st.integers(1, 500), base=st.floats(1e-6, 1))
def test_16_a_budget_of_steps_has_the_same_shape(steps: int, base: float) -> None:
    """The rate is constant for half the steps, then falls by equal amounts to more than zero (property 16)."""
    rates = [step_rate(step, steps, base) for step in range(steps)]
    assert rates[: steps // 2] == [base] * (steps // 2)
    falls = [a - b for a, b in zip(rates[steps // 2 :], rates[steps // 2 + 1 :], strict=False)]
    assert falls == pytest.approx([base / (steps - steps // 2 + 1)] * len(falls), rel=1e-6, abs=base * 1e-12)
    assert rates[-1] > 0


def test_16_three_hundred_steps_are_the_papers_epochs() -> None:
    """Step n of 300 is epoch n + 1 (property 16)."""
    assert [step_rate(step, 300, 2e-4) for step in range(300)] == [
        epoch_rate(epoch, 2e-4) for epoch in range(1, 301)
    ]


@pytest.mark.parametrize("step", [-1, 10])
def test_outside_the_training_there_is_no_rate(step: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"step {step} is outside 0\.\.9"):
        step_rate(step, 10, 1e-3)
    with pytest.raises(ConfigurationError, match=rf"epoch {step + 1} is outside 1\.\.10"):
        epoch_rate(step + 1, 1e-3, epochs=10, constant=5)
