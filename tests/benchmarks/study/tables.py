"""Writes the tables of docs/study.md between its markers, from the results alone."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines.evaluation.score import NOTHING
from pipelines.metrics.fid.summary import mean_relative_reduction
from tests.benchmarks.study import paper
from tests.benchmarks.study.plan import Run, Study
from tests.benchmarks.study.results import Result, compared, of_row, read_results, shared
from tests.benchmarks.study.scores import SHARED_ROWS

#: Defects in the order of the paper's tables, with captions.
DEFECTS = {"non_white_background": "background", "watermark": "watermark", "wrong_angle": "angle"}
PROPOSED = "proposed"
#: Recipes whose networks are told neither group nor type.
UNLABELLED = ("no_labels", "pix2pix", "cyclegan", "monce")
#: Rows of the paper's own comparison; the table of methods has the others that are trained on the same data.
ABLATIONS = ("proposed", "no_group", "no_labels", "paired_only")
METHODS = ("pix2pix", "cyclegan", "monce", "no_labels", "proposed")
NETWORKS = ("proposed", "no_labels", "resnet_proposed", "resnet_no_labels")
MASKS = ("proposed", "paired_only", "spoilt", "spoilt_paired_only", "trusted")
LABELS = ("proposed", "wrong_labels_5", "wrong_labels_20")

Line = Sequence[str]


def write(page: Path, results: Path, study: Study) -> None:
    """Write the tables into the page; a page that is not there yet has nothing but tables."""
    before = page.read_text() if page.exists() else _empty_page()
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(filled(before, read_results(results, study), study))


def filled(page: str, results: list[Result], study: Study) -> str:
    """Return the page with every table made anew. Raises ValueError for a marker without a table."""

    def made(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in TABLES:
            raise ValueError(f"docs/study.md: no table {name!r}; there are {', '.join(TABLES)}")
        return f"{_begin(name)}\n\n{TABLES[name](results, study)}\n\n{_END}"

    return re.sub(rf"<!-- study: (?P<name>\w+) -->.*?{_END}", made, page, flags=re.DOTALL)


_END = "<!-- end of study -->"


def _begin(name: str) -> str:
    return f"<!-- study: {name} -->"


def _empty_page() -> str:
    return "\n\n".join(f"## {name}\n\n{_begin(name)}\n{_END}" for name in TABLES) + "\n"


def _table(head: Line, lines: Sequence[Line]) -> str:
    if not lines:
        return "*No result yet.*"
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))


def _figure(value: float | None, form: str, factor: float = 1.0) -> str:
    return "–" if value is None else format(value * factor, form)


def _with_interval(row: dict[str, Any], name: str, form: str, factor: float = 1.0) -> str:
    """Return a figure with its 95% interval."""
    text, interval = _figure(row.get(name), form, factor), row.get(f"{name}_ci95")
    if row.get(name) is None or interval is None:
        return text
    return f"{text} ({' to '.join(format(end * factor, form) for end in interval)})"


def _name(result: Result) -> str:
    row = result.run.row
    return f"`{row.name}`, seed {result.run.seed}" if len(row.seeds) > 1 else f"`{row.name}`"


def _chosen(results: list[Result], names: Sequence[str]) -> list[Result]:
    return [result for name in names for result in of_row(results, name)]


def _limits(results: list[Result]) -> list[tuple[str, dict[str, dict[str, Any]]]]:
    """Return the rows that need no training: doing nothing, and the floor."""
    limits = [
        ("*do nothing*", shared(results, SHARED_ROWS[NOTHING])),
        ("*other photos, perfectly corrected* (floor)", shared(results, "floor")),
    ]
    return [(name, scores) for name, scores in limits if scores]


def _distances(results: list[Result], names: Sequence[str], theirs: bool = False) -> str:
    """Return FID and KID by defect, one line per run, with the paper's FID in columns of their own if wanted."""
    head = ["(corrections and targets)"]
    for caption in DEFECTS.values():
        head += [f"{caption}: FID", "KID × 1000", *(["*paper: FID*"] if theirs else [])]
    lines = []
    rows = [(_name(one), one.scores(), one.run.row.name) for one in _chosen(results, names)]
    for name, scores, row in [*((*limit, "") for limit in _limits(results)), *rows]:
        line = [name]
        for defect in DEFECTS:
            score = scores.get(defect, {})
            counted = f" [{score['n']}, {score['n_reference']}]" if score else ""
            line += [_with_interval(score, "fid", ".1f") + counted, _with_interval(score, "kid", ".1f", 1000)]
            if theirs:
                figure = paper.FID.get(row, {}).get(defect)
                line.append("" if figure is None else f"*{figure:g}*")
        lines.append(line)
    return _table(head, lines if rows else [])


def _errors(results: list[Result], names: Sequence[str]) -> str:
    """Return PSNR by defect, one line per run."""
    rows = [(_name(one), one.scores()) for one in _chosen(results, names)]
    limits = [limit for limit in _limits(results) if any(score["n_pairs"] for score in limit[1].values())]
    lines = [
        [name, *(_with_interval(scores.get(defect, {}), "psnr", ".2f") for defect in DEFECTS)]
        for name, scores in [*limits, *rows]
    ]
    return _table(["PSNR, dB", *DEFECTS.values()], lines if rows else [])


def _both(results: list[Result], names: Sequence[str]) -> str:
    """Return both tables, once there is a result besides those that `ablations` has."""
    if all(one.run.row.name in ABLATIONS for one in _chosen(results, names)):
        return _table([], [])
    return f"{_distances(results, names)}\n\n{_errors(results, names)}"


def _reductions(results: list[Result]) -> str:
    """Return by how much `proposed` lowers FID, against doing nothing and every other row."""
    reductions = {(one.name, one.against): one for one in compared(results)}
    lines = []
    for mine in of_row(results, PROPOSED):
        opponents = {
            NOTHING: "doing nothing",
            **{one.run.name: _name(one) for one in _opponents(mine, results)},
        }
        for against, caption in opponents.items():
            one = reductions.get((mine.run.name, against))
            if one is None:
                continue
            figure = f"{one.reduction:.1%}"
            if one.ci95 is not None:
                figure += f" ({one.ci95[0]:.1%} to {one.ci95[1]:.1%})"
            shares = [_figure(one.by_defect.get(defect), ".1%") for defect in DEFECTS]
            lines.append([f"{_name(mine)}, against {caption}", figure, *shares, _paper_reduction(against)])
    return _table(["", "mean reduction of FID", *DEFECTS.values(), "*paper*"], lines)


def _opponents(mine: Result, results: list[Result]) -> list[Result]:
    """Return the runs to compare with: of every other row the one with the same seed; if it has none, its only one."""
    return [
        one
        for one in results
        if one.run.row != mine.run.row and (one.run.seed == mine.run.seed or len(one.run.row.seeds) == 1)
    ]


def _paper_reduction(against: str) -> str:
    """Return the paper's mean relative reduction of FID against the row of a run, if it reports one."""
    name = against.rpartition("-")[0]
    if name not in paper.FID or name == PROPOSED:
        return ""
    return f"*{mean_relative_reduction(paper.FID[name], paper.FID[PROPOSED]):.1%}*"


def _runs(results: list[Result], study: Study) -> str:
    """Return what was trained on what, for how long, and with which code."""
    finished = {one.run.name: one.content for one in results}
    runs = [Run(row, seed) for row in study.rows for seed in row.seeds]
    lines = [
        [f"`{run.row.name}`", run.row.meaning, str(run.seed), *_facts(finished.get(run.name))] for run in runs
    ]
    return _table(["row", "", "seed", "data", "million parameters", "samples", "hours", "code"], lines)


def _facts(content: dict[str, Any] | None) -> Line:
    if content is None:
        return ["", "", "", "*not yet*", ""]
    samples = "" if content["samples"] is None else f"{content['samples']:,}"
    code = ", ".join(dict.fromkeys(str(one["commit"]) for one in content["sessions"]))
    return [
        content["data"] or "",
        f"{content['parameters'] / 1e6:.1f}",
        samples,
        f"{content['hours']:.2f}",
        code,
    ]


def _curves(results: list[Result], study: Study) -> str:
    """Return PSNR on the validation photos in the course of training."""
    measured = [one for one in results if one.content["validation"]]
    steps = sorted({row["step"] for one in measured for row in one.content["validation"]})
    head = [
        "validation PSNR, dB",
        *(f"{caption}, step {step:,}" for caption in DEFECTS.values() for step in steps),
    ]
    lines = []
    for one in measured:
        found = {(row["defect"], row["step"]): row.get("psnr") for row in one.content["validation"]}
        cells = [_figure(found.get((defect, step)), ".1f") for defect in DEFECTS for step in steps]
        lines.append([_name(one), *cells])
    return _table(head, lines)


def _labels(results: list[Result], study: Study) -> str:
    """Return PSNR of the answers under every label."""
    head = ["", "shown", "group given", *(f"type given: {caption}" for caption in DEFECTS.values())]
    lines = []
    for one in _chosen(results, ("proposed", "no_group", "paired_only")):
        figures = {(row["shown"], row["group"], row["type"]): row for row in one.content["stress"]["labels"]}
        groups = dict.fromkeys(group for _, group, _ in figures)
        for shown, caption in DEFECTS.items():
            for group in groups:
                cells = [
                    _figure(figures.get((shown, group, type_), {}).get("psnr"), ".1f") for type_ in DEFECTS
                ]
                lines.append([_name(one), caption, group or "–", *cells])
    return _table(head, lines)


def _clean(results: list[Result], study: Study) -> str:
    """Return by how much clean images are changed that are labelled defective; one figure for a row without labels."""
    lines = []
    for one in results:
        figures = {row["label"]: row for row in one.content["stress"]["clean"]}
        cells = [_figure(figures.get(defect, {}).get("psnr"), ".1f") for defect in DEFECTS]
        if one.run.row.recipe in UNLABELLED:
            cells = [f"{cells[0]} (any)", *["–"] * (len(cells) - 1)]
        lines.append([_name(one), *cells])
    return _table(["clean images, PSNR to themselves, dB", *DEFECTS.values()], lines)


def _uploads(results: list[Result], study: Study) -> str:
    """Return PSNR of the answers to uploads of other qualities and resolutions."""
    lines = []
    for one in _chosen(results, ("starter", *ABLATIONS)):
        figures = {(row["shown"], row["upload"]): row for row in one.content["stress"]["uploads"]}
        for way in dict.fromkeys(way for _, way in figures):
            cells = [_figure(figures.get((defect, way), {}).get("psnr"), ".1f") for defect in DEFECTS]
            lines.append([_name(one), way, *cells])
    return _table(["PSNR, dB", "uploads", *DEFECTS.values()], lines)


def _types(results: list[Result], study: Study) -> str:
    """Return PSNR and KID on product types that one row never saw."""
    lines = []
    rows = [(name, one.scores(test="test_types")) for one in results if (name := _name(one))]
    for name, scores in rows:
        if scores:
            cells = []
            for defect in DEFECTS:
                score = scores.get(defect, {})
                cells += [_with_interval(score, "kid", ".1f", 1000), _with_interval(score, "psnr", ".2f")]
            lines.append([name, *cells])
    head = [f"{caption}: {figure}" for caption in DEFECTS.values() for figure in ("KID × 1000", "PSNR, dB")]
    return _table(["types left out of training", *head], lines)


TABLES: dict[str, Callable[[list[Result], Study], str]] = {
    "runs": _runs,
    "ablations": lambda results, study: _distances(results, ("starter", *ABLATIONS), theirs=True),
    "reductions": lambda results, study: _reductions(results),
    "pairs": lambda results, study: _errors(results, ("starter", *ABLATIONS)),
    "methods": lambda results, study: _both(results, METHODS),
    "networks": lambda results, study: _both(results, NETWORKS),
    "masks": lambda results, study: _both(results, MASKS),
    "curves": _curves,
    "labels": _labels,
    "wrong_labels": lambda results, study: _both(results, LABELS),
    "clean": _clean,
    "uploads": _uploads,
    "types": _types,
}
