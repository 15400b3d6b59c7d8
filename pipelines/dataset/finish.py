"""The end of a preparation: all generations' totals to the report and, last, dataset.json."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines import storage
from pipelines.dataset.failures import Failures, count_once
from pipelines.dataset.job import Collected, collect, remove_done
from pipelines.dataset.output import Places, generation_records
from pipelines.dataset.plan import Plan
from pipelines.dataset.report import Preparation, listed_unreadable, nested, write_report
from pipelines.dataset.totals import Totals, UnitRecord
from pipelines.dataset.unit import Work


@dataclass(frozen=True)
class Description:
    """What dataset.json tells besides counts. configuration: all flags, resolved."""

    label_map: str
    configuration: Mapping[str, Any]
    seconds: float


def finish(places: Places, work: Work, description: Description) -> Totals:
    """Check that nothing was lost, keep the generation's totals and ids, write the report and dataset.json.

    Returns the totals of this generation. May be repeated: a run that is killed here is finished by the next.
    """
    plan = work.plan
    found = collect(work)
    failures = all_failures(places, plan.generation, found)
    storage.write_bytes(places.ids(plan.generation), found.known.to_bytes())
    if failures is not None:
        storage.write_bytes(places.failed(plan.generation), failures.to_bytes())
    storage.write_bytes(places.record(plan.generation), found.record.to_bytes())
    whole, generations = UnitRecord(), []
    for number, part in enumerate(generation_records(places, plan.generation + 1)):
        generations.append({"generation": number, "entries": nested(part.totals).get("entries", {})})
        whole.merge(part)
    if failures is not None:
        count_once(whole.totals, failures, plan.nameless, found.record.totals, work.settings.groups)
    count_whole(whole.totals, plan.duplicates)
    made = fingerprint(whole.totals, description.label_map)
    summary = {
        "fingerprint": made,
        "counts": nested(whole.totals),
        "unreadable": listed_unreadable(whole.totals),
        "duplicates": plan.duplicate_examples,
        "notes": plan.notes,
        "configuration": description.configuration,
        "identity": plan.identity,
        "generations": generations,
        "seconds": round(description.seconds, 1),
    }
    storage.write_bytes(places.label_map, description.label_map.encode())
    write_report(places.report, _preparation(whole, made, plan, work, description))
    text = json.dumps(summary, indent=2, sort_keys=True) + "\n"
    storage.write_bytes(places.summary, text.encode())
    remove_done(work)
    return found.record.totals


def all_failures(places: Places, generation: int, found: Collected) -> Failures | None:
    """What cannot be read of all generations; None where an earlier one did not keep what of it."""
    if generation == 0:
        return found.failures
    uri = places.failed(generation - 1)
    if not storage.exists(uri):
        return None
    return found.failures.after(Failures.from_bytes(storage.read_bytes(uri)), found.tried.hashes)


def count_whole(totals: Totals, duplicates: int) -> None:
    """Entries of the whole dataset: what an addition lists, the one before it may have listed as well.

    duplicates: that the last run met. What each run listed, and how much of it was there, is in `generations`.
    """
    counts = totals.counts
    counts["entries/duplicates"] = duplicates
    del counts["entries/already_there"]
    counts["entries/listed"] = counts["entries/prepared"] + counts["entries/unreadable"] + duplicates


def fingerprint(totals: Totals, label_map: str) -> str:
    """Of the rows, whatever their order and files, and of what their defects mean."""
    return hashlib.sha256(f"{totals.fingerprint:064x}\n{label_map}".encode()).hexdigest()


def _preparation(
    whole: UnitRecord, made: str, plan: Plan, work: Work, description: Description
) -> Preparation:
    return Preparation(
        whole,
        work.settings.min_quality,
        made,
        plan.duplicate_examples,
        plan.notes,
        description.configuration,
        description.seconds,
        plan.generation + 1,
        tuple(work.settings.groups),
    )
