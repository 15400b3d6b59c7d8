"""Prepared datasets as a training reads them: their shards, some of their rows, what doing nothing scores on these."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, NamedTuple

import pyarrow as pa

from model.errors import ConfigurationError
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import SHARD
from pipelines.storage import objects as storage
from pipelines.storage.parquet_units import Unit, list_units

FLAG = "--data"


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


def list_shards(shards: Sequence[str]) -> tuple[Unit, ...]:
    """Units of the shards. Raises ConfigurationError where one cannot be read or lacks a column."""

    def check(schema: pa.Schema, uri: str) -> None:
        missing = sorted(set(SHARD.names) - set(schema.names))
        if missing:
            raise ConfigurationError(f"{FLAG}: {uri} lacks the columns {', '.join(missing)}")

    return list_units(shards, FLAG, check).units
