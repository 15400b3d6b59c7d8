"""Counts rows of a run: one bounded summary row per block, and their sums on the driver."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from model.errors import TooManyFailedError
from pipelines.contracts.profiles.check import rule_of
from pipelines.contracts.schemas import by_status
from pipelines.correction.rows import SUMMARY, to_table

#: Examples that are named for one error code.
EXAMPLES = 3
#: Most error codes in a table of errors.
TOP_ERRORS = 20
#: After so many failures and nothing else the run ends: the cause is not the images.
HOPELESS = 1000
_STAGES = ("decode_seconds", "generator_seconds", "commit_seconds")
_BYTES = ("read_bytes", "written_bytes")


@dataclass(frozen=True)
class TopError:
    """A kind of failure: its code, the number of its rows, a few of their ids, and the message of one of them."""

    code: str
    count: int
    example_ids: Sequence[str]
    example_message: str


def summarise(
    manifest: Sequence[Mapping[str, Any]],
    routes: Sequence[str],
    seconds: Mapping[str, float] = MappingProxyType({}),
    refreshed: int = 0,
    sizes: Mapping[str, int] = MappingProxyType({}),
    beside: Iterable[tuple[str, str]] = (),
) -> pa.Table:
    """Return one row of SUMMARY for a block's manifest rows; its size is bounded.

    routes: each row's route. seconds: of one core, by stage; 0 for stages not given. refreshed: number of further rows,
    whose image is the one corrected before. sizes: `read_bytes` and `written_bytes`; 0 if not given.
    beside: route and status of corrections that were made only to compare with; they count in their routes alone.
    """
    by_route: dict[str, Counter[str]] = {}
    errors: dict[str, list[tuple[str, str]]] = {}
    issues: Counter[str] = Counter()
    for row, route in zip(manifest, routes, strict=True):
        by_route.setdefault(route, Counter())[row["status"]] += 1
        issues.update({rule_of(issue) for issue in row.get("profile_issues") or ()})
        if row["error_code"] is not None:
            errors.setdefault(row["error_code"], []).append((row["image_id"], row["error_message"]))
    statuses = sum(by_route.values(), Counter[str]())
    for route, status in beside:
        by_route.setdefault(route, Counter())[status] += 1
    summary = {
        "rows": len(manifest),
        "refreshed": refreshed,
        **by_status(statuses),
        "routes": [{"route": route, **by_status(counts)} for route, counts in sorted(by_route.items())],
        "errors": [
            {
                "code": code,
                "count": len(rows),
                "examples": [_example(*row) for row in sorted(rows)[:EXAMPLES]],
            }
            for code, rows in sorted(errors.items())
        ],
        "profile_issues": [{"rule": rule, "count": count} for rule, count in sorted(issues.items())],
        **dict.fromkeys(_STAGES, 0.0),
        **seconds,
        **dict.fromkeys(_BYTES, 0),
        **sizes,
    }
    return to_table([summary], SUMMARY)


@dataclass
class Totals:
    """Sums over the summaries of all blocks. Bounded by the numbers of defects and of error codes."""

    rows: int = 0
    refreshed: int = 0
    parts: int = 0  # of the journal
    statuses: Counter[str] = field(default_factory=Counter)
    routes: dict[str, Counter[str]] = field(default_factory=dict)  # route -> status -> rows
    profile_issues: Counter[str] = field(default_factory=Counter)  # rule -> corrected images that fail it
    seconds: Counter[str] = field(default_factory=Counter)  # of one core, by stage
    _error_counts: Counter[str] = field(default_factory=Counter)
    _examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def add(self, summary: Mapping[str, Any]) -> None:
        """Add one row of SUMMARY; the order does not matter."""
        self.rows += summary["rows"]
        self.refreshed += summary["refreshed"]
        self.parts += summary["rows"] > 0
        self.statuses.update(by_status(summary))
        for route in summary["routes"]:
            self.routes.setdefault(route["route"], Counter()).update(by_status(route))
        for error in summary["errors"]:
            code = error["code"]
            self._error_counts[code] += error["count"]
            examples = [(example["image_id"], example["message"]) for example in error["examples"]]
            self._examples[code] = sorted([*self._examples.get(code, []), *examples])[:EXAMPLES]
        self.profile_issues.update({one["rule"]: one["count"] for one in summary["profile_issues"] or ()})
        for name in _STAGES:
            self.seconds[name] += summary[name]

    def check_promising(self, max_failed: float, before: int = 0) -> None:
        """Raise TooManyFailedError if HOPELESS images were to be corrected and every one failed.

        max_failed: the tolerated share of failures; 1 tolerates this too. before: failures of earlier runs, some of
        which every run tries again.
        """
        failed = self.statuses["failed"]
        attempted = self.rows + self.refreshed - self.statuses["passthrough"]
        if max_failed < 1 and HOPELESS + before <= failed == attempted:
            top = self.top_errors[0]
            raise TooManyFailedError(
                f"the first {failed} images that were to be corrected all failed, {top.count} of them with "
                f"{top.code} ({top.example_ids[0]}: {top.example_message}): look for one cause (storage, credentials, "
                "--allow-uri), then run again with --retry-failed; finished rows are kept, and --max-failed 1 goes on "
                "whatever fails"
            )

    @property
    def error_counts(self) -> dict[str, int]:
        """Rows by error code, of all codes."""
        return dict(sorted(self._error_counts.items()))

    @property
    def top_errors(self) -> list[TopError]:
        """The most frequent codes, with examples."""
        ordered = sorted(self._error_counts, key=lambda code: (-self._error_counts[code], code))
        return [
            TopError(
                code,
                self._error_counts[code],
                [image_id for image_id, _ in self._examples[code]],
                self._examples[code][0][1],
            )
            for code in ordered[:TOP_ERRORS]
        ]


def _example(image_id: str, message: str) -> dict[str, str]:
    return {"image_id": image_id, "message": message}
