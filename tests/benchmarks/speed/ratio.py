"""A line of the table of speed: a ratio within one run, and its aim."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ratio:
    """A figure of this project in relation to one of something else, both of the same run.

    what, against: what was measured, and what it is compared with. value: the ratio. aim: what it should be at least,
    or at most if `at_most`; None without one. figures: what the ratio was made of, with units in their names.
    """

    what: str
    against: str
    value: float
    aim: float | None = None
    at_most: bool = False
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def reached(self) -> bool | None:
        """Whether the aim is reached; None without one."""
        if self.aim is None:
            return None
        return self.value <= self.aim if self.at_most else self.value >= self.aim

    def cells(self) -> tuple[str, str, str, str]:
        """Return what, against, ratio and aim, as the table shows them."""
        sign = "≤" if self.at_most else "≥"
        aim = "" if self.aim is None else f"{sign} {self.aim:g}"
        return (
            self.what,
            self.against,
            f"{self.value:.2f}",
            f"{aim}{'' if self.reached is not False else ': missed'}",
        )
