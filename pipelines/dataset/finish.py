"""The end of a preparation: the units' totals to the report and, last, dataset.json."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines import storage
from pipelines.dataset.collect import collect, remove_done
from pipelines.dataset.output import Places
from pipelines.dataset.report import Preparation, listed_unreadable, nested, write_report
from pipelines.dataset.totals import Totals
from pipelines.dataset.unit import Work


@dataclass(frozen=True)
class Description:
    """What dataset.json holds besides counts. configuration: all flags, resolved."""

    label_map: str
    configuration: Mapping[str, Any]
    seconds: float


def finish(places: Places, work: Work, description: Description) -> Totals:
    """Check that nothing was lost, write the label map, the report and dataset.json; return the totals.

    May be repeated: a run that is killed here is finished by the next.
    """
    whole = collect(work)
    made = fingerprint(whole.totals, description.label_map)
    preparation = Preparation(
        whole,
        work.settings.min_quality,
        made,
        work.plan.duplicate_examples,
        work.plan.notes,
        description.configuration,
        description.seconds,
        tuple(work.settings.groups),
    )
    storage.write_bytes(places.label_map, description.label_map.encode())
    write_report(places.report, preparation)
    text = json.dumps(_summary(preparation, work), indent=2, sort_keys=True) + "\n"
    storage.write_bytes(places.summary, text.encode())
    remove_done(work)
    return whole.totals


def fingerprint(totals: Totals, label_map: str) -> str:
    """Of the rows, whatever their order and files, and of what their defects mean."""
    return hashlib.sha256(f"{totals.fingerprint:064x}\n{label_map}".encode()).hexdigest()


def _summary(preparation: Preparation, work: Work) -> dict[str, Any]:
    """The content of dataset.json."""
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
