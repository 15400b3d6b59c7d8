"""Makes an earlier run's manifest the current one. The next run then goes on from it, as if no later run had been."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model.errors import ConfigurationError, RunError
from pipelines.contracts.schemas import STATUSES
from pipelines.maintenance.run import Maintenance, Output, begin, count_statuses, image_keys, named_images
from pipelines.published.changes import write_all_added
from pipelines.published.layout import CHANGES_FOLDER, RUN, RunFolder
from pipelines.published.object_names import IMAGES
from pipelines.published.publish import copy_parts
from pipelines.published.records import TOO_MANY_FAILED, read_record
from pipelines.storage import objects as storage
from pipelines.storage.lock import Lock
from pipelines.storage.pages import pages

VERB = "rollback"


@dataclass(frozen=True)
class Rollback:
    """A return to the manifest of the run `to`. parts: of that manifest. counts: its rows by status. missing: images
    that it names and that are gone. record: of that run; empty if it is gone.
    """

    current: str | None
    to: str
    parts: Sequence[str]
    counts: Mapping[str, int]
    missing: int
    record: Mapping[str, Any]

    def describe(self) -> list[str]:
        """Return lines for people."""
        counts = ", ".join(f"{self.counts[status]} {status}" for status in STATUSES)
        return [
            f"current    {self.current or 'unknown'}",
            f"return to  {self.to}: {sum(self.counts.values())} rows, {counts}",
            *([f"missing    {self.missing} of its images: it will be refused"] if self.missing else []),
        ]


def plan_rollback(output: str, to: str | None) -> Rollback:
    """Look at what a rollback would do, and write nothing. to: None is the manifest before the current one.

    Raises ConfigurationError if there is no such manifest.
    """
    there = Output.look(output)
    return _rollback(there, there.current, _choose(there, to))


def _rollback(there: Output, current: str | None, to: str) -> Rollback:
    parts, uri = there.kept[to], there.folder.record(to)
    record = read_record(uri) if storage.exists(uri) else {}
    return Rollback(current, to, parts, count_statuses(parts), _missing(there.folder, parts), record)


def _completed(output: str) -> Rollback | None:
    """Return the rollback that published last; None if another run did."""
    does = json.loads(storage.read_bytes(storage.join(output, RUN))).get("maintenance") or {}
    if does.get("verb") != VERB:
        return None
    return _rollback(Output.look(output), does["from"], does["to"])


def roll_back(output: str, to: str | None, lock: Lock) -> Rollback:
    """Publish an earlier run's manifest again, unless it is the current one, and what consumers need to follow.

    Returns what was done.

    Raises RunError if images that the manifest names are gone or the lock is lost, ConfigurationError, and one of
    STORAGE_ERRORS.
    """
    if begin(output, lock) and (done := _completed(output)) is not None and to in (None, done.to):
        return done  # the same call, which was killed: another step back was not asked for
    plan = plan_rollback(output, to)
    if plan.to == plan.current:
        return plan
    folder = RunFolder(output)
    rows, wanted = sum(plan.counts.values()), plan.record.get("rows_in")
    if wanted not in (None, rows):
        raise RunError(
            f"the manifest of {plan.to} has {rows} rows of {wanted}: a part of it is gone; nothing was changed: choose "
            "another --to"
        )
    if plan.missing:
        raise RunError(
            f"{plan.missing} images that the manifest of {plan.to} names are gone; nothing was changed: restore them, "
            "or correct again with the model and the settings of that run"
        )
    copy_parts(folder, plan.parts)
    run = Maintenance(output, lock, {"verb": VERB, "from": plan.current, "to": plan.to})
    changes = write_all_added(plan.parts, folder.at(CHANGES_FOLDER), run.name)
    counted = Counter(plan.counts) + Counter(changes.counts)
    has_succeeded = plan.record.get("state") != TOO_MANY_FAILED
    run.publish(plan.to, plan.parts, changes.files, counted, has_succeeded)
    return plan


def _choose(there: Output, to: str | None) -> str:
    listed = ", ".join(name for name in there.kept if name != there.current) or "none"
    if to is None:
        if there.current is None:
            raise ConfigurationError(
                f"run.json does not say which manifest is the current one: give --to, one of {listed}"
            )
        earlier = [name for name in there.kept if name < there.current]
        if not earlier:
            raise ConfigurationError(
                f"no manifest from before {there.current} is kept; others that are: {listed}"
            )
        return earlier[-1]
    if to not in there.kept:
        raise ConfigurationError(f"--to {to}: no such manifest is kept; there are {listed}")
    return to


def _missing(folder: RunFolder, parts: Sequence[str]) -> int:
    """Return how many images that the parts name do not exist."""
    named = named_images([parts])
    there = 0
    for page in pages(storage.join(folder.output, IMAGES)):
        there += int(named.has(image_keys(file.uri for file in page)).sum())
    return len(named) - there
