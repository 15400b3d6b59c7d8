"""The layout of a prepared dataset, and how a run begins: new, by continuing an unfinished run, or by replacing.

OUTPUT/shards/part-UUUUUU-NNN.parquet        unit, file of the unit
OUTPUT/label_map.yaml
OUTPUT/report/                               index.html, report.json, masks_accepted.png, masks_rejected.png
OUTPUT/dataset.json                          written last: its existence means that the dataset is finished
OUTPUT/work/plan/                            the entries to prepare, see `plan`
OUTPUT/work/done/UUUUUU.parquet              records of finished units, removed when the dataset is finished
TEST_CATALOG/catalog/, TEST_CATALOG/reference/
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.preparation.plan.plan import Plan, load_plan
from pipelines.preparation.unit.unit import HELD_BACK
from pipelines.storage import outputs

SUMMARY, WORK, LABEL_MAP, REPORT, SHARDS = "dataset.json", "work", "label_map.yaml", "report", "shards"
#: What the job writes to --output and --overwrite removes, in this order. Nothing else is touched. The plan goes before
#: the shards, so that an interrupted removal never leaves a plan to continue among only some of the shards.
OWNED = (SUMMARY, WORK, LABEL_MAP, REPORT, SHARDS)


@dataclass(frozen=True)
class Layout:
    """URIs below the output folder and, if one is wanted, below the test catalog's folder."""

    output: str
    test_catalog: str | None = None

    @property
    def shards(self) -> str:
        """The folder of the training rows."""
        return storage.join(self.output, SHARDS)

    @property
    def label_map(self) -> str:
        """The label map that the dataset was made with."""
        return storage.join(self.output, LABEL_MAP)

    @property
    def report(self) -> str:
        """The folder of the report."""
        return storage.join(self.output, REPORT)

    @property
    def summary(self) -> str:
        """The URI of dataset.json."""
        return storage.join(self.output, SUMMARY)

    @property
    def work(self) -> str:
        """The folder of the plan and of the units' records."""
        return storage.join(self.output, WORK)

    @property
    def plan(self) -> str:
        """The folder of the plan."""
        return storage.join(self.work, "plan")

    @property
    def done(self) -> str:
        """The folder of the units' records."""
        return storage.join(self.work, "done")

    @property
    def owned(self) -> list[str]:
        """The URIs of everything that the job writes."""
        return [storage.join(folder, name) for folder, names, _ in self._owned() for name in names]

    def occupied(self) -> list[str]:
        """Return those of `owned` that exist. Raises ConfigurationError."""
        return [
            storage.join(folder, name)
            for folder, names, flag in self._owned()
            for name in outputs.present(folder, names, flag)
        ]

    def remove(self) -> None:
        """Remove the outputs of earlier runs. Raises ConfigurationError."""
        for folder, names, _ in self._owned():
            outputs.remove(folder, names)

    def remove_unfinished(self) -> None:
        """Remove the temporary files of killed runs from the output, whose lock the caller holds."""
        outputs.remove_unfinished(self.output, OWNED)

    def _owned(self) -> list[tuple[str, Sequence[str], str]]:
        """Return each folder with the names that the job owns in it, and the flag that names the folder."""
        held_back = [(self.test_catalog, tuple(HELD_BACK), "--test-catalog")] if self.test_catalog else []
        return [(self.output, OWNED, "--output"), *held_back]


@dataclass(frozen=True)
class Start:
    """How a run begins. plan: of the unfinished run to continue. replaces: outputs to remove first."""

    plan: Plan | None = None
    replaces: tuple[str, ...] = ()

    @property
    def mode(self) -> Literal["new", "continues", "replaces"]:
        """One word for how the run begins."""
        return "continues" if self.plan is not None else "replaces" if self.replaces else "new"


def find_start(layout: Layout, identity: Mapping[str, Any], overwrite: bool) -> Start:
    """Return how a run begins, given the outputs that exist.

    identity: this run's flags that decide the output. Raises ConfigurationError, naming the flags that differ or the
    choices, if the run can neither begin nor continue.
    """
    occupied = layout.occupied()
    if overwrite:
        return Start(replaces=tuple(occupied))
    plan = None if layout.summary in occupied else load_plan(layout.plan)
    if plan is not None:
        _refuse_differences(plan.identity, identity, layout.output)
        return Start(plan)
    if occupied and not _holds_only_a_draft(layout, occupied):
        raise ConfigurationError(
            f"{', '.join(occupied)} exists; choose another --output (--test-catalog), or add --overwrite to replace it"
        )
    return Start()


def _holds_only_a_draft(layout: Layout, occupied: Sequence[str]) -> bool:
    """Return whether the only output is the plan of a run that ended before committing it."""
    if list(occupied) != [layout.work]:
        return False
    with storage.as_configuration_error(layout.work, "--output", "read"):
        return storage.list_files(layout.work) == storage.list_files(layout.plan)


def _refuse_differences(before: Mapping[str, Any], now: Mapping[str, Any], output: str) -> None:
    """Raise ConfigurationError if the flags of an unfinished run differ from those of this one."""
    now = json.loads(json.dumps(now))  # in the form in which the plan stores them
    different = [
        f"{name} is {_as_text(now.get(name))} and was {_as_text(before.get(name))}"
        for name in sorted({*before, *now})
        if now.get(name) != before.get(name)
    ]
    if different:
        raise ConfigurationError(
            f"an unfinished run is in {output}: {'; '.join(different)}; use the same settings, choose another "
            "--output, or replace everything there with --overwrite"
        )


def _as_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={name}" for key, name in value.items()) or "not given"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "not given"
    return "not given" if value is None else str(value)
