"""Contact sheets of uploads and their published corrections, for people to judge.

They show real photos: keep them out of the repository.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pipelines.reports.pictures import picture_columns
from tests.benchmarks.starter_quality.scores import Scored

COLUMNS = 5
#: Maximum number of lines of random cases, and of rejected ones.
LINES = 4


def write_sheets(folder: Path, scored: Sequence[Scored]) -> None:
    """Write sheets into `folder`, by task and kind.

    published.png: pairs of lines (upload, published) of the worst, the middle and the best cases, and LINES lines of
    random ones. rejected.png: uploads that a gate kept, with its code.
    """
    groups: dict[str, list[Scored]] = defaultdict(list)
    for one in scored:
        groups[f"{one.case.task}, {one.case.kind}".replace(", ", "-").replace(" ", "-")].append(one)
    folder.mkdir(parents=True, exist_ok=True)
    for name, group in groups.items():
        published = [one for one in group if one.picture is not None]
        rejected = [one for one in group if one.rejected is not None][: COLUMNS * LINES]
        if len(published) >= COLUMNS:
            lines = [
                [picture for one in line for picture in _pair(one)] for line in _turned(_chosen(published))
            ]
            _write(folder / f"{name}-published.png", lines, [""] * COLUMNS)
        for start in range(0, len(rejected), COLUMNS):
            part = rejected[start : start + COLUMNS]
            path = folder / f"{name}-rejected-{start // COLUMNS}.png"
            _write(path, [[one.case.upload] for one in part], [one.rejected or "" for one in part])


def _chosen(published: Sequence[Scored]) -> Iterator[Sequence[Scored]]:
    """Yield lines of COLUMNS cases: worst, median, best, then random ones."""
    ordered = sorted(published, key=lambda one: one.worth)
    middle = max(0, len(ordered) // 2 - COLUMNS // 2)
    yield ordered[:COLUMNS]
    yield ordered[middle : middle + COLUMNS]
    yield ordered[-COLUMNS:]
    order = np.random.default_rng(0).permutation(len(published))
    for start in range(0, min(LINES, len(order) // COLUMNS) * COLUMNS, COLUMNS):
        yield [published[index] for index in order[start : start + COLUMNS]]


def _turned(lines: Iterable[Sequence[Scored]]) -> Iterator[list[Scored]]:
    """Return the columns of lines."""
    return (list(column) for column in zip(*lines, strict=True))


def _pair(one: Scored) -> tuple[bytes, bytes]:
    return one.case.upload, one.picture or one.case.upload


def _write(path: Path, columns: Sequence[Sequence[bytes]], captions: Sequence[str]) -> None:
    sheet = picture_columns(columns, captions)
    if sheet is not None:
        path.write_bytes(sheet)
