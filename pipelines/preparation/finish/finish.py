"""Finish a preparation: write the report from the units' totals and, last, dataset.json."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines import storage
from pipelines.preparation.finish.collect import collect, remove_done
from pipelines.preparation.finish.report import Preparation, listed_unreadable, nested, write_report
from pipelines.preparation.output import Layout
from pipelines.preparation.totals import Totals
from pipelines.preparation.unit.unit import Work


@dataclass(frozen=True)
class Description:
    """The content of dataset.json besides the counts. configuration: all flags, resolved."""

    label_map: str
    configuration: Mapping[str, Any]
    seconds: float


def finish(layout: Layout, work: Work, description: Description) -> Totals:
    """Check that nothing was lost, write the label map, the report and dataset.json; return the totals.

    May be repeated: if a run is killed here, the next run finishes the work.
    """
    total = collect(work)
    made = fingerprint(total.totals, description.label_map)
    preparation = Preparation(
        total,
        work.settings.min_quality,
        made,
        work.plan.duplicate_examples,
        work.plan.notes,
        description.configuration,
        description.seconds,
        tuple(work.settings.groups),
    )
    storage.write_bytes(layout.label_map, description.label_map.encode())
    write_report(layout.report, preparation)
    text = json.dumps(_summary(preparation, work), indent=2, sort_keys=True) + "\n"
    storage.write_bytes(layout.summary, text.encode())
    remove_done(work)
    return total.totals


def fingerprint(totals: Totals, label_map: str) -> str:
    """Return a hash of the rows, in any order and in any files, and of the label map."""
    return hashlib.sha256(f"{totals.fingerprint:064x}\n{label_map}".encode()).hexdigest()


def _summary(preparation: Preparation, work: Work) -> dict[str, Any]:
    """Return the content of dataset.json."""
    return {
        "fingerprint": preparation.fingerprint,
        "counts": nested(preparation.record.totals),
        "unreadable": listed_unreadable(preparation.record.totals),
        "duplicates": preparation.duplicate_examples,
        "notes": preparation.notes,
        "configuration": preparation.configuration,
        "identity": work.plan.identity,
        "seconds": round(preparation.seconds, 1),
    }
