"""Say in plain text what a run did: the lines at the job's end, and warnings for a person to look at."""

import logging
from collections.abc import Mapping
from typing import Any

from pipelines import storage
from pipelines.contracts.error_codes import FAILED
from pipelines.contracts.schemas import STATUSES
from pipelines.correction.report.canary import compare
from pipelines.correction.report.record import too_many_failed
from pipelines.correction.run import Run

logger = logging.getLogger("jobs.correct_catalog")  # these are the job's own words


def summary(run: Run) -> str:
    """Return the text that the job prints at its end: counts, the table of FID, and where the outputs are."""
    lines = [""]
    if run.unchanged:
        lines.append(f"{run.unchanged} images have not changed since an earlier run and stay as they are")
    rows = run.night.rows
    if rows:
        counts = ", ".join(f"{run.night.statuses[status]} {status}" for status in STATUSES)
        rate = run.images_per_second
        speed = "" if rate is None else f"{rate:.1f} images/s while correcting, "
        lines.append(f"{rows} images: {counts}; {speed}{run.seconds['total']:.0f} s in all")
        if run.resumed:
            lines.append(
                f"{run.resumed} of these were finished by an interrupted attempt; FID and the report's pictures are of "
                "the others"
            )
        lines += [*_remarks(run), *_canary_lines(run)]
        if run.fid is None:
            lines += ["", f"no FID: {run.fid_missing}"]
        elif run.fid["defects"]:
            lines += ["", *_fid_table(run.fid)]
    else:
        lines.append("nothing was corrected")
    lines.append("")
    if run.statuses["corrected"]:
        lines.append(f"images    {storage.join(run.output, 'images')}")
    lines += [
        f"manifest  {storage.join(run.output, 'manifest')}",
        f"report    {storage.join(run.output, 'report', 'index.html')}",
    ]
    return "\n".join(lines) + "\n"


def warn(run: Run) -> None:
    """Log what a person should look at: failures with ids, and counts that point to a fault."""
    for error in run.night.top_errors:
        if error.code in FAILED:
            logger.warning(
                "%d images failed with %s, such as %s: %s",
                *(error.count, error.code, ", ".join(map(repr, error.example_ids)), error.example_message),
                extra={"error_code": error.code, "image_ids": error.example_ids},
            )
    attempted = sum(run.night.statuses[status] for status in ("corrected", "rejected"))
    if attempted and run.night.statuses["rejected"] == attempted:
        logger.warning(
            "all %d corrections were rejected by a gate: the model is hardly trained, or the gates do not suit these "
            "images (--gates); the report shows them",
            attempted,
        )
    failed_before = run.statuses["failed"] - run.totals.statuses["failed"]
    if failed_before:
        logger.warning(
            "%d images failed in earlier runs or attempts and have not changed; --retry-failed tries them again",
            failed_before,
        )
    if run.too_many_failed:
        logger.error("%s; see the report, or the manifest's error_code", too_many_failed(run))


def _canary_lines(run: Run) -> list[str]:
    """Return a line for each defect that the canary corrected."""
    comparison = compare(run)
    if comparison is None:
        return []
    if not comparison.counts:
        return ["  canary: no new or changed image with a defect fell to it"]
    lines = []
    for defect, by_bundle in comparison.counts.items():
        shares = [
            f"{bundle} {counts['rejected']} rejected and {counts['failed']} failed of {sum(counts.values())}"
            for bundle, counts in by_bundle.items()
        ]
        lines.append(f"  {defect}: {', '.join(shares)}")
    return ["", "canary and, on a sample of the same images, the current bundle:", *lines]


def _remarks(run: Run) -> list[str]:
    """Return lines about the most frequent errors and the marketplace rules that corrected images break."""
    remarks = [
        f"  {error.code}: {error.count}, such as {error.example_ids[0]!r}"
        for error in run.night.top_errors[:5]
    ]
    missed = [f"{rule} {count}" for rule, count in sorted(run.night.profile_issues.items())]
    return [*remarks, *([f"  corrected, but not as --profile asks: {', '.join(missed)}"] if missed else [])]


def _fid_table(fid: Mapping[str, Any]) -> list[str]:
    header = ("defect", "n", "FID before", "FID after", "KID before", "KID after")
    rows = [header]
    for defect, row in fid["defects"].items():
        fids = [_number(row[key], 2) for key in ("fid_before", "fid_after")]
        kids = [_number(row[key], 4) for key in ("kid_before", "kid_after")]
        rows.append((defect, str(row["n"]), *fids, *kids))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    notes = sorted({row["note"] for row in fid["defects"].values() if row["note"]})
    return [*lines, *(f"note: {note}" for note in notes)]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
