"""What a row costs as catalogs grow, and when nothing is to be done: slopes of `tests.benchmarks.scale`."""

from itertools import pairwise
from typing import Any

from tests.benchmarks.scale import measure, slopes
from tests.benchmarks.speed.ratio import Ratio

#: Block-steps of a night with 100 million uploads of 100 KB: docs/scale.md has the arithmetic.
BLOCK_STEPS = 554_000
#: The job's steps over a block: read and decode in tasks, generate and commit.
STEPS = 4


def ratios(small: bool) -> list[Ratio]:
    """Return how steady time and memory are, the driver's hours for 100 million uploads, and the price of a repeat."""
    pictures = [measure(rows, images=True) for rows in ((20, 40, 80) if small else (1_000, 4_000, 16_000))]
    few, many = (measure(rows, images=False) for rows in ((50, 250) if small else (10_000, 100_000)))
    return [_time(pictures), *_memory(pictures), _driver(slopes(few, many)), _again(slopes(few, many))]


def _time(pictures: list[dict[str, Any]]) -> Ratio:
    early, late = (_positive(slopes(*pair), "whole run, µs") for pair in pairwise(pictures))
    figures = {"early_us_per_image": early, "late_us_per_image": late}
    sizes = " → ".join(f"{one['rows']:,}" for one in pictures)
    return Ratio(
        f"time per further image, {sizes} images", "the first step", late / early, 1.1, True, figures
    )


def _memory(pictures: list[dict[str, Any]]) -> list[Ratio]:
    first, last = (_peaks(pictures[index]) for index in (0, -1))
    return [
        Ratio(
            f"peak memory of {name}, {pictures[-1]['rows']:,} images",
            f"{pictures[0]['rows']:,} images",
            last[name] / first[name],
            1.15,
            True,
            {"mb": [_peaks(one)[name] for one in pictures]},
        )
        for name in first
    ]


def _peaks(measured: dict[str, Any]) -> dict[str, float]:
    first = measured["first"]
    driver = max(stage["driver_peak_mb"] for stage in first["stages"].values())
    return {"the largest worker": first["worker_peak_mb"], "the driver": driver}


def _positive(found: dict[str, float], name: str) -> float:
    """Return a slope. Raises RuntimeError if it is lost in the noise of the machine."""
    if found[name] <= 0:
        raise RuntimeError(
            f"{name} is {found[name]}: the machine was too busy, or the catalogs are too small"
        )
    return found[name]


def _driver(found: dict[str, float]) -> Ratio:
    block = _positive(found, "ms of the driver per block")
    figures = {
        "core_ms_per_block": block,
        "rows_per_block": found.get("rows per block"),
        "block_steps": BLOCK_STEPS,
    }
    what = f"hours of the driver for 100 million uploads ({BLOCK_STEPS:,} block-steps)"
    return Ratio(
        what,
        f"{block:.0f} core-ms per block of {STEPS} steps",
        block / STEPS * BLOCK_STEPS / 3.6e6,
        2,
        True,
        figures,
    )


def _again(found: dict[str, float]) -> Ratio:
    figures = {"first_us_per_row": found["whole run, µs"], "again_us_per_row": found["nothing to do, µs"]}
    value = _positive(found, "whole run, µs") / _positive(found, "nothing to do, µs")
    return Ratio(
        "a row of a run with nothing to do, times cheaper",
        "the first run's row, without an image",
        value,
        50,
        figures=figures,
    )
