"""The report page of a correction run: its content, and the HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pipelines import storage
from pipelines.contracts.schemas import STATUSES
from pipelines.correction.stream.totals import TopError
from pipelines.reports.html import flatten, is_finite, template
from pipelines.reports.pictures import Strip


@dataclass(frozen=True)
class Comparison:
    """The canary beside the current bundle. model, version, config_hash: of the canary. share: of the ids that it
    corrects.

    counts: defect -> `canary` and `current` -> status -> images. The canary's are of all images that it corrected. The
    current bundle's are of the sample (for FID and for the report's pictures) that it corrected as well in this
    attempt, but not to be published. fid: defect -> `canary` and `current` -> row of fid.json, on the images that both
    would publish; empty without FID.
    """

    model: str
    version: str
    config_hash: str
    share: float
    counts: Mapping[str, Mapping[str, Mapping[str, int]]]
    fid: Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class RunSummary:
    """The content of one run's report. Its size is bounded: nothing grows with the catalog.

    `counts_by_status`: rows per status of `pipelines.contracts.schemas.STATUSES`; a missing status counts as 0.
    `counts_by_defect`: defect -> status -> rows whose first defect it is.
    `errors`: the most frequent first.
    `fid`: the structure of `fid.json`, or None if it was not computed; `fid_missing` then says why.
    `unchanged`: number of further rows, which earlier runs had done and this run left as they are.
    `strips`: defect -> a few corrected or rejected images; the page shows defects in this order.
    `profile`: name of the marketplace's rules, or None; `profile_issues`: rule -> corrected images that fail it.
    `resumed`: number of the rows that killed attempts had finished before they could publish.
    `canary`: how the bundle on trial compares; `fid` and `strips` are of the current bundle's own images, and
    `canary_strips` of the canary's.
    `duration_seconds`: wall time of the run; `images_per_second`: while correcting; None if no image had to be read.
    """

    counts_by_status: Mapping[str, int]
    counts_by_defect: Mapping[str, Mapping[str, int]]
    duration_seconds: float
    started_at: datetime
    model_version: str
    configuration: Mapping[str, Any]
    errors: Sequence[TopError] = ()
    fid: Mapping[str, Any] | None = None
    fid_missing: str | None = None
    strips: Mapping[str, Sequence[Strip]] = field(default_factory=dict)
    profile: str | None = None
    profile_issues: Mapping[str, int] = field(default_factory=dict)
    unchanged: int = 0
    resumed: int = 0
    images_per_second: float | None = None
    canary: Comparison | None = None
    canary_strips: Mapping[str, Sequence[Strip]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of rows that the page is about."""
        return sum(self.counts_by_status.values())


def write_report(output_uri: str, summary: RunSummary) -> str:
    """Write `report/index.html` below the run's output folder and return its URI."""
    uri = storage.join(output_uri, "report", "index.html")
    storage.write_bytes(uri, render(summary).encode("utf-8"))
    return uri


def render(summary: RunSummary) -> str:
    """Return the page as HTML; the same summary gives the same page."""
    return template("report.html.j2").render(
        run=summary,
        statuses=STATUSES,
        galleries=[
            ("pictures", "Before and after", _gallery(summary, rejected=False)),
            ("rejected", "Rejected: the original was kept", _gallery(summary, rejected=True)),
        ],
        # One scale for all bars, so that defects can be compared.
        fid_scale=max([1e-9, *_fids(summary)]),
        configuration=list(flatten(summary.configuration)),
    )


def _gallery(summary: RunSummary, rejected: bool) -> dict[str, list[Strip]]:
    """Return the corrected or the rejected strips of each defect that has any."""
    chosen = {
        defect: [strip for strip in strips if (strip.rejected is not None) == rejected]
        for defect, strips in summary.strips.items()
    }
    return {defect: strips for defect, strips in chosen.items() if strips}


def _fids(summary: RunSummary) -> list[float]:
    rows = (summary.fid or {}).get("defects", {}).values()
    values = [row.get(key) for row in rows for key in ("fid_before", "fid_after")]
    return [value for value in values if is_finite(value)]
