"""Makes an earlier run's manifest the current one. The next run then goes on from it, as if no later run had been."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model.errors import ConfigurationError, RunError
from pipelines import storage
from pipelines.contracts.schemas import STATUSES
from pipelines.maintenance.run import Maintenance, Output, begin, count_statuses, image_keys, named_images
from pipelines.published.changes import write_all_added
from pipelines.published.layout import CHANGES_FOLDER, RUN, RunFolder
from pipelines.published.object_names import IMAGES
from pipelines.published.publish import copy_parts
from pipelines.published.records import COMPLETE, read_kept
from pipelines.storage.lock import Lock
from pipelines.storage.pages import pages

VERB = "rollback"


@dataclass(frozen=True)
class Rollback:
    """A return to the manifest of the run `to`. parts: of that manifest. counts: its rows by status. missing: images
    that it names and that are gone. record: of that manifest, see `read_kept`.
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
            *([f"refused    {self.fault}"] if self.fault else []),
        ]

    @property
    def fault(self) -> str | None:
        """Say why the manifest cannot be published again; None if it can."""
        rows, wanted = sum(self.counts.values()), self.record.get("rows_in")
        if wanted is None:
            return (
                f"how many rows the manifest of {self.to} must have is not known: neither manifests/{self.to}.json nor "
                f"runs/{self.to}.json says it; nothing was changed: choose another --to"
            )
        if rows != wanted:
            return (
                f"the manifest of {self.to} has {rows} rows of {wanted}: a part of it is gone; nothing was changed: "
                "choose another --to"
            )
        if self.missing:
            return (
                f"{self.missing} images that the manifest of {self.to} names are gone; nothing was changed: restore "
                "them, or correct again with the model and the settings of that run"
            )
        return None


def plan_rollback(output: str, to: str | None) -> Rollback:
    """Look at what a rollback would do, and write nothing. to: None is the manifest that the current one replaced.

    Raises ConfigurationError if there is no such manifest.
    """
    there = Output.look(output)
    return _rollback(there, there.current, _choose(there, to))


def _rollback(there: Output, current: str | None, to: str) -> Rollback:
    parts, record = there.kept[to], read_kept(there.folder, to)
    return Rollback(current, to, parts, count_statuses(parts), _missing(there.folder, parts), record)


def _completed(output: str) -> Rollback | None:
    """Return the rollback that published last; None if another run did."""
    does = json.loads(storage.read_bytes(storage.join(output, RUN))).get("maintenance") or {}
    if does.get("verb") != VERB:
        return None
    return _rollback(Output.look(output), does["from"], does["to"])


def roll_back(output: str, to: str | None, lock: Lock) -> Rollback:
    """Publish a kept manifest again, unless it is the published one, and what consumers need to follow.

    Returns what was done.

    Raises RunError if the manifest is not whole, images that it names are gone, or the lock is lost,
    ConfigurationError, and one of STORAGE_ERRORS.
    """
    if begin(output, lock) and (done := _completed(output)) is not None and to in (None, done.to):
        return done  # the same call, which was killed: another step back was not asked for
    plan = plan_rollback(output, to)
    folder = RunFolder(output)
    if plan.fault:
        raise RunError(plan.fault)
    if plan.to == plan.current and _files(folder.manifest) == _files(folder.kept(plan.to)):
        return plan
    copy_parts(folder, plan.parts)
    run = Maintenance(output, lock, {"verb": VERB, "from": plan.current, "to": plan.to})
    changes = write_all_added(plan.parts, folder.at(CHANGES_FOLDER), run.name)
    counted = Counter(plan.counts) + Counter(changes.counts)
    run.publish(plan.to, plan.parts, changes.files, counted, success=plan.record["state"] == COMPLETE)
    return plan


def _files(manifest: str) -> set[tuple[str, int]]:
    """Return names and sizes of the parts in a manifest's folder."""
    files = (file for page in pages(manifest) for file in page)
    return {(file.uri.rsplit("/", 1)[-1], file.size) for file in files if file.uri.endswith(".parquet")}


def _choose(there: Output, to: str | None) -> str:
    others = ", ".join(name for name in there.kept if name != there.current)
    if to is None:
        return _previous(there, others)
    if to not in there.kept:
        raise ConfigurationError(f"--to {to}: no such manifest is kept; there are {others or 'no others'}")
    return to


def _previous(there: Output, others: str) -> str:
    """Return the run whose manifest the current one replaced: not the last one before, which may be a bad night that a
    rollback left. others: the runs that `--to` may name.
    """
    if there.current is None:
        raise ConfigurationError(
            f"run.json does not say which manifest is the current one: give --to, one of {others or 'none'}"
        )
    if not others:
        raise ConfigurationError(f"no manifest is kept, except for that of {there.current}")
    previous = read_kept(there.folder, there.current).get("previous_manifest_run")
    if previous not in there.kept:
        state = "not known" if previous is None else f"that of {previous}, which is not kept any more"
        raise ConfigurationError(
            f"the manifest that was current before that of {there.current} is {state}: give --to, one of {others}"
        )
    return str(previous)


def _missing(folder: RunFolder, parts: Sequence[str]) -> int:
    """Return how many images that the parts name do not exist."""
    named = named_images([parts])
    there = 0
    for page in pages(storage.join(folder.output, IMAGES)):
        there += int(named.has(image_keys(file.uri for file in page)).sum())
    return len(named) - there
