"""Shows a training's progress: a bar on a terminal, plain log lines elsewhere."""

import logging
from collections.abc import Mapping
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

logger = logging.getLogger("train")

#: Keys of a record that are not losses, and the prefix of monitors' names.
NO_LOSSES = ("step", "epoch", "rate", "images_per_second", "workers")
MONITORS = "attention_rms"


class Display:
    """Show the records of a training of `steps` updates, with `update_size` samples from each worker per update.

    A record's "workers" is the present number of workers (default 1).

    Use as a context manager. stream: gets the bar if it is a terminal; otherwise each record is logged as a line.
    """

    def __init__(self, steps: int, update_size: int, stream: TextIO) -> None:
        self._steps, self._update_size = steps, update_size
        self._bar = tqdm(total=steps, desc="training", unit="step", file=stream) if stream.isatty() else None

    def __call__(self, record: Mapping[str, float]) -> None:
        """Show one record."""
        if self._bar is None:
            logger.info(progress_line(record, self._steps, self._update_size))
            return
        self._bar.n = int(record["step"])
        self._bar.set_postfix_str(
            f"{_speed(record['images_per_second'])}  {losses_of(record)}", refresh=False
        )
        self._bar.refresh()

    def line(self, text: str) -> None:
        """Show a line of text, above the bar if there is one."""
        if self._bar is None:
            logger.info(text)
        else:
            self._bar.write(text)

    def __enter__(self) -> "Display":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def progress_line(record: Mapping[str, float], steps: int, update_size: int) -> str:
    """Format a record as a line: step, epoch, images/s over all workers, minutes left, losses that are in use."""
    speed = record["images_per_second"]
    seconds_left = (steps - record["step"]) * update_size * record.get("workers", 1) / max(speed, 1e-9)
    return (
        f"step {record['step']:.0f}/{steps}  epoch {record['epoch']:.0f}  {_speed(speed)}  "
        f"{seconds_left / 60:.0f} min left  {losses_of(record)}"
    )


def _speed(images_per_second: float) -> str:
    return f"{images_per_second:.{1 if images_per_second >= 1 else 3}f} images/s"


def losses_of(record: Mapping[str, float]) -> str:
    """Format the losses that are in use, the total first."""
    names = sorted(
        (name for name in record if is_loss(name) and record[name]), key=lambda n: (n != "total", n)
    )
    return "  ".join(f"{name} {record[name]:.4f}" for name in names)


def is_loss(name: str) -> bool:
    """Return True if a record's key names a loss."""
    return name not in NO_LOSSES and not name.startswith(MONITORS)
