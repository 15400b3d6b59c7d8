"""Settings of a dataset check, and their resolution into a plan before any image is read."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.config import require
from model.errors import ConfigurationError
from pipelines.checking.matching import MAX_DISTANCE
from pipelines.shards.source import TrainingSource, list_shards, open_source
from pipelines.storage import outputs
from pipelines.storage.parquet_units import Unit

PAGE, JSON, SHEETS = "index.html", "health.json", "sheets"
#: Names that a check writes and --overwrite removes; nothing else in the folder is touched. JSON is written last.
OWNED = (JSON, PAGE, SHEETS)


@dataclass(frozen=True)
class CheckConfig:
    """Settings of the command line. URIs are absolute."""

    data: tuple[str, ...]
    output: str
    strict: bool = False  # for scripts: findings that harm a training or its figures cause exit code 3
    # Bits of 64. Raise it to 10 if copies are cropped by more than 3%; lower it if a large dataset has more candidates
    # than are compared (the report says so). A higher value costs time, but no false alarms, because details decide.
    near_duplicate_distance: int = 8
    # Pairs of photos, the nearest first: each costs 20 ms of a core and reading two images again. Raise it if the
    # report counts candidates that were not compared.
    compare_at_most: int = 10_000
    workers: int | None = None  # Ray tasks at the same time; None: one per CPU; 0: this process, without Ray
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Raise ConfigurationError for a value out of range."""
        require(len(self.data) > 0, "--data: name at least one prepared dataset")
        require(
            0 <= self.near_duplicate_distance <= MAX_DISTANCE,
            f"--near-duplicate-distance must be 0..{MAX_DISTANCE} bits of 64, got {self.near_duplicate_distance}",
        )
        require(self.compare_at_most > 0, f"--compare-at-most must be 1 or more, got {self.compare_at_most}")


@dataclass(frozen=True)
class Plan:
    """A resolved check."""

    config: CheckConfig
    source: TrainingSource
    units: tuple[Unit, ...]

    @property
    def starts(self) -> NDArray[np.int64]:
        """Number of each unit's first row, counted over all shards: (units,)."""
        return np.cumsum([0, *(unit.rows for unit in self.units)])[:-1]

    @property
    def rows(self) -> int:
        """Number of rows in all shards."""
        return sum(unit.rows for unit in self.units)

    def preview(self) -> dict[str, Any]:
        """Return the resolved configuration, and what a run would do."""
        return {
            **asdict(self.config),
            "plan": {
                "shards": len(self.source.shards),
                "rows": self.rows,
                "units": len(self.units),
                "defects": list(self.source.label_map.defects),
                "replaces": outputs.present(self.config.output, OWNED),
            },
        }


def resolve(config: CheckConfig) -> Plan:
    """Check everything that needs no image, and return the plan. Raises ConfigurationError with flag and remedy."""
    source = open_source(config.data)
    _check_output(config)
    units = list_shards(source.shards)
    if not any(unit.rows for unit in units):
        raise ConfigurationError(f"--data: no rows in {', '.join(config.data)}; prepare some photos first")
    return Plan(config, source, units)


def prepare_output(config: CheckConfig) -> None:
    """Remove an earlier check. Raises ConfigurationError."""
    outputs.remove(config.output, OWNED)


def _check_output(config: CheckConfig) -> None:
    """Raise ConfigurationError if --output holds anything that may not be replaced."""
    output = config.output
    existing = outputs.present(output, OWNED)
    if existing and JSON not in existing and PAGE not in existing:
        raise ConfigurationError(
            f"--output {output} has a folder {SHEETS} that no check of a dataset made; choose another folder"
        )
    if existing and not config.overwrite:
        raise ConfigurationError(
            f"--output {output} holds {', '.join(existing)} of an earlier check; choose another folder, or replace "
            "them with --overwrite"
        )
    inside = outputs.first_inside(config.data, output, OWNED)
    if inside is not None:
        raise ConfigurationError(
            f"--output {output}: the check would write over {inside}; choose another folder"
        )
    for uri in config.data:
        if outputs.first_inside([output], uri, ["shards"]) is not None:
            raise ConfigurationError(
                f"--output {output} lies among the shards of {uri}, whose readers take every file there for a shard; "
                "choose another folder"
            )
