"""Reads the results of finished runs, which are all that the tables are made from."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.evaluation.score import NOTHING, Reduction, Score, reductions
from tests.benchmarks.study.plan import Run, Study
from tests.benchmarks.study.scores import ANSWERS, SHARED_ROWS

MAIN_TEST = "test"


@dataclass(frozen=True)
class Result:
    """A finished run and the content of its file."""

    run: Run
    content: dict[str, Any]

    def scores(self, name: str = ANSWERS, test: str = MAIN_TEST) -> dict[str, dict[str, Any]]:
        """Return rows by defect: of the bundle's answers, or those that are the same for all."""
        return {row["defect"]: row for row in self.content["scores"].get(test, ()) if row["name"] == name}


def read_results(folder: Path, study: Study) -> list[Result]:
    """Return the finished runs of a study, row by row and seed by seed."""
    runs = [Run(row, seed) for row in study.rows for seed in row.seeds]
    files = {run: folder / "results" / f"{run.name}.json" for run in runs}
    return [Result(run, json.loads(file.read_text())) for run, file in files.items() if file.exists()]


def of_row(results: list[Result], name: str) -> list[Result]:
    """Return the results of one row."""
    return [result for result in results if result.run.row.name == name]


def shared(results: list[Result], name: str) -> dict[str, dict[str, Any]]:
    """Return the scores that no bundle decides, 'nothing' or 'floor', by defect."""
    found = (result.scores(name) for result in results)
    return next((scores for scores in found if scores), {})


def compared(results: list[Result]) -> list[Reduction]:
    """Compare each run's FID with that of doing nothing and of the others; intervals leave out equal photos."""
    rows = [
        _score(row, result.run.name)
        for result in results
        for row in result.scores().values()
        if row["fid"] is not None
    ]
    nothing = shared(results, SHARED_ROWS[NOTHING]).values()
    rows += [_score(row, NOTHING) for row in nothing if row["fid"] is not None]
    return reductions(rows, [result.run.name for result in results])


def _score(row: dict[str, Any], name: str) -> Score:
    left_out = [np.nan if fid is None else fid for fid in row["fid_left_out"]]
    return Score(row["defect"], name, row["n"], row["n_reference"], fid=np.array([row["fid"], *left_out]))
