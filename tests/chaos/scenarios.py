"""Scenarios of disturbed corrections. Each ends with a successful job and a line of the ledger."""

import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from model.bundle import load_bundle
from pipelines import storage
from pipelines.contracts.hashing import in_share
from pipelines.published.erased import ERASED
from pipelines.published.layout import SUCCESS
from pipelines.published.records import manifest_run
from pipelines.storage.lock import FOLDER
from tests.catalogs import write_bundle
from tests.chaos.kills import (
    COMMITTING,
    CORRECTING,
    DECODING,
    kill_driver,
    kill_node,
    kill_worker,
)
from tests.chaos.ledger import Entry, files_below, read_manifest
from tests.chaos.reader import Reader, check_images, read_whole, states
from tests.chaos.stage import SIDE, Driver, Night, Stage, second_node
from tests.fault_proxy import FaultProxy, Faults
from tests.object_store import seaweedfs

Scenario = Callable[[Stage], Iterator[Entry]]


def undisturbed(stage: Stage) -> Iterator[Entry]:
    """Nothing happens; the other scenarios are compared with this one."""
    with stage.entry("undisturbed") as entry:
        stage.start("undisturbed").finish()
    yield entry


def actor(stage: Stage) -> Iterator[Entry]:
    """A generator actor dies."""
    yield _worker_dies(stage, "actor", CORRECTING)


def decoding(stage: Stage) -> Iterator[Entry]:
    """A worker that reads and decodes dies."""
    yield _worker_dies(stage, "decoding", DECODING)


def committing(stage: Stage) -> Iterator[Entry]:
    """A worker that encodes and writes dies."""
    yield _worker_dies(stage, "committing", COMMITTING)


def _worker_dies(stage: Stage, name: str, word: str) -> Entry:
    with stage.entry(name) as entry:
        job = stage.start(name)
        kill_worker(stage, entry, job, [stage.head], word, stage.block(name))
        job.finish()
    return entry


def node(stage: Stage) -> Iterator[Entry]:
    """A whole node dies, with everything on it."""
    with stage.entry("node") as entry:
        second = second_node(stage)
        try:
            job = stage.start("node")
            kill_node(stage, entry, job, second, stage.block("node"))
            job.finish()
        finally:
            second.kill()
    yield entry


def driver(stage: Stage) -> Iterator[Entry]:
    """The job itself dies several times, each time a little later; at last it may finish."""
    yield _driver_dies(stage, "driver", (0.0, 0.2, 0.6), own_ray=False)


def driver_and_ray(stage: Stage) -> Iterator[Entry]:
    """The same for a job with its own Ray, which ends a moment after it."""
    yield _driver_dies(stage, "driver-and-ray", (0.0, 0.4), own_ray=True)


def _driver_dies(stage: Stage, name: str, moments: Sequence[float], own_ray: bool) -> Entry:
    with stage.entry(name) as entry:
        for number, low in enumerate(moments):
            job = stage.start(name, own_ray=own_ray)
            kill_driver(stage, entry, job, low + stage.share(f"driver {number}", 0.01, 0.2))
        stage.start(name, own_ray=own_ray).finish()
    return entry


def everything(stage: Stage) -> Iterator[Entry]:
    """Actor, workers, node and driver die in one run, which may then finish."""
    with stage.entry("everything") as entry:
        second = second_node(stage)
        try:
            job = stage.start("everything")
            kill_worker(stage, entry, job, [stage.head, second], CORRECTING, 1)
            kill_node(stage, entry, job, second, 1)
            kill_worker(stage, entry, job, [stage.head], COMMITTING, 1)
            kill_driver(stage, entry, job, 0.2)
        finally:
            second.kill()
        stage.start("everything").finish()
    yield entry


def again(stage: Stage) -> Iterator[Entry]:
    """A second run over the same catalog corrects nothing, writes no image, and reports that."""
    with stage.entry("again", output="undisturbed") as entry:
        before = _written(_done(stage, "undisturbed"))
        log = stage.start("undisturbed").finish()
        wanted = (f"{len(stage.first.drawn)} images have not changed", "nothing was corrected")
        if not all(words in log for words in wanted):
            entry.complain("messages missing from a run that had nothing to do", [log[-1000:]])
        entry.complain("rows and images made again", sorted(before ^ _written(stage.output("undisturbed"))))
    yield entry


def _done(stage: Stage, scenario: str) -> str:
    """Return the scenario's output with the first night's results, which are made if they are missing."""
    output = stage.output(scenario)
    if not storage.exists(storage.join(output, SUCCESS)):
        stage.start(scenario).finish()
    return output


def _written(output: str) -> set[Any]:
    """Return when each row and each local image was made."""
    rows = {
        (row["image_id"], str(row["corrected_at"]), row["output_sha256"]) for row in read_manifest(output)
    }
    return rows | {
        (uri, str(Path(uri).stat().st_mtime_ns)) for uri in files_below(storage.join(output, "images"))
    }


def two_at_once(stage: Stage) -> Iterator[Entry]:
    """A second run on the same output is refused, and the first is not affected."""
    with stage.entry("two-at-once") as entry:
        first = stage.start("two-at-once")
        lock = storage.join(stage.output("two-at-once"), FOLDER)
        first.wait_until(lambda: files_below(lock))
        second = stage.start("two-at-once")
        code = second.end()
        if first.process.poll() is not None:
            raise AssertionError("the first run ended too early to be in the way of the second")
        refused = f"exit code {code}: {second.read_log().strip().splitlines()[-1]}"
        entry.events.append(refused)
        if code != 2 or "another run is at work" not in refused:
            entry.complain("second runs that were not refused", [refused])
        first.finish()
    yield entry


def poison(stage: Stage) -> Iterator[Entry]:
    """Rows that failed as poison are tried again only with --retry-failed; then they succeed if nothing is poison."""
    with stage.entry("failed-before", output="actor") as entry:
        before = _written(_done(stage, "actor"))
        stage.start("actor", own_ray=True, poison=False).finish()
        entry.complain("rows tried again unasked", sorted(before ^ _written(stage.output("actor"))))
    yield entry
    with stage.entry("retry-failed", output="actor", comparable=False) as entry:
        stage.start("actor", "--retry-failed", own_ray=True, poison=False).finish()
    yield entry


def next_night(stage: Stage) -> Iterator[Entry]:
    """The next night's catalog is corrected over the last results, with kills, while a reader reads all the time."""
    with stage.entry("next-night-undisturbed", stage.second) as entry:
        stage.start("next-night-undisturbed", night=stage.second).finish()
    yield entry
    yield _night_after_night(stage, "next-night", "driver", [storage.join(".run", "manifest")])


def _night_after_night(stage: Stage, name: str, first: str, deaths: Sequence[str]) -> Entry:
    """Correct the second night's catalog over the results of scenario `first`.

    deaths: paths in the output; the job is killed when one of them exists, and then started again.
    """
    with stage.entry(name, stage.second, output=first) as entry:
        output = _done(stage, first)
        last = states(read_whole(output) or [])
        with Reader(output) as reader:
            for path in deaths:
                job = stage.start(first, night=stage.second)
                _kill_at(entry, job, storage.join(output, path))
            stage.start(first, night=stage.second).finish()
        entry.complain("times a reader met half a run", reader.faults)
        new = states(read_whole(output) or [])
        old, others = reader.seen[last], reader.seen.total() - reader.seen[last] - reader.seen[new]
        entry.events.append(
            f"a reader met last night's rows {old} times, the new ones {reader.seen[new]} times"
        )
        entry.complain("times a reader met other rows", ["?"] * others)
    return entry


def _kill_at(entry: Entry, job: Driver, uri: str) -> None:
    """Send SIGKILL to the job when something exists at `uri`."""
    job.wait_until(lambda: storage.exists(uri), pause=0.001)
    job.kill()
    entry.events.append(f"SIGKILL of the driver when {uri.rpartition('/')[2]} exists")


#: Number of steps of a publication at which the job is killed, including the first and the last.
PUBLISHING_KILLS = 6


def publishing(stage: Stage) -> Iterator[Entry]:
    """The job dies before each of several changes that publish, over the last night's results."""
    name, first, output = "publishing", "node", stage.output("node")
    record, snapshot = stage.folder / "changes", stage.folder / "snapshot"
    with stage.entry(name, stage.second, output=first) as entry:
        last = states(read_whole(_done(stage, first)) or [])
        job = stage.start(first, night=stage.second)
        _kill_at(entry, job, storage.join(output, ".run", "manifest"))
        shutil.copytree(output, snapshot)
        stage.start(first, night=stage.second, dies=(output, "0", str(record))).finish()
    yield entry
    new = states(read_whole(output) or [])
    changes = record.read_text().splitlines()
    begins = next(number for number, change in enumerate(changes, 1) if "publish.json" in change)
    step = max(1, (len(changes) - begins) // (PUBLISHING_KILLS - 1))
    for number in sorted({*range(begins, len(changes), step), len(changes)}):
        with stage.entry(f"{name} {number}", stage.second, output=first) as entry:
            shutil.rmtree(output)
            shutil.copytree(snapshot, output)
            job = stage.start(first, night=stage.second, dies=(output, str(number), str(record)))
            if job.end() != -9:
                raise AssertionError(f"the job did not die at change {number}:\n{job.read_log()[-1000:]}")
            entry.events.append(f"SIGKILL before: {changes[number - 1]}")
            rows = read_whole(output)
            if rows is not None and states(rows) not in (last, new):
                entry.complain("publications that were half visible", [changes[number - 1]])
            stage.start(first, night=stage.second).finish()
        yield entry


def maintenance(stage: Stage) -> Iterator[Entry]:
    """The second night is undone, done again, cleaned up and erased from; each verb dies before several changes."""
    name, output = "maintenance", stage.output("maintenance")
    _done(stage, name)
    run = manifest_run(output)
    first = states(read_whole(output) or [])
    stage.start(name, night=stage.second).finish()
    second = states(read_whole(output) or [])
    yield from _dying_verb(stage, "rollback", stage.first, f"rollback --to {run}", second)
    with stage.entry("night after rollback", stage.second, output=name) as entry:
        stage.start(name, night=stage.second).finish()
    yield entry
    yield from _dying_verb(stage, "clean", stage.second, "clean --keep-runs 1", first)
    ids = sorted(row["image_id"] for row in read_manifest(output) if row["image_id"].startswith("item-"))[:3]
    erased = Night(
        stage.second.name,
        [
            replace(one, status="failed", code=ERASED) if one.row["image_id"] in ids else one
            for one in stage.second.drawn
        ],
    )
    yield from _dying_verb(stage, "erase", erased, f"erase --image-id {' '.join(ids)}", second)
    with stage.entry("night after erasure", erased, output=name) as entry:
        stage.start(name, night=stage.second).finish()
    yield entry


def _dying_verb(
    stage: Stage, title: str, expected: Night, words: str, before: tuple[str, ...]
) -> Iterator[Entry]:
    """Do maintenance once undisturbed; then from the same beginning with a death before several of its changes, each
    followed by the same command. expected: the rows at the end. before: what readers may still see in between.
    """
    name, output = "maintenance", stage.output("maintenance")
    record, snapshot = stage.folder / f"changes of {title}", stage.folder / f"before {title}"
    shutil.copytree(output, snapshot)
    with stage.entry(title, expected, output=name) as entry:
        stage.maintain(name, *words.split(), dies=(output, "0", str(record))).finish()
    yield entry
    after = states(read_whole(output) or [])
    changes = record.read_text().splitlines()
    for number in sorted({*range(1, len(changes), max(1, len(changes) // PUBLISHING_KILLS)), len(changes)}):
        with stage.entry(f"{title} {number}", expected, output=name) as entry:
            shutil.rmtree(output)
            shutil.copytree(snapshot, output)
            job = stage.maintain(name, *words.split(), dies=(output, str(number), str(record)))
            if job.end() != -9:
                raise AssertionError(f"the job did not die at change {number}:\n{job.read_log()[-1000:]}")
            entry.events.append(f"SIGKILL before: {changes[number - 1]}")
            rows = read_whole(output)
            if rows is not None and states(rows) not in (before, after):
                entry.complain("manifests that were half visible", [changes[number - 1]])
            check_images(rows or [], random.Random(number))
            stage.maintain(name, *words.split()).finish()
        yield entry


#: Share of the ids that a bundle on trial corrects.
CANARY_SHARE = 0.3


def canary(stage: Stage) -> Iterator[Entry]:
    """A bad bundle on trial: its night dies and is finished, then undone, then withdrawn; a good one is promoted."""
    name, night, output = "canary", stage.second, stage.output("canary")
    ids = {one.row["image_id"] for one in night.drawn}
    trusted = {one for one in ids if not in_share(CANARY_SHARE, "canary", one)}
    bad = write_bundle(stage.folder / "bad", 0.3, 1, side=SIDE)  # paints everything grey
    good = write_bundle(stage.folder / "good", side=SIDE // 2, seed=1)

    def run(*flags: str, dies_at: str | None = None) -> str:
        if dies_at is not None:
            job = stage.start(name, *flags, night=night)
            _kill_at(entry, job, storage.join(output, ".run", dies_at))
        return stage.start(name, *flags, night=night).finish()

    def trial(bundle: Path) -> tuple[str, ...]:
        return ("--canary", str(bundle), "--canary-share", str(CANARY_SHARE))

    _done(stage, name)
    with stage.entry("night before the canary", night, output=name) as entry:
        run()
    yield entry
    before = manifest_run(output)
    with stage.entry("canary's night", night, output=name, apart=ids - trusted) as entry:
        run(*trial(bad), dies_at="journal")
        _check_bundles(entry, output, trusted, stage.folder / "bundle", bad)
    yield entry
    with stage.entry("canary undone", night, output=name) as entry:
        stage.maintain(name, "rollback", "--to", str(before)).finish()
        if "nothing was corrected" not in run():
            entry.complain("nights that corrected something after a rollback", [name])
    yield entry
    with stage.entry("canary withdrawn", night, output=name) as entry:
        run(*trial(bad))
        run(dies_at="manifest")
    yield entry
    with stage.entry("canary promoted", night, output=name, apart=ids) as entry:
        run(*trial(good))
        made = {one for one in _written(output) if one[0] in ids - trusted}
        run("--model", str(good), dies_at="journal")
        entry.complain("rows of the canary that were made again", sorted(made - _written(output)))
        # What a run with that bundle alone makes.
        stage.start("promoted-at-once", "--model", str(good), night=night).finish()
        promoted, alone = (_results(stage.output(one)) for one in (name, "promoted-at-once"))
        entry.complain("rows that differ from those of the new bundle alone", sorted(promoted ^ alone))
    yield entry


def _results(output: str) -> set[tuple[str, ...]]:
    """Return what each row says of its image, and the bundle that made it."""
    names = ("image_id", "status", "error_code", "output_sha256", "model_version", "config_hash")
    return {tuple(str(row[name]) for name in names) for row in read_manifest(output)}


def _check_bundles(entry: Entry, output: str, trusted: set[str], current: Path, other: Path) -> None:
    """Check that `current` made the rows of the ids `trusted`, and `other` all others."""
    versions = load_bundle(current).version, load_bundle(other).version
    wrong = [
        row["image_id"]
        for row in read_manifest(output)
        if row["model_version"] != versions[row["image_id"] not in trusted]
    ]
    entry.complain("rows that the wrong bundle made", wrong)


#: Shares of all requests, together a tenth.
FAULTS = Faults(
    slow_down=0.04, internal_error=0.01, reset=0.02, reset_body=0.01, lost=0.01, cut=0.01, delay=0.1
)


def s3(stage: Stage) -> Iterator[Entry]:
    """Everything is on S3, where one request in ten fails; the driver also dies, while correcting and publishing."""
    with seaweedfs(stage.folder / "seaweedfs") as bucket:
        upstream = urlsplit(os.environ["AWS_ENDPOINT_URL"]).port or 80
        with FaultProxy(upstream, FAULTS, seed=stage.seed) as proxy:
            on_s3 = stage.elsewhere("s3", f"{bucket}/chaos", {"AWS_ENDPOINT_URL": proxy.url})
            with on_s3.entry("s3-driver") as entry:
                kill_driver(on_s3, entry, on_s3.start("s3-driver"), on_s3.share("s3", 0.05, 0.5))
                on_s3.start("s3-driver").finish()
                entry.events.append(f"faults: {dict(proxy.counts)}")
            yield entry
            yield _night_after_night(
                on_s3, "s3-next-night", "s3-driver", [".run/manifest", ".run/publish.json"]
            )


#: In this order, because the first is what the others are compared with.
ALL: dict[str, Scenario] = {
    one.__name__: one
    for one in (
        *(undisturbed, actor, decoding, committing, node, driver, driver_and_ray, everything),
        *(again, two_at_once, poison, next_night, publishing, maintenance, canary, s3),
    )
}
