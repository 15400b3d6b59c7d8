"""Prepared datasets as a training reads them: their shards, some of their rows, what doing nothing scores on these."""

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.label_map import LabelMap
from pipelines.training.data import Rows
from pipelines.training.decoding import Decode
from pipelines.training.feed import orders_of
from pipelines.training.index import PAIRED, Index
from pipelines.training.outputs import l1

logger = logging.getLogger("train")

#: Neighbours taken together where some rows stand for all: a row group that is read anyway serves several.
RUN = 8


@dataclass(frozen=True)
class TrainingSource:
    """One or more prepared datasets that share a label map. fingerprint: that of the one, or a hash of theirs."""

    shards: tuple[str, ...]
    label_map: LabelMap
    fingerprint: str
    #: By defect, the synthesis that makes it where the shards do not hold its pairs.
    syntheses: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """For the bundle's config.json."""
        return {"fingerprint": self.fingerprint, "shards": len(self.shards)}


def open_source(uris: Sequence[str]) -> TrainingSource:
    """Find shards, label map and fingerprint below each --data URI.

    Raises ConfigurationError for what is missing, and for a place named twice: its images would count double.
    """
    places = [storage.absolute(uri) for uri in uris]
    for uri, place in zip(uris, places, strict=True):
        if places.count(place) > 1:
            raise ConfigurationError(f"--data {uri} is named twice; name each dataset once")
    shards: list[str] = []
    maps: dict[str, LabelMap] = {}
    fingerprints: list[str] = []
    syntheses: dict[str, str] = {}
    for uri in uris:
        with storage.as_configuration_error(uri, "--data", "read"):
            found = storage.list_files(storage.join(uri, "shards"), ".parquet", follow_links=True)
        if not found:
            raise ConfigurationError(
                f"--data {uri}: no shards/*.parquet there; make them with jobs/prepare_dataset.py"
            )
        shards += found
        maps[uri] = LabelMap.parse(_read(uri, "label_map.yaml"), storage.join(uri, "label_map.yaml"))
        summary = _summary(uri)
        fingerprints.append(summary.fingerprint)
        for defect, name in summary.syntheses.items():
            if syntheses.setdefault(defect, name) != name:
                raise ConfigurationError(
                    f"--data {uri}: makes defect {defect!r} by {name!r}, and a dataset before it by "
                    f"{syntheses[defect]!r}; prepare both with one --synthesis"
                )
    first, label_map = next(iter(maps.items()))
    for uri, other in maps.items():
        if (other.groups, other.defects) != (label_map.groups, label_map.defects):
            raise ConfigurationError(
                f"--data {uri}: its label map has other groups or defects than that of {first}"
            )
    # One dataset's own, as its dataset.json and its page have it.
    whole = fingerprints[0] if len(uris) == 1 else sha256("".join(fingerprints).encode()).hexdigest()
    return TrainingSource(
        tuple(shards), replace(label_map, cycle_groups=_cycle_groups(maps)), whole, syntheses
    )


def _cycle_groups(maps: Mapping[str, LabelMap]) -> tuple[str, ...] | None:
    """The datasets' common choice; one that says nothing, as those of earlier versions, takes the others'."""
    said = {
        uri: label_map.cycle_groups for uri, label_map in maps.items() if label_map.cycle_groups is not None
    }
    if not said:
        return None
    first, groups = next(iter(said.items()))
    for uri, other in said.items():
        if set(other) != set(groups):
            raise ConfigurationError(
                f"--data {uri}: its label_map.yaml has cycle_groups {list(other)}, that of {first} {list(groups)}; "
                "give both the same"
            )
    return groups


class _Summary(NamedTuple):
    fingerprint: str
    syntheses: dict[str, str]


def _summary(uri: str) -> _Summary:
    """What training needs of dataset.json."""
    try:
        content = json.loads(_read(uri, "dataset.json"))
        return _Summary(str(content["fingerprint"]), dict(content.get("identity", {}).get("--synthesis", {})))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"--data {uri}: dataset.json is damaged or has no fingerprint; make it with jobs/prepare_dataset.py"
        ) from error


def _read(uri: str, name: str) -> bytes:
    try:
        return storage.read_bytes(storage.join(uri, name))
    except storage.STORAGE_ERRORS as error:
        raise ConfigurationError(
            f"--data {uri}: cannot read {name} ({type(error).__name__}); make it with jobs/prepare_dataset.py"
        ) from error


def some_rows(
    source: TrainingSource, index: Index, bits: int, split: int, per_defect: int, decode: Decode
) -> Rows:
    """Up to `per_defect` decoded rows of every defect, in short runs spread over the data: the same set every time.

    bits: what a row must have (see `pipelines.training.index`); split: as for `Index.of_split`. Only the row groups
    with these rows are read; a row that cannot be decoded is left out. Keys of a row: defect, paired, source, target.
    """
    numbers: list[NDArray[np.int64]] = []
    defects: dict[int, str] = {}
    for name, defect in source.label_map.defects.items():
        found = np.flatnonzero(index.having(defect.id, bits, split))
        chosen = found[spread(len(found), per_defect)]
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
    """`wanted` of the numbers below `count` as evenly spaced runs of RUN; the first where there are hardly more."""
    runs = -(-wanted // RUN)
    if count < runs * RUN:
        return np.arange(min(count, wanted))
    starts = np.arange(runs) * count // runs
    return (starts[:, None] + np.arange(RUN)).ravel()[:wanted]


def do_nothing_errors(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Per defect the mean |x - y| over decoded pairs, on the model's scale of [-1, 1]: what returning x would cost."""
    errors: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        errors[row["defect"]].append(l1(row["source"], row["target"]))
    return {defect: float(np.mean(values)) for defect, values in errors.items()}


def task_weights(label_map: LabelMap, errors: Mapping[str, float]) -> tuple[float, ...]:
    """1 / do-nothing error by type id, so that every task starts with a reconstruction loss of about 1.

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
