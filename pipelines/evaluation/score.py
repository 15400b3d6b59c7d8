"""Computes the figures of the table from sets of measured images, and relative reductions from these."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import stdtrit

from pipelines.evaluation.collect import Collection, ImageSet, SetName
from pipelines.evaluation.contestants import Contestant
from pipelines.evaluation.measure import ANSWER, TARGET, TRAIN_TARGET, UPLOAD
from pipelines.metrics.fid.distance import Gaussian
from pipelines.metrics.fid.inception import FEATURE_DIMENSION
from pipelines.metrics.fid.jackknife import GROUPS, distances, jackknife_ci95, left_out, photo_groups
from pipelines.metrics.fid.kid import kernel_inception_distance
from pipelines.metrics.fid.summary import mean_relative_reduction

logger = logging.getLogger(__name__)

#: Names of the rows that belong to no bundle.
NOTHING, FLOOR = "do nothing", "train targets (floor)"
#: Digits after the point. Further digits vary with batch size and processor.
_DIGITS = {"fid": 3, "kid": 6, "psnr": 3, "l1": 5, "reduction": 4}

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Score:
    """A row of the table: one defect's images of one kind against the defect's test targets.

    name: the bundle's, NOTHING (uploads as they are) or FLOOR (training targets). n, n_reference: number of images
    and of targets. fid: (1+groups,): of all photos, then without each group; NaN if there is none. Figures that cannot
    be computed are None, and `notes` say why.
    """

    defect: str
    name: str
    n: int
    n_reference: int
    notes: tuple[str, ...] = ()
    fid: np.ndarray | None = None
    kid: float | None = None
    kid_sd: float | None = None
    kid_ci95: Interval = None
    n_pairs: int = 0
    psnr: float | None = None
    psnr_ci95: Interval = None
    l1: float | None = None
    l1_ci95: Interval = None

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values, rounded."""
        fid = _value(self.fid)
        fid_ci95 = None if self.fid is None else _not_negative(jackknife_ci95(self.fid))
        return {
            "defect": self.defect,
            "name": self.name,
            "n": self.n,
            "n_reference": self.n_reference,
            "fid": _round(fid, "fid"),
            "fid_ci95": _round_both(fid_ci95, "fid"),
            "kid": _round(self.kid, "kid"),
            "kid_sd": _round(self.kid_sd, "kid"),
            "kid_ci95": _round_both(self.kid_ci95, "kid"),
            "n_pairs": self.n_pairs,
            "psnr": _round(self.psnr, "psnr"),
            "psnr_ci95": _round_both(self.psnr_ci95, "psnr"),
            "l1": _round(self.l1, "l1"),
            "l1_ci95": _round_both(self.l1_ci95, "l1"),
            "note": "; ".join(self.notes),
        }


@dataclass(frozen=True)
class Reduction:
    """How far `name` lowers FID relative to `against`: the mean over the defects."""

    name: str
    against: str
    by_defect: dict[str, float]  # those that both correct, which the mean is over
    reduction: float
    ci95: Interval

    def to_json(self) -> dict[str, Any]:
        """Return the reduction as JSON values, rounded."""
        return {
            "name": self.name,
            "against": self.against,
            "by_defect": {defect: _round(share, "reduction") for defect, share in self.by_defect.items()},
            "relative_reduction": _round(self.reduction, "reduction"),
            "ci95": _round_both(self.ci95, "reduction"),
        }


@dataclass
class Scores:
    """All rows of the table, defect by defect, and the reductions."""

    rows: list[Score] = field(default_factory=list)
    reductions: list[Reduction] = field(default_factory=list)


def empty_rows(scores: Scores, contestants: Sequence[Contestant], collection: Collection) -> list[str]:
    """Return why rows have no image at all, with the remedy: data that cannot be decoded, or a bundle that diverged.

    A defect without uploads in the data is no failure, nor is a defect that a bundle does not know.
    """
    uploads = {row.defect: row.n for row in scores.rows if row.name == NOTHING}
    undecodable = {name.defect for name, _ in collection.problems if name.kind == UPLOAD}
    reasons = [
        f"--data: none of the test images of {defect} can be decoded; prepare the data again"
        for defect, n in uploads.items()
        if n == 0 and defect in undecodable
    ]
    for one in contestants:
        answers = {row.defect: row.n for row in scores.rows if row.name == one.name}
        silent = [
            defect for defect, n in uploads.items() if n and defect in one.conditions and not answers[defect]
        ]
        if silent:
            reasons.append(
                f"--bundle {one.uri}: no finite answer for {', '.join(silent)}; its training diverged: take an "
                "earlier checkpoint, or leave the bundle out"
            )
    return reasons


class Groups:
    """The jackknife's groups of photos. Both splits have as many groups as the test split."""

    def __init__(self, collection: Collection) -> None:
        test, train = collection.photos((UPLOAD, ANSWER, TARGET)), collection.photos((TRAIN_TARGET,))
        self.count = min(GROUPS, len(test))
        self._test, self._train = (photo_groups(photos, max(self.count, 1)) for photos in (test, train))

    def left_out(self, images: ImageSet, kind: str) -> list[Gaussian | None] | None:
        """Return `jackknife.left_out` of the images; None without features.

        With fewer photos than groups, training targets are not left out by group, and their row has no interval.
        """
        if images.features is None:
            return None
        groups = self._train if kind == TRAIN_TARGET else self._test
        numbers = np.array([groups[photo] for photo in images.photos], int)
        if kind == TRAIN_TARGET and len(np.unique(numbers)) < self.count:
            return [*left_out(images.features, numbers, 0), *[None] * self.count]
        return left_out(images.features, numbers, self.count)


def score(collection: Collection, contestants: Sequence[Contestant], defects: Sequence[str]) -> Scores:
    """Score every defect (uploads, each bundle, the floor), and compare each bundle with the others."""
    groups = Groups(collection)
    scores = Scores()
    for defect in defects:
        scores.rows += _score_defect(collection, contestants, defect, groups)
    names = [one.name for one in contestants]
    scores.reductions = reductions(scores.rows, names)
    return scores


def reductions(rows: Sequence[Score], names: Sequence[str]) -> list[Reduction]:
    """Compare each bundle with doing nothing and with every other bundle, over the defects that both correct.

    Li et al. (2022) report the mean over defects of `(baseline − improved) / baseline`. The interval is made
    by leaving the same photos out of all defects and both models.
    """
    fids = {
        (row.name, row.defect): row.fid for row in rows if row.fid is not None and np.isfinite(row.fid[0])
    }
    compared = []
    for name in names:
        for against in (NOTHING, *names):
            shared = tuple(dict.fromkeys(row.defect for row in rows if (name, row.defect) in fids))
            shared = tuple(defect for defect in shared if (against, defect) in fids)
            if name == against or not shared:
                continue
            estimates = _mean_reductions(
                [fids[against, defect] for defect in shared], [fids[name, defect] for defect in shared]
            )
            if np.isfinite(estimates[0]):
                shares = {
                    defect: float(1 - fids[name, defect][0] / fids[against, defect][0]) for defect in shared
                }
                compared.append(
                    Reduction(name, against, shares, float(estimates[0]), jackknife_ci95(estimates))
                )
    return compared


def _mean_reductions(baselines: list[np.ndarray], improved: list[np.ndarray]) -> np.ndarray:
    """Return the mean relative reduction of all photos, then without each group; NaN if there is none."""
    means = []
    for before, after in zip(np.transpose(baselines), np.transpose(improved), strict=True):
        possible = np.isfinite([before, after]).all() and (before > 0).all()
        pair = [{str(defect): float(fid) for defect, fid in enumerate(side)} for side in (before, after)]
        means.append(mean_relative_reduction(pair[0], pair[1]) if possible else np.nan)
    return np.array(means)


def _score_defect(
    collection: Collection,
    contestants: Sequence[Contestant],
    defect: str,
    groups: Groups,
) -> list[Score]:
    target = _Reference(defect, collection, groups)
    rows = [target.score(NOTHING, UPLOAD)]
    for index, contestant in enumerate(contestants):
        if defect in contestant.conditions:
            rows.append(target.score(contestant.name, ANSWER, index))
        else:
            known = ", ".join(contestant.conditions)
            note = f"the bundle does not know this defect (it knows {known})"
            rows.append(Score(defect, contestant.name, 0, len(target.images.photos), (note,)))
    floor = target.score(FLOOR, TRAIN_TARGET)
    return [*rows, floor] if floor.n else rows


class _Reference:
    """A defect's test targets, which every row is compared with. Their Gaussians are computed once."""

    def __init__(self, defect: str, collection: Collection, groups: Groups) -> None:
        self.images = collection.set(SetName(TARGET, -1, defect))
        self._defect, self._collection, self._groups = defect, collection, groups
        self._gaussians = groups.left_out(self.images, TARGET)

    def score(self, name: str, kind: str, bundle: int = -1) -> Score:
        """Return the row of one set."""
        of = SetName(kind, bundle, self._defect)
        images = self._collection.set(of)
        # Above some thousand images a row takes minutes.
        logger.info("%s: figures of %s, %d images", self._defect, name, len(images.photos))
        figures = _pair_errors(images)
        gaussians = self._groups.left_out(images, of.kind)
        if self._gaussians is not None and gaussians is not None:
            figures["fid"] = distances(gaussians, self._gaussians)
            if min(len(images.photos), len(self.images.photos)) > 1:
                kid = kernel_inception_distance(np.asarray(images.features), np.asarray(self.images.features))
                figures |= {"kid": kid.mean, "kid_sd": kid.sd, "kid_ci95": kid.ci95}
        notes = (*self._caveats(images), *_problem_notes(self._collection.problems, of))
        return Score(self._defect, name, len(images.photos), len(self.images.photos), notes, **figures)

    def _caveats(self, images: ImageSet) -> list[str]:
        counts = {"images": len(images.photos), "targets": len(self.images.photos)}
        caveats = [f"{count} {name}: no FID or KID" for name, count in counts.items() if count < 2]
        if not caveats and self._gaussians is not None:
            small = [f"{count} {name}" for name, count in counts.items() if count <= FEATURE_DIMENSION]
            if small:
                sizes = " and ".join(small)
                caveats.append(f"FID is biased upward ({sizes} for {FEATURE_DIMENSION} dimensions)")
        return caveats


def _pair_errors(images: ImageSet) -> dict[str, Any]:
    if not len(images.psnr):
        return {}
    figures: dict[str, Any] = {"n_pairs": len(images.psnr)}
    for name, values in (("psnr", images.psnr), ("l1", images.l1)):
        figures |= {name: float(values.mean()), f"{name}_ci95": mean_ci95(values)}
    return figures


def mean_ci95(values: np.ndarray) -> Interval:
    """Return the 95% interval of the mean of independent values, by Student's t; None for fewer than two values."""
    n = len(values)
    if n < 2:
        return None
    half = float(stdtrit(n - 1, 0.975) * values.std(ddof=1) / np.sqrt(n))
    return float(values.mean()) - half, float(values.mean()) + half


def _problem_notes(problems: Counter[tuple[SetName, str]], of: SetName) -> list[str]:
    """Return notes on the images that are left out of a set."""
    reasons = Counter({reason: n for (name, reason), n in problems.items() if name == of})
    return [f"{n} left out ({reason})" for reason, n in sorted(reasons.items())]


def _value(estimates: np.ndarray | None) -> float | None:
    return None if estimates is None or not np.isfinite(estimates[0]) else float(estimates[0])


def _not_negative(interval: Interval) -> Interval:
    return None if interval is None else (max(interval[0], 0.0), interval[1])


def _round(value: float | None, kind: str) -> float | None:
    return None if value is None else round(value, _DIGITS[kind])


def _round_both(interval: Interval, kind: str) -> list[float] | None:
    return None if interval is None else [round(end, _DIGITS[kind]) for end in interval]
