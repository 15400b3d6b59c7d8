"""Where a prepared dataset keeps what, and what a run finds there: nothing, an unfinished run, a finished dataset.

OUTPUT/shards/part-UUUUUU-NNN.parquet        unit, file of the unit
OUTPUT/label_map.yaml
OUTPUT/report/                               index.html, report.json, masks_accepted.png, masks_rejected.png
OUTPUT/dataset.json                          written last: the dataset is finished
OUTPUT/work/plan/                            what is prepared, see `plan`
OUTPUT/work/done/UUUUUU.parquet              records of finished units, until the dataset is finished
TEST_CATALOG/catalog/, TEST_CATALOG/reference/
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from model.errors import ConfigurationError
from pipelines.preparation.plan.plan import Plan, load_plan
from pipelines.preparation.unit.unit import HELD_BACK
from pipelines.storage import objects as storage
from pipelines.storage import outputs

SUMMARY, WORK, LABEL_MAP, REPORT, SHARDS = "dataset.json", "work", "label_map.yaml", "report", "shards"
#: What the job writes to --output, and what --overwrite removes, in this order; nothing else is touched. The plan goes
#: before the shards: a removal that is broken off never leaves a plan to continue among half of the shards.
OWNED = (SUMMARY, WORK, LABEL_MAP, REPORT, SHARDS)


@dataclass(frozen=True)
class Places:
    """URIs below the output folder and, where one is wanted, below the folder of the test catalog."""

    output: str
    test_catalog: str | None = None

    @property
    def shards(self) -> str:
        """Folder of the training rows."""
        return storage.join(self.output, SHARDS)

    @property
    def label_map(self) -> str:
        """The label map that the dataset was made with."""
        return storage.join(self.output, LABEL_MAP)

    @property
    def report(self) -> str:
        """Folder of the report."""
        return storage.join(self.output, REPORT)

    @property
    def summary(self) -> str:
        """dataset.json."""
        return storage.join(self.output, SUMMARY)

    @property
    def work(self) -> str:
        """Folder of the plan and of the units' records."""
        return storage.join(self.output, WORK)

    @property
    def plan(self) -> str:
        """Folder of the plan."""
        return storage.join(self.work, "plan")

    @property
    def done(self) -> str:
        """Folder of the units' records."""
        return storage.join(self.work, "done")

    @property
    def owned(self) -> list[str]:
        """All that the job writes."""
        return [storage.join(folder, name) for folder, names, _ in self._owned() for name in names]

    def occupied(self) -> list[str]:
        """Return what of `owned` is there. Raises ConfigurationError."""
        return [
            storage.join(folder, name)
            for folder, names, flag in self._owned()
            for name in outputs.present(folder, names, flag)
        ]

    def remove(self) -> None:
        """Remove what earlier runs wrote. Raises ConfigurationError."""
        for folder, names, _ in self._owned():
            outputs.remove(folder, names)

    def _owned(self) -> list[tuple[str, Sequence[str], str]]:
        """Return folders, the names in them that are the job's, and the flags that name the folders."""
        held_back = [(self.test_catalog, tuple(HELD_BACK), "--test-catalog")] if self.test_catalog else []
        return [(self.output, OWNED, "--output"), *held_back]


@dataclass(frozen=True)
class Start:
    """How a run begins. plan: of the unfinished run that it continues. replaces: what it removes first."""

    plan: Plan | None = None
    replaces: tuple[str, ...] = ()

    @property
    def mode(self) -> Literal["new", "continues", "replaces"]:
        """The same in a word."""
        return "continues" if self.plan is not None else "replaces" if self.replaces else "new"


def find_start(places: Places, identity: Mapping[str, Any], overwrite: bool) -> Start:
    """Decide how a run begins, from what is in `places`.

    identity: this run's flags that decide what comes out. Raises ConfigurationError where nothing fits: naming the
    flags that differ, or the choices.
    """
    occupied = places.occupied()
    if overwrite:
        return Start(replaces=tuple(occupied))
    plan = None if places.summary in occupied else load_plan(places.plan)
    if plan is not None:
        _refuse_differences(plan.identity, identity, places.output)
        return Start(plan)
    if occupied and not _holds_a_draft_alone(places, occupied):
        raise ConfigurationError(
            f"{', '.join(occupied)} exists; choose another --output (--test-catalog), or add --overwrite to replace it"
        )
    return Start()


def _holds_a_draft_alone(places: Places, occupied: Sequence[str]) -> bool:
    """Whether all that is there is the plan of a run that ended before it had committed it."""
    if list(occupied) != [places.work]:
        return False
    with storage.as_configuration_error(places.work, "--output", "read"):
        return storage.list_files(places.work) == storage.list_files(places.plan)


def _refuse_differences(before: Mapping[str, Any], now: Mapping[str, Any], output: str) -> None:
    """Raise ConfigurationError where the flags of an unfinished run are others than those of this one."""
    now = json.loads(json.dumps(now))  # as it was when it was written
    different = [
        f"{name} is {_shown(now.get(name))} and was {_shown(before.get(name))}"
        for name in sorted({*before, *now})
        if now.get(name) != before.get(name)
    ]
    if different:
        raise ConfigurationError(
            f"an unfinished run is in {output}: {'; '.join(different)}; use the same settings, choose another "
            "--output, or replace everything there with --overwrite"
        )


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={name}" for key, name in value.items()) or "not given"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "not given"
    return "not given" if value is None else str(value)
