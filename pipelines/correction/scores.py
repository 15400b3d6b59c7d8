"""Scores of a catalog's labels: 0 to 1 once they are divided by --score-scale, or the catalog is refused.

Of 0 to 100 and unnoticed they would pass every rule, and every image would be corrected.
"""

import math
from collections.abc import Iterable, Iterator

import pyarrow.parquet as pq

from model.errors import ConfigurationError

#: What a detector's own rounding may add: a softmax in float32 says 1.0000001.
_TOLERANCE = 1e-6


def check_scores(
    rows: Iterable[tuple[str | None, list[tuple[str, float | None]]]], uri: str, first: int, scale: float
) -> float:
    """The largest score of `rows` (id, labels) of the file `uri`, from number `first` on; 0 where there is none.

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
        return f"{most}: write null where there is none, and the label then counts as certain"
    if score < 0:
        return f"{most}: write probabilities, not logits or distances"
    return f"{most}: divide them, with --score-scale 100 if they are percentages"


def suspicious_row_groups(metadata: pq.FileMetaData, scale: float) -> Iterator[tuple[int, int, int]]:
    """(number, first row, rows) of the row groups whose statistics tell of scores outside 0..1.

    A footer may have none, and tells nothing of NaN: who needs to know for certain reads the labels.
    """
    first = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for index in range(group.num_columns):
            column = group.column(index)
            names = column.path_in_schema.split(".")
            told = column.statistics if (names[0], names[-1]) == ("labels", "score") else None
            if told is None or not told.has_min_max or isinstance(told.min, bytes):  # float16 comes undecoded
                continue
            if not (_is_inside(told.min / scale) and _is_inside(told.max / scale)):
                yield number, first, group.num_rows
        first += group.num_rows


def scale_note(largest: float, scale: float) -> str | None:
    """What to tell of a scale that is too large for a catalog whose largest score, divided, is `largest`."""
    if scale <= 1 or not 0 < largest * scale <= 1:
        return None
    return (
        f"--score-scale {scale:g} divides the scores of --catalog, of which none is above {largest * scale:g}: they "
        "look like 0 to 1 already, and rules with a min_score will hardly apply; leave the flag out if they are"
    )
