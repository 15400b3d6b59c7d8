"""Checks the scores of a catalog's labels: divided by --score-scale, they must be 0 to 1, or the catalog is refused.

Unnoticed scores of 0 to 100 would satisfy every rule, and every image would be corrected.
"""

import math
from collections.abc import Iterable, Iterator

import pyarrow.parquet as pq

from model.errors import ConfigurationError

#: Tolerance for a detector's own rounding: a softmax in float32 may give 1.0000001.
_TOLERANCE = 1e-6


def check_scores(
    rows: Iterable[tuple[str | None, list[tuple[str, float | None]]]], uri: str, first: int, scale: float
) -> float:
    """Return the largest score of `rows` (id, labels) of the file `uri`, 0 if there is none. first: number of the first
    row.

    The scores have been divided by `scale`. Raises ConfigurationError, with row, id and value, for one outside 0..1.
    """
    largest = 0.0
    for number, (image_id, labels) in enumerate(rows, first):
        for label, score in labels:
            if score is None:
                continue
            if not _is_inside(score):
                raise ConfigurationError(
                    f"--catalog {uri}: row {number} ({image_id!r}) has label {label!r} with score {score * scale:g}; "
                    f"scores are 0 to {_remedy(score, scale)}"
                )
            largest = max(largest, score)
    return largest


def _is_inside(score: float) -> bool:
    return -_TOLERANCE <= score <= 1 + _TOLERANCE  # NaN is not


def _remedy(score: float, scale: float) -> str:
    most = "1" if scale == 1 else f"{scale:g} (--score-scale {scale:g})"
    if math.isnan(score):
        return f"{most}: write null if there is no score; the label then counts as certain"
    if score < 0:
        return f"{most}: write probabilities, not logits or distances"
    return f"{most}: divide them, with --score-scale 100 if they are percentages"


def suspicious_row_groups(metadata: pq.FileMetaData, scale: float) -> Iterator[tuple[int, int, int]]:
    """Yield (number, first row, rows) of the row groups whose statistics show scores outside 0..1.

    A footer may lack statistics, and never shows NaN: only reading the labels is certain.
    """
    first = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for index in range(group.num_columns):
            column = group.column(index)
            names = column.path_in_schema.split(".")
            known = column.statistics if (names[0], names[-1]) == ("labels", "score") else None
            if known is None or not known.has_min_max or isinstance(known.min, bytes):  # float16: not decoded
                continue
            if not (_is_inside(known.min / scale) and _is_inside(known.max / scale)):
                yield number, first, group.num_rows
        first += group.num_rows


def scale_note(largest: float, scale: float) -> str | None:
    """Return a warning if `scale` is too large for a catalog whose largest divided score is `largest`, else None."""
    if scale <= 1 or not 0 < largest * scale <= 1:
        return None
    return (
        f"--score-scale {scale:g} divides the scores of --catalog, but none is above {largest * scale:g}: they seem to "
        "be 0 to 1 already, so that rules with a min_score will hardly apply; if so, leave the flag out"
    )
