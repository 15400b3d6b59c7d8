"""Works off the study's runs, one at a time: prepares data, trains, scores, and writes a result for each.

Nothing is remembered but files: a run is finished once its result exists, and a training continues from its newest
checkpoint. So the queue may be killed at any time; the same command goes on.
"""

import json
import logging
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jobs import train
from model.bundle import STARTER, Bundle, load_bundle
from model.errors import RunError
from pipelines.storage.lock import locked
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.records import read_table
from tests.benchmarks.machine import machine
from tests.benchmarks.study.attention import show
from tests.benchmarks.study.datasets import prepare, rows_of
from tests.benchmarks.study.places import ROOT, Places, remove_folder, replace_file
from tests.benchmarks.study.plan import Run, Study
from tests.benchmarks.study.scores import score
from tests.benchmarks.study.stress import stress

logger = logging.getLogger("study")

DONE, FAILED, BEGUN, WAITING = "done", "failed", "begun", "waiting"
#: What scoring and pictures need of a training; checkpoints, with their moments of four networks, are removed.
CHECKPOINTS = "checkpoints"
#: Records of a learning curve that are kept in a result.
CURVE_POINTS = 40


def work_off(study: Study, places: Places, only: Sequence[str] = ()) -> None:
    """Finish all runs, or those whose row is in `only`. Raises MissingPhotos, and errors that the user must mend.

    A training that diverges is noted, and the next begins.
    """
    with locked(str(places.work)):
        for run in study.runs():
            if (only and run.row.name not in only) or state(run, places) in (DONE, FAILED):
                continue
            try:
                finish(run, study, places)
            except RunError as error:
                logger.error("%s has failed: %s", run.name, error)
                replace_file(places.failure(run), f"{error}\n".encode())


def state(run: Run, places: Places) -> str:
    """Return DONE, FAILED, BEGUN or WAITING."""
    if places.result(run).exists():
        return DONE
    if places.failure(run).exists():
        return FAILED
    return BEGUN if places.sessions(run).exists() else WAITING


def step_of(run: Run, places: Places) -> int:
    """Return the step of a training's newest checkpoint, or 0."""
    steps = Checkpoints(str(places.training(run) / CHECKPOINTS), 1).steps()
    return steps[-1] if steps else 0


def finish(run: Run, study: Study, places: Places) -> None:
    """Train and score one run, from where it is."""
    data = {name: prepare(name, study, places) for name in sorted(study.data_of(run.row))}
    began = datetime.now(timezone.utc)
    logger.info("%s: %s, from step %d", run.name, run.row.meaning, step_of(run, places))
    _begin_session(run, places, began)
    argv: list[str] = []
    if run.row.recipe is not None:
        argv = arguments(run, study, data[run.row.data], places.training(run))
        train.main([*argv, "--resume"])
    result = measured(run, study, places, data)
    result["command"] = _shown(argv, places) if argv else None
    replace_file(places.result(run), (json.dumps(result, indent=1, sort_keys=True) + "\n").encode())
    remove_folder(places.training(run) / CHECKPOINTS)
    logger.info("%s is done after %s hours of training", run.name, result["hours"])


def arguments(run: Run, study: Study, data: Path, output: Path) -> list[str]:
    """Return the flags of jobs/train.py for a run."""
    assert run.row.recipe is not None  # checked by the caller
    return [
        *("--data", str(data), "--output", str(output), "--recipe", run.row.recipe, "--seed", str(run.seed)),
        *("--steps", str(study.steps), "--batch-size", str(study.batch_size)),
        *("--image-size", str(study.image_size), "--workers", "0"),
        *study.flags,
        *run.row.flags,
    ]


def measured(run: Run, study: Study, places: Places, data: dict[str, Path]) -> dict[str, Any]:
    """Return a run's result, all but the command, and write its picture."""
    row, folder = run.row, places.training(run)
    uri = STARTER if row.recipe is None else folder / "bundle"
    bundle = load_bundle(uri)
    picture, maps = show(bundle)
    replace_file(places.picture(run), picture)
    floor = [] if row.floor is None else [data[row.floor]]
    history = read_table(str(folder / "history.parquet"))
    return {
        "row": row.name,
        "recipe": row.recipe,
        "meaning": row.meaning,
        "seed": run.seed,
        "data": row.data if row.recipe else None,
        "rows": rows_of(data[row.data]) if row.recipe else None,
        "samples": study.samples if row.recipe else None,
        "image_size": bundle.config["image_size"],
        "hours": hours(history, study.batch_size),
        "bundle": bundle.version,
        "parameters": sum(parameter.numel() for parameter in bundle.generator.parameters()),
        "sessions": [json.loads(line) for line in places.sessions(run).read_text().splitlines()],
        "curve": _thinned(history),
        "validation": read_table(str(folder / "validation.parquet")),
        "scores": {
            test: score(uri, [data[test], *floor], places.evaluation(run, test), study.fid)
            for test in row.tests
        },
        "stress": _stress(bundle, data[row.tests[0]], study),
        "attention": maps,
    }


def _stress(bundle: Bundle, data: Path, study: Study) -> dict[str, list[dict[str, Any]]]:
    return stress(bundle, data) if study.drawn is None else stress(bundle, data, limit=2)


def hours(history: Sequence[dict[str, Any]], batch_size: int) -> float:
    """Return the time that the steps took, in all sessions, from a training's records."""
    seconds, last = 0.0, 0
    for record in history:
        seconds += (record["step"] - last) * batch_size / record["images_per_second"]
        last = record["step"]
    return round(seconds / 3600, 3)


def _thinned(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return at most CURVE_POINTS records, evenly spread and with the last, with few digits."""
    every = max(1, -(-len(history) // CURVE_POINTS))
    return [
        {name: float(f"{value:.4g}") for name, value in record.items() if value is not None}
        for record in history[::-1][::every][::-1]
    ]


def _begin_session(run: Run, places: Places, began: datetime) -> None:
    """Note when a run is taken up, where, and with which code."""
    session = {
        "began": began.strftime("%Y-%m-%d %H:%M UTC"),
        "step": step_of(run, places),
        "commit": commit(),
        "machine": machine(),
    }
    path = places.sessions(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(session) + "\n")


def commit() -> str | None:
    """Return the commit of the code, with a + if files differ from it; None outside a repository."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return None
    answers = [
        subprocess.run([git, *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
        for words in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
    ]
    return answers[0] + ("+" if answers[1] else "")


def _shown(argv: Sequence[str], places: Places) -> str:
    """Return the command without the paths of this machine."""
    return shlex.join(["python", "jobs/train.py", *(word.replace(f"{places.work}/", "") for word in argv)])


def progress(study: Study, places: Places) -> Iterator[str]:
    """Yield a line for each run: its state, and the hours that it took or the step that it is at."""
    for run in study.runs():
        now = state(run, places)
        detail = ""
        if now == DONE:
            detail = f"{json.loads(places.result(run).read_text())['hours']:.2f} h"
        elif now == FAILED:
            detail = places.failure(run).read_text().strip()
        elif now == BEGUN and run.row.recipe is not None:
            detail = f"step {step_of(run, places)} of {study.steps}"
        yield f"{run.name:<22} {now:<8} {detail}".rstrip()
