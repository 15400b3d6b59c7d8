"""Check prepared shards before a training: what is in them, what would spoil it, what leaks across the split.

Every image is decoded once. The report counts rows by defect, pairing, product type and split, sizes and aspects; it
names images that cannot be read, rows that training would refuse, pairs whose two images are equal or differ in size,
repeated rows, and leaks: the same id, the same bytes or a near-duplicate on both sides of the split.

    OUTPUT/index.html            the page to look at, with every leak's two pictures side by side
    OUTPUT/health.json           the same for programs, written last
    OUTPUT/sheets/<defect>.png   some of each defect's rows: sources above, targets below

    python jobs/check_dataset.py --data shards --output health
    python jobs/check_dataset.py --data s3://shop/train --output s3://shop/health/2 --strict && python jobs/train.py …

Near-duplicates are found in two steps: perceptual hashes that differ in few bits (--near-duplicate-distance), then
details that match when one image is laid over the other, so that two products of the same outline raise no alarm.
Only the nearest --compare-at-most pairs of photos are compared. Further pairs are counted, and fail --strict too.

Runs on the cluster of RAY_ADDRESS (as under `ray job submit`), else on this machine; with --workers 0 in this
process, without Ray. This process keeps 50 bytes for each row and needs four to six times as much while it compares:
0.6 GB for 2 million rows, 2 GB for 10 million (measured), so some 20 to 30 GB for 100 million: start it on a node with
that much memory. The search for near hashes uses one core: 2 minutes for 2 million rows at 8 bits, 73 s for 10 million
at 2 bits, and a hundred times as long for ten times the rows; above ten million use --near-duplicate-distance 2. The
same data give the same report, byte for byte.

Exit codes: 0 done; 1 the run broke off; 2 wrong command line or input, nothing was written; 3 with --strict: leaks,
unreadable images, or rows that do not fit the label map (the report is written, and the message has the counts);
130 interrupted (Ctrl-C), 143 terminated (SIGTERM).
"""

import argparse
import sys
from collections.abc import Sequence

from jobs import command
from pipelines import storage
from pipelines.checking import job as checking_job
from pipelines.checking.config import PAGE, SHEETS, CheckConfig, resolve
from pipelines.checking.findings import Findings

#: The report is kept, as the outputs of a correction in which too many images failed.
EXIT_UNHEALTHY = command.EXIT_TOO_MANY_FAILED


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = command.Parser("check_dataset.py", description=__doc__, formatter_class=command.HelpFormatter)
    add = p.add_argument
    command.add_data(p, "taken together, as a training takes them")
    command.add_output(p, "the report")
    add(
        "--strict",
        action="store_true",
        help="exit code 3 on leaks, candidates that were not compared, unreadable images and rows that do not fit the "
        "label map",
    )
    add(
        "--near-duplicate-distance",
        type=command.not_negative,
        default=CheckConfig.near_duplicate_distance,
        metavar="BITS",
        help="pairs whose perceptual hashes differ in at most so many of 64 bits are candidates, 0 to 11; more bits "
        "find stronger crops",
    )
    add(
        "--compare-at-most",
        type=command.positive,
        default=CheckConfig.compare_at_most,
        metavar="PAIRS",
        help="so many of the nearest candidates are compared in detail, 20 ms of a core each; --strict fails if there "
        "are more",
    )
    add(
        "--workers",
        type=command.not_negative,
        metavar="N",
        help="Ray tasks at once (default: one per CPU); 0 checks in this process, without Ray",
    )
    add("--overwrite", action="store_true", help="replace the report that OUTPUT holds")
    command.add_dry_run(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Check a dataset and return the exit code. Raises CatalogRepairError for what the user must change."""
    arguments = parser().parse_args(argv)
    with storage.impatient():
        plan = resolve(_config(arguments))
    command.show_configuration(parser(), arguments, plan.preview())
    if arguments.dry_run:
        return command.EXIT_OK
    findings = checking_job.run(plan)
    command.keep_flags(parser(), arguments)
    sys.stdout.write(f"\n{_summary(findings, plan.config.output)}")
    if plan.config.strict and findings.problems():
        counts = ", ".join(f"{count} {title}" for title, count in findings.problems().items())
        sys.stderr.write(f"error: --strict: {counts}; see {storage.join(plan.config.output, PAGE)}\n")
        return EXIT_UNHEALTHY
    return command.EXIT_OK


def _config(arguments: argparse.Namespace) -> CheckConfig:
    return CheckConfig(
        data=tuple(storage.absolute(uri) for uri in arguments.data),
        output=storage.absolute(arguments.output),
        **{
            name: getattr(arguments, name)
            for name in ("strict", "near_duplicate_distance", "compare_at_most", "workers", "overwrite")
        },
    )


def _summary(findings: Findings, output: str) -> str:
    lines = [f"{findings.rows} rows{'' if findings.problems() else ', no problem'}"]
    for name, counts in (("problem", findings.problems()), ("note", findings.notes())):
        lines += [f"{name:9} {count} {title}" for title, count in counts.items()]
    lines += [f"page      {storage.join(output, PAGE)}", f"pictures  {storage.join(output, SHEETS)}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    command.run(main, "the same command starts again; add --overwrite if something was written already")
