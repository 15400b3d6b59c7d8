"""Where a prepared dataset keeps what, and what a run finds there: nothing, an unfinished run, a finished dataset.

    OUTPUT/shards/part-GGG-UUUUUU-NNN.parquet    generation, unit, file of the unit
    OUTPUT/label_map.yaml
    OUTPUT/report/                               index.html, report.json, masks_accepted.png, masks_rejected.png
    OUTPUT/dataset.json                          written last: the dataset is finished
    OUTPUT/work/plan/GGG/                        what a generation prepares, see `plan`
    OUTPUT/work/done/GGG/UUUUUU.parquet          records of finished units, while a generation is being prepared
    OUTPUT/work/generations/GGG.parquet, GGG-ids.parquet, GGG-failed.parquet     afterwards: its totals, its known ids,
                                                 and what cannot be read of all generations up to it

A generation is one run of the job: the first makes the dataset, each further one adds photos.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.dataset.known import KnownIds
from pipelines.dataset.plan import Plan, load_plan
from pipelines.dataset.totals import UnitRecord

#: Flags that decide what becomes of a photo: they are the same for all of a dataset.
DATASET_FLAGS = ("--label-map", "--synthesis", "--seed", "--max-side", "--min-quality", "--saliency")

Mode = Literal["new", "continues", "appends", "replaces"]


@dataclass(frozen=True)
class Places:
    """URIs below the output folder."""

    output: str

    @property
    def shards(self) -> str:
        """Folder of the training rows."""
        return storage.join(self.output, "shards")

    @property
    def label_map(self) -> str:
        """The label map that the dataset was made with."""
        return storage.join(self.output, "label_map.yaml")

    @property
    def report(self) -> str:
        """Folder of the report."""
        return storage.join(self.output, "report")

    @property
    def summary(self) -> str:
        """dataset.json."""
        return storage.join(self.output, "dataset.json")

    @property
    def work(self) -> str:
        """Folder of plans and records."""
        return storage.join(self.output, "work")

    def plan(self, generation: int) -> str:
        """Folder of a generation's plan."""
        return storage.join(self.work, "plan", f"{generation:03}")

    def done(self, generation: int) -> str:
        """Folder of a generation's unit records."""
        return storage.join(self.work, "done", f"{generation:03}")

    def record(self, generation: int) -> str:
        """A finished generation's totals."""
        return storage.join(self.work, "generations", f"{generation:03}.parquet")

    def ids(self, generation: int) -> str:
        """The ids that a finished generation prepared."""
        return storage.join(self.work, "generations", f"{generation:03}-ids.parquet")

    def failed(self, generation: int) -> str:
        """What of this generation and of those before could not be read."""
        return storage.join(self.work, "generations", f"{generation:03}-failed.parquet")

    @property
    def owned(self) -> list[str]:
        """What the job writes, and so what --overwrite removes, in this order; nothing else is touched.

        Plans go before shards: a removal that is broken off never leaves a plan to continue among half of the shards.
        """
        return [self.summary, self.work, self.label_map, self.report, self.shards]


@dataclass(frozen=True)
class Start:
    """How a run begins. plan: that of the unfinished run which it continues."""

    mode: Mode
    generation: int = 0
    plan: Plan | None = None


def begin(
    places: Places, identity: Mapping[str, Any], occupied: Sequence[str], append: bool, overwrite: bool
) -> Start:
    """Decide how a run begins, from what is in `places`.

    identity: this run's flags that decide what comes out. occupied: places of the job's that hold files. Raises
    ConfigurationError where nothing fits: naming the flags that differ, or the choices.
    """
    if overwrite:
        return Start("replaces" if occupied else "new")
    summary = read_summary(places)
    generations = [] if summary is None else summary.get("generations", [])
    plan = load_plan(places.plan(len(generations)))
    if plan is not None:
        _refuse(differences(plan.identity, identity), "an unfinished run is in", places.output)
        return Start("continues", plan.generation, plan)
    if summary is not None and append:
        if not generations:
            raise ConfigurationError(
                f"--append: {places.summary} was written by an earlier version of this job; "
                "choose another --output, or prepare all photos again with --overwrite"
            )
        different = differences(summary["identity"], identity, DATASET_FLAGS)
        _refuse(different, "--append: the dataset has other settings in", places.output)
        return Start("appends", len(generations))
    if occupied and not _holds_a_draft_alone(places, occupied):
        raise ConfigurationError(
            f"{', '.join(occupied)} exists; choose another --output (--test-catalog), "
            f"add {'--append to add new photos to it, or ' if generations else ''}--overwrite to replace it"
        )
    return Start("new")


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], flags: Sequence[str] | None = None
) -> list[str]:
    """What differs between two runs' flags, as text."""
    now = json.loads(json.dumps(now))  # as it was when it was written
    names = flags if flags is not None else sorted({*before, *now})
    return [
        f"{name} is {_shown(now.get(name))} and was {_shown(before.get(name))}"
        for name in names
        if now.get(name) != before.get(name)
    ]


def read_summary(places: Places) -> dict[str, Any] | None:
    """The content of dataset.json, or None where no dataset is finished. Raises ConfigurationError."""
    with storage.as_configuration_error(places.summary, "--output", "read"):
        if not storage.exists(places.summary):
            return None
        try:
            summary = json.loads(storage.read_bytes(places.summary))
        except ValueError as error:
            raise ConfigurationError(f"--output: {places.summary} is damaged; use --overwrite") from error
    if not isinstance(summary, dict):
        raise ConfigurationError(f"--output: {places.summary} is damaged; use --overwrite")
    return summary


def known_ids(places: Places, generations: int) -> KnownIds:
    """What the finished generations have prepared."""
    known = KnownIds()
    for generation in range(generations):
        known.merge(KnownIds.from_bytes(storage.read_bytes(places.ids(generation))).hashes)
    return known


def generation_records(places: Places, generations: int) -> Iterator[UnitRecord]:
    """Totals of each finished generation."""
    for generation in range(generations):
        yield UnitRecord.from_bytes(storage.read_bytes(places.record(generation)))


def _holds_a_draft_alone(places: Places, occupied: Sequence[str]) -> bool:
    """Whether all that is there is the first plan of a run that ended before it had committed it."""
    if list(occupied) != [places.work]:
        return False
    with storage.as_configuration_error(places.work, "--output", "read"):
        return storage.list_files(places.work) == storage.list_files(places.plan(0))


def _refuse(different: Sequence[str], what: str, output: str) -> None:
    if different:
        raise ConfigurationError(
            f"{what} {output}: {'; '.join(different)}; use the same settings, choose another --output, "
            "or replace everything there with --overwrite"
        )


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={name}" for key, name in value.items()) or "not given"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "not given"
    return "not given" if value is None else str(value)
