"""Opens prepared datasets for training: their shards, label map and fingerprint."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, NamedTuple

import pyarrow as pa

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import SHARD
from pipelines.storage.parquet_units import Unit, list_units

FLAG = "--data"


@dataclass(frozen=True)
class TrainingSource:
    """Hold one or more prepared datasets that share a label map. fingerprint: of the only one, or a hash of all."""

    shards: tuple[str, ...]
    label_map: LabelMap
    fingerprint: str
    #: By defect, the synthesis for pairs that are made anew in training.
    syntheses: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """Return the fingerprint and the number of shards for the bundle's config.json."""
        return {"fingerprint": self.fingerprint, "shards": len(self.shards)}


def open_source(uris: Sequence[str]) -> TrainingSource:
    """Find shards, label map and fingerprint below each --data URI.

    Raises ConfigurationError if something is missing, and for a dataset that is named twice: its images would count
    double.
    """
    locations = [storage.absolute(uri) for uri in uris]
    for uri, location in zip(uris, locations, strict=True):
        if locations.count(location) > 1:
            raise ConfigurationError(f"--data {uri} is named twice; name each dataset once")
    shards: list[str] = []
    maps: dict[str, LabelMap] = {}
    fingerprints: list[str] = []
    syntheses: dict[str, str] = {}
    for uri in uris:
        with storage.as_configuration_error(uri, "--data", "read"):
            files = storage.list_files(storage.join(uri, "shards"), ".parquet", follow_links=True)
        if not files:
            raise ConfigurationError(
                f"--data {uri}: no shards/*.parquet there; make them with jobs/prepare_dataset.py"
            )
        shards += files
        maps[uri] = LabelMap.parse(_read(uri, "label_map.yaml"), storage.join(uri, "label_map.yaml"))
        summary = _summary(uri)
        fingerprints.append(summary.fingerprint)
        for defect, name in summary.syntheses.items():
            if syntheses.setdefault(defect, name) != name:
                raise ConfigurationError(
                    f"--data {uri}: makes defect {defect!r} by {name!r}, but an earlier dataset by "
                    f"{syntheses[defect]!r}; prepare both with the same --synthesis"
                )
    first, label_map = next(iter(maps.items()))
    for uri, other in maps.items():
        if (other.groups, other.defects) != (label_map.groups, label_map.defects):
            raise ConfigurationError(
                f"--data {uri}: its label map has other groups or defects than that of {first}"
            )
    # For one dataset its own fingerprint, which is also in its dataset.json and on its page.
    whole = fingerprints[0] if len(uris) == 1 else sha256("".join(fingerprints).encode()).hexdigest()
    return TrainingSource(
        tuple(shards), replace(label_map, cycle_groups=_cycle_groups(maps)), whole, syntheses
    )


def _cycle_groups(maps: Mapping[str, LabelMap]) -> tuple[str, ...] | None:
    """Return the datasets' common choice; maps without the key, such as those of earlier versions, are ignored."""
    choices = {
        uri: label_map.cycle_groups for uri, label_map in maps.items() if label_map.cycle_groups is not None
    }
    if not choices:
        return None
    first, groups = next(iter(choices.items()))
    for uri, other in choices.items():
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
    """Return the parts of dataset.json that training needs."""
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
    """Return the units of the shards. Raises ConfigurationError if one cannot be read or lacks a column."""

    def check(schema: pa.Schema, uri: str) -> None:
        missing = sorted(set(SHARD.names) - set(schema.names))
        if missing:
            raise ConfigurationError(f"{FLAG}: {uri} lacks the columns {', '.join(missing)}")

    return list_units(shards, FLAG, check).units
