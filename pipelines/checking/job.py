"""Runs a check from its plan to health.json. Its steps are in other modules, and run in this process or on Ray Data.

units -> inspect every image -> 50 bytes per row on the driver -> duplicates, near pairs -> second looks -> page
"""

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from model.errors import underway
from pipelines import storage
from pipelines.checking.config import JSON, PAGE, SHEETS, Plan, prepare_output
from pipelines.checking.findings import KINDS, Findings, Leak
from pipelines.checking.inspect_unit import Rows, inspect_units, work
from pipelines.checking.inspect_unit import from_table as inspected
from pipelines.checking.leaks import (
    NAMED,
    Pair,
    ids_on_both_sides,
    near_across,
    repeated_keys,
    same_bytes,
)
from pipelines.checking.look_again import (
    COMPARED,
    GREY,
    NAME,
    PICTURE,
    FetchedImage,
    compare,
    look_again,
    requests,
)
from pipelines.checking.look_again import from_table as fetched
from pipelines.checking.page import SHOWN, render, sheet
from pipelines.checking.similarity import SAME_PICTURE
from pipelines.checking.tally import Tally
from pipelines.cluster.progress import Progress

logger = logging.getLogger(__name__)

#: Pairs that one task compares, in about a second.
_PAIRS = 64
#: Pairs whose images are in this process at the same time; 18 KB per pair.
ROUND = 4096

#: Runs a step over tables, in this process or on Ray.
Run = Callable[[Callable[..., Iterator[pa.Table]], Sequence[pa.Table], Mapping[str, Any]], Iterator[pa.Table]]


def run(plan: Plan) -> Findings:
    """Check the dataset and write the report. Raises ConfigurationError before anything is written, RunError after."""
    storage.check_writable(plan.config.output, "--output")  # before Ray and the images, which take time
    if plan.config.workers == 0:
        prepare_output(plan.config)
        with underway():
            return check(plan, here)
    from pipelines.checking.on_ray import OnRay
    from pipelines.cluster import session

    with session.stopped_afterwards(), session.our_errors():
        session.start(*plan.config.data)
        prepare_output(plan.config)
        with underway(), session.our_errors():
            return check(plan, OnRay(plan.config.workers or 0))


def here(
    step: Callable[..., Iterator[pa.Table]], work: Sequence[pa.Table], settings: Mapping[str, Any]
) -> Iterator[pa.Table]:
    """Run a step in this process."""
    for table in work:
        yield from step(table, **settings)


def check(plan: Plan, run: Run) -> Findings:
    """Inspect, compare and write the report. run: runs the steps that read images."""
    tally, rows = look(plan, run)
    logger.info("inspected %d rows; searching for duplicates", plan.rows)
    findings = Findings(plan.rows, tally)
    for name in KINDS:
        findings.counts[name] = tally.counts["finding", name]
    _duplicates(plan, run, rows, findings)
    _leaks(plan, run, rows, findings)
    _write(plan, run, findings)
    return findings


def look(plan: Plan, run: Run) -> tuple[Tally, Rows]:
    """Inspect every image once; return the counts, and 50 bytes per row."""
    total, parts, starts = Tally(), {}, plan.starts
    tables = [work(number, unit) for number, unit in enumerate(plan.units) if unit.rows]
    with Progress("checking", plan.rows, sys.stderr) as progress:
        for table in run(inspect_units, tables, {"label_map": plan.source.label_map}):
            for number, tally, rows in inspected(table):
                total.merge(tally, int(starts[number]))
                parts[number] = rows
                progress.update(len(rows.ids), tally.counts["finding", "unreadable"])
    return total, Rows.concatenate([parts[number] for number in sorted(parts)])


def _fetch(plan: Plan, run: Run, images: Iterable[int], what: str) -> dict[int, FetchedImage]:
    tables = requests(plan.units, plan.starts, images, what)
    return {one.image: one for table in run(look_again, tables, {}) for one in fetched(table)}


def _duplicates(plan: Plan, run: Run, rows: Rows, findings: Findings) -> None:
    """Find ids, keys and bytes that occur several times, and fetch the names of these rows."""
    same = same_bytes(rows)
    images: dict[str, list[tuple[int, int]]] = {}
    for name, duplicates, per_row in (
        ("repeated_keys", repeated_keys(rows), 2),
        ("ids_across", ids_on_both_sides(rows), 2),
        ("same_bytes_across", same.across, 1),
        ("same_bytes_within", same.within, 1),
    ):
        findings.counts[name] = duplicates.count
        images[name] = [(first * per_row, second * per_row) for first, second in duplicates.pairs]
    names = _fetch(plan, run, {image for pairs in images.values() for pair in pairs for image in pair}, NAME)
    twins = {name: [(names[a], names[b]) for a, b in pairs] for name, pairs in images.items()}
    findings.leaks["same_bytes_across"] = [Leak(a, b) for a, b in twins.pop("same_bytes_across")]
    findings.twins = twins


def _leaks(plan: Plan, run: Run, rows: Rows, findings: Findings) -> None:
    """Find near-duplicates across the split, by hash and then by details. One round of pairs is in memory at a time."""
    near = near_across(rows, plan.config.near_duplicate_distance, plan.config.compare_at_most)
    findings.by_distance, findings.compared = near.by_distance, len(near.nearest)
    findings.counts["not_compared"] = near.left_out
    leaks: list[Leak] = []
    for start in range(0, len(near.nearest), ROUND):
        pairs = near.nearest[start : start + ROUND]
        logger.info(
            "comparing the details of pairs %d to %d of %d", start + 1, start + len(pairs), len(near.nearest)
        )
        same = _same_pictures(plan, run, pairs)
        findings.counts["near_duplicates_across"] += len(same)
        leaks += same[: NAMED - len(leaks)]
    findings.leaks["near_duplicates_across"] = leaks


def _same_pictures(plan: Plan, run: Run, pairs: Sequence[Pair]) -> list[Leak]:
    """Return the pairs that show the same picture, in order."""
    greys = _fetch(plan, run, {image for pair in pairs for image in (pair.test, pair.train)}, GREY)
    similarities = {
        row["pair"]: row["similarity"]
        for table in run(compare, _comparisons(pairs, greys), {})
        for row in table.to_pylist()
        if row["similarity"] >= SAME_PICTURE
    }
    return [
        Leak(greys[pair.test], greys[pair.train], pair.distance, similarities[number])
        for number, pair in enumerate(pairs)
        if number in similarities
    ]


def _comparisons(pairs: Sequence[Pair], greys: Mapping[int, FetchedImage]) -> list[pa.Table]:
    rows = [
        {"pair": number, "test": greys[pair.test].pixels, "train": greys[pair.train].pixels}
        for number, pair in enumerate(pairs)
    ]
    return [pa.Table.from_pylist(rows[at : at + _PAIRS], COMPARED) for at in range(0, len(rows), _PAIRS)]


def _write(plan: Plan, run: Run, findings: Findings) -> None:
    """Fetch the pictures of the report, and write sheets, page and, last, JSON."""
    pictured = [leak for leaks in findings.leaks.values() for leak in leaks[:SHOWN]]
    images = {one.image for leak in pictured for one in (leak.test, leak.train)}
    # In the label map's order. Only its defects: another name may be no valid file name.
    samples = {
        defect: sorted(2 * row for _, row in findings.tally.samples[defect])
        for defect in plan.source.label_map.defects
        if defect in findings.tally.samples
    }
    images |= {image + side for sources in samples.values() for image in sources for side in (0, 1)}
    pictures = _fetch(plan, run, images, PICTURE)
    output = plan.config.output
    for defect, sources in samples.items():
        picture = sheet([(pictures[image], pictures[image + 1]) for image in sources])
        storage.write_bytes(storage.join(output, SHEETS, f"{defect}.png"), picture)
    page = render(plan, findings, pictures, samples)
    storage.write_bytes(storage.join(output, PAGE), page.encode("utf-8"))
    details = {"data": list(plan.config.data), "dataset": plan.source.describe()}
    text = json.dumps(findings.to_dict(details), indent=2) + "\n"
    storage.write_bytes(storage.join(output, JSON), text.encode())
