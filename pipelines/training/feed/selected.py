"""Selects some rows that represent a whole dataset, and computes the error of doing nothing on them."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigurationError
from pipelines.contracts.label_map import LabelMap
from pipelines.metrics.pixel_errors import l1
from pipelines.shards.index import PAIRED, Index
from pipelines.shards.reading import Decode
from pipelines.shards.source import TrainingSource
from pipelines.training.feed.batches import orders_of

logger = logging.getLogger("train")

#: Decoded rows. Keys of each: defect, its name; paired; source and target, uint8 (side, side, 3) or None.
Rows = list[dict[str, Any]]
#: Neighbouring rows that are selected together, so that one row group that must be read serves several.
RUN = 8


def some_rows(
    source: TrainingSource, index: Index, bits: int, split: int, per_defect: int, decode: Decode
) -> Rows:
    """Return up to `per_defect` decoded rows of every defect, in short runs spread over the data: always the same.

    bits: what a row must have (see `pipelines.shards.index`); split: as for `Index.of_split`. Only the row groups
    with these rows are read; a row that cannot be decoded is left out.
    """
    numbers: list[NDArray[np.int64]] = []
    defects: dict[int, str] = {}
    for name, defect in source.label_map.defects.items():
        matching = np.flatnonzero(index.having(defect.id, bits, split))
        chosen = matching[spread(len(matching), per_defect)]
        numbers.append(chosen)
        defects.update(dict.fromkeys(chosen.tolist(), name))
    ordered = np.sort(np.concatenate(numbers))
    rows = []
    pixels = (pair for order in orders_of(index, ordered) for pair in decode(order))
    for number, (x, y, *_) in zip(ordered.tolist(), pixels, strict=True):
        if x is None and y is None:
            logger.warning("row %d (%s) of --data cannot be decoded and is left out", number, defects[number])
            continue
        paired = bool(index.kinds[number] & PAIRED)
        rows.append({"defect": defects[number], "paired": paired, "source": x, "target": y})
    return rows


def spread(count: int, wanted: int) -> NDArray[np.int64]:
    """Return `wanted` numbers below `count`, in evenly spaced runs of RUN; the first ones if there are hardly more."""
    runs = -(-wanted // RUN)
    if count < runs * RUN:
        return np.arange(min(count, wanted))
    starts = np.arange(runs) * count // runs
    return (starts[:, None] + np.arange(RUN)).ravel()[:wanted]


def do_nothing_errors(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return per defect the mean |x - y| of decoded pairs, on the model's scale of [-1, 1]: the error of G(x) = x."""
    errors: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        errors[row["defect"]].append(l1(row["source"], row["target"]))
    return {defect: float(np.mean(values)) for defect, values in errors.items()}


def defect_weights(label_map: LabelMap, errors: Mapping[str, float]) -> tuple[float, ...]:
    """Return 1 / do-nothing error by type id, so that every defect starts with a reconstruction loss of about 1.

    A defect without pairs gets 1. Raises ConfigurationError for a defect whose sources equal its targets.
    """
    weights = [1.0] * (1 + max(defect.id for defect in label_map.defects.values()))
    for name, error in errors.items():
        if error <= 0:
            raise ConfigurationError(
                f"defect {name}: sources equal targets in the data; nothing can be learned from them"
            )
        weights[label_map.defects[name].id] = 1 / error
    return tuple(weights)
