"""FID and KID per defect as `report/fid.json` and `report/fid.csv` hold them; mean reduction over tasks.

Pure functions of sets of features: a defect's row can be computed wherever its sets are, and the summary
from the rows.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.fid.distance import Gaussian, gaussian, gaussian_distance
from pipelines.fid.kid import Kid, kernel_inception_distance
from pipelines.fid.statistics import FeatureSet, Moments

#: Columns of fid.csv. The interval's two ends have a column each.
COLUMNS = (
    *("defect", "n", "n_reference", "fid_before", "fid_after", "kid_before", "kid_after"),
    *("kid_after_ci95_low", "kid_after_ci95_high", "note"),
)
#: Digits after the point. Below them figures vary with batch size and processor.
_FID_DIGITS, _KID_DIGITS = 4, 7

UNOFFICIAL = (
    "not the official Inception weights: these figures compare only with others made with the same file"
)


def fid_row(
    before: FeatureSet,
    after: FeatureSet,
    reference: FeatureSet | Moments | None,
    caveats: Sequence[str] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """One defect's entry of fid.json.

    `before` are the uploads with the defect, `after` their corrections, `reference` clean images (None: there
    are none). Keys: `n` (corrections), `n_reference` (null for `.npz` statistics, which hold no count),
    `fid_before`, `fid_after`, `kid_before`, `kid_after` (the mean over subsets), `kid_after_ci95` ([low,
    high], see `pipelines.fid.kid`), `note` (`caveats` and what this function finds, joined with "; "; empty
    where there is nothing to say). Figures that cannot be had (fewer than two images, no reference, KID
    against `.npz`) are null and explained in `note`. Raises ValueError for sets of unequal dimensions.
    """
    kid_before, kid_after = (_kid(features, reference, seed) for features in (before, after))
    target = gaussian(reference) if reference is not None and _count(reference) > 1 else None
    interval = kid_after.ci95 if kid_after is not None else None
    return {
        "n": after.n,
        "n_reference": reference.n
        if isinstance(reference, FeatureSet)
        else (0 if reference is None else None),
        "fid_before": _fid(before, target),
        "fid_after": _fid(after, target),
        "kid_before": None if kid_before is None else round(kid_before.mean, _KID_DIGITS),
        "kid_after": None if kid_after is None else round(kid_after.mean, _KID_DIGITS),
        "kid_after_ci95": None if interval is None else [round(end, _KID_DIGITS) for end in interval],
        "note": "; ".join([*caveats, *_caveats(before, after, reference)]),
    }


def fid_summary(rows: Mapping[str, Mapping[str, Any]], features: Mapping[str, Any]) -> dict[str, Any]:
    """The whole of fid.json: rows of `fid_row` by defect (sorted) and `FeatureExtractor.describe()`.

    Without the official weights every row's note says so.
    """
    unofficial = () if features.get("official_weights", False) else (UNOFFICIAL,)
    defects = {
        defect: {**row, "note": "; ".join(filter(None, (row["note"], *unofficial)))}
        for defect, row in sorted(rows.items())
    }
    return {"defects": defects, "features": dict(features)}


def fid_csv(summary: Mapping[str, Any]) -> str:
    """The same table as CSV text: a header and one line per defect; a null is an empty field."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for defect, row in summary["defects"].items():
        low, high = row["kid_after_ci95"] or (None, None)
        writer.writerow({**row, "defect": defect, "kid_after_ci95_low": low, "kid_after_ci95_high": high})
    return buffer.getvalue()


def mean_relative_reduction(baseline: Mapping[str, float], improved: Mapping[str, float]) -> float:
    """Mean over tasks of `(baseline − improved) / baseline`: the paper's headline gain, 0.25 for 25%.

    Both map task to FID. Raises ValueError where the tasks differ, there are none, or a baseline is not
    positive.
    """
    if not baseline or set(baseline) != set(improved):
        raise ValueError(f"both need the same tasks: {sorted(baseline)} against {sorted(improved)}")
    if min(baseline.values()) <= 0:
        raise ValueError("a reduction relative to a baseline that is not positive means nothing")
    return sum((baseline[task] - improved[task]) / baseline[task] for task in baseline) / len(baseline)


def _count(statistics: FeatureSet | Moments) -> float:
    """How many images; those behind a `.npz` are taken to be enough."""
    return statistics.n if isinstance(statistics, FeatureSet) else float("inf")


def _fid(features: FeatureSet, target: Gaussian | None) -> float | None:
    if target is None or features.n < 2:
        return None
    return round(gaussian_distance(gaussian(features), target), _FID_DIGITS)


def _kid(features: FeatureSet, reference: FeatureSet | Moments | None, seed: int) -> Kid | None:
    if not isinstance(reference, FeatureSet) or min(features.n, reference.n) < 2:
        return None
    return kernel_inception_distance(features.features, reference.features, seed)


def _caveats(before: FeatureSet, after: FeatureSet, reference: FeatureSet | Moments | None) -> list[str]:
    dimension = after.dimension
    found = []
    if before.added != after.added:
        found.append(f"{before.added} images before and {after.added} after")
    if min(before.n, after.n) < 2:
        found.append("fewer than 2 images: no distance")
    if reference is None or _count(reference) < 2:
        found.append("fewer than 2 reference images: no distance")
    elif isinstance(reference, Moments):
        found.append("the reference is a .npz without images: no KID, and its count is unknown")
    small = [
        name
        for name, count in (("n", after.n), ("n_reference", 0 if reference is None else _count(reference)))
        if 2 <= count < dimension
    ]
    if small and before.n > 1 and after.n > 1:
        sizes = " and ".join(small)
        found.append(f"FID is biased upward: {sizes} below the {dimension} feature dimensions; lean on KID")
    sampled = [one for one in (before, after, reference) if isinstance(one, FeatureSet) and one.added > one.n]
    if sampled:
        found.append(
            f"sets of up to {max(one.added for one in sampled)} images: {sampled[0].n} of each are measured"
        )
    return found
