"""Compares a run's record with those of the runs before it: does it reject more, or have FID or KID become worse?"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from model.config import require
from pipelines import storage
from pipelines.cluster.ahead import map_ahead
from pipelines.published.layout import RUNS_FOLDER
from pipelines.published.records import PUBLISHED

logger = logging.getLogger(__name__)

#: Runs that are compared with, and the fewest of them that make a history.
RUNS, LEAST_RUNS = 7, 3
#: Records that are read at most to find them: those of runs that corrected little or nothing do not count.
_READ = 300
#: Fewest corrections of a run whose share of rejected ones counts, and fewest images whose KID counts.
LEAST_IMAGES = 50
#: Below as many images as the network has features, FID depends on their number.
_FID_IMAGES = 2048
#: A smaller increase of KID is no drift, whatever it was before.
_KID_FLOOR = 0.002


@dataclass(frozen=True)
class Thresholds:
    """rejected: by how much the share of rejected corrections may be above the median of the last runs.
    drift: by which share FID and KID may be above theirs.
    """

    rejected: float = 0.1
    drift: float = 0.25

    def __post_init__(self) -> None:
        require(0 <= self.rejected <= 1, f"--notify-rejected {self.rejected:g}: a share from 0 to 1")
        require(self.drift >= 0, f"--notify-drift {self.drift:g}: not below 0, such as 0.25 for a quarter")


def rejected_share(record: Mapping[str, Any]) -> float | None:
    """Return the share of a run's corrections that a gate rejected; None for fewer than LEAST_IMAGES corrections."""
    return _share_of(record.get("corrected_now") or {})


def _share_of(counts: Mapping[str, int]) -> float | None:
    tried = counts.get("corrected", 0) + counts.get("rejected", 0)
    return counts.get("rejected", 0) / tried if tried >= LEAST_IMAGES else None


def earlier_runs(output: str, before: str) -> list[dict[str, Any]]:
    """Return the records of the last RUNS published runs before the run `before` that corrected images.

    Of the last _READ runs. Files that are no records are named in one warning and left out; a storage that fails is
    logged and ends the search.
    """
    records: list[dict[str, Any]] = []
    unreadable: list[str] = []
    try:
        uris = [
            uri
            for uri in storage.list_files(storage.join(output, RUNS_FOLDER), ".json")
            if uri.rsplit("/", 1)[-1] < before
        ]
        for uri, record in map_ahead(_read, reversed(uris[-_READ:])):
            if record is None:
                unreadable.append(uri.rsplit("/", 1)[-1])
            elif _is_compared_with(record):
                records.append(record)
            if len(records) == RUNS:
                break
    except storage.STORAGE_ERRORS as error:
        logger.warning("records of earlier runs cannot be read; comparing with %d: %s", len(records), error)
    if unreadable:
        logger.warning(
            "records of earlier runs are left out, for they cannot be read: %s", ", ".join(unreadable)
        )
    return records


def _read(uri: str) -> dict[str, Any] | None:
    """Return a run's record, or None if the file is none. Raises one of STORAGE_ERRORS."""
    try:
        record = json.loads(storage.read_bytes(uri))
    except (ValueError, FileNotFoundError, PermissionError):  # of this file alone; others are the storage's
        return None
    is_record = isinstance(record, dict) and isinstance(record.get("corrected_now") or {}, dict)
    return record if is_record else None


def _is_compared_with(record: Mapping[str, Any]) -> bool:
    is_published = record.get("state") in PUBLISHED
    return is_published and (rejected_share(record) is not None or bool(record.get("fid")))


def find_alerts(
    record: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]], thresholds: Thresholds
) -> list[str]:
    """Return a sentence for each figure that is worse than those of `earlier` by more than the thresholds, and for each
    defect at which the canary is worse than the current bundle.
    """
    return [
        *_rejected(record, earlier, thresholds.rejected),
        *_drifted(record, earlier, thresholds.drift),
        *_canary(record, thresholds.rejected),
    ]


def _canary(record: Mapping[str, Any], most: float) -> Iterator[str]:
    counts = (record.get("canary") or {}).get("counts", {})
    for defect, by_bundle in counts.items():
        canary, current = (_share_of(by_bundle[bundle]) for bundle in ("canary", "current"))
        if canary is not None and current is not None and canary > current + most:
            yield (
                f"{canary:.0%} of the canary's corrections of {defect} were rejected, and {current:.0%} of the current "
                "bundle's"
            )


def _rejected(record: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]], most: float) -> Iterator[str]:
    now = rejected_share(record)
    before = [share for share in map(rejected_share, earlier) if share is not None]
    if now is not None and len(before) >= LEAST_RUNS and now > median(before) + most:
        yield (
            f"{now:.0%} of the corrections were rejected; the median of the last {len(before)} runs is "
            f"{median(before):.0%}"
        )


def _drifted(record: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]], most: float) -> Iterator[str]:
    for defect, row in (record.get("fid") or {}).items():
        past = [rows[defect] for one in earlier if defect in (rows := one.get("fid") or {})]
        fids = [fid for fid in map(_fid, past) if fid is not None]
        kids = [one["kid_after"] for one in past if _kid_at_least(one) is not None]
        fid, kid = _fid(row), _kid_at_least(row)
        if fid is not None and len(fids) >= LEAST_RUNS and fid > median(fids) * (1 + most):
            yield _sentence("FID", defect, fid, fids)
        # Beyond the interval: a night with few images must not be an alert by chance.
        if kid is not None and len(kids) >= LEAST_RUNS:
            middle = max(0.0, median(kids))
            if kid > max(middle * (1 + most), middle + _KID_FLOOR):
                yield _sentence("KID", defect, row["kid_after"], kids)


def _fid(row: Mapping[str, Any]) -> float | None:
    """Return a defect's FID if it does not depend on the number of images."""
    return row["fid_after"] if row["n"] >= _FID_IMAGES else None


def _kid_at_least(row: Mapping[str, Any]) -> float | None:
    """Return the lower end of a defect's KID, if enough images were measured."""
    interval = row["kid_after_ci95"]
    return interval[0] if interval and row["n"] >= LEAST_IMAGES else None


def _sentence(name: str, defect: str, now: float, before: Sequence[float]) -> str:
    return (
        f"{name} of {defect} after correction is {now:.4g}; the median of the last {len(before)} runs is "
        f"{median(before):.4g}"
    )
