"""FID and KID per defect, as in `report/fid.json` and `report/fid.csv`, and the mean reduction over defects.

All are pure functions of sets of features: a defect's row can be computed where its sets are, and the summary from the
rows.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.metrics.fid.distance import Gaussian, gaussian, gaussian_distance
from pipelines.metrics.fid.kid import Kid, kernel_inception_distance
from pipelines.metrics.fid.statistics import FeatureSet, Moments

#: Columns of fid.csv; each end of the interval has its own.
COLUMNS = (
    *("defect", "n", "n_reference", "fid_before", "fid_after", "kid_before", "kid_after"),
    *("kid_after_ci95_low", "kid_after_ci95_high", "note"),
)
#: Digits after the point. Further digits vary with batch size and processor.
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
    """Return one defect's entry of fid.json.

    `before` are the uploads with the defect, `after` their corrections, `reference` clean images or None. Keys: `n`
    (corrections), `n_reference` (null for `.npz` statistics, which hold no count), `fid_before`, `fid_after`,
    `kid_before`, `kid_after` (the mean over subsets), `kid_after_ci95` ([low, high], see `pipelines.metrics.fid.kid`),
    `note` (`caveats` and those of this function, joined with "; "; empty if there are none). Figures that cannot be
    computed (fewer than two images, no reference, KID against `.npz`) are null and explained in `note`. Raises
    ValueError for sets of unequal dimensions.
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
    """Return the whole of fid.json from rows of `fid_row` by defect (sorted) and `FeatureExtractor.describe()`.

    Without the official weights, every row's note says so.
    """
    unofficial = () if features.get("official_weights", False) else (UNOFFICIAL,)
    defects = {
        defect: {**row, "note": "; ".join(filter(None, (row["note"], *unofficial)))}
        for defect, row in sorted(rows.items())
    }
    return {"defects": defects, "features": dict(features)}


def fid_csv(summary: Mapping[str, Any]) -> str:
    """Return the same table as CSV text: a header and one line per defect; a null is an empty field."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for defect, row in summary["defects"].items():
        low, high = row["kid_after_ci95"] or (None, None)
        writer.writerow({**row, "defect": defect, "kid_after_ci95_low": low, "kid_after_ci95_high": high})
    return buffer.getvalue()


def mean_relative_reduction(baseline: Mapping[str, float], improved: Mapping[str, float]) -> float:
    """Return the mean over defects of `(baseline − improved) / baseline`: the paper's headline gain, 0.25 for 25%.

    Both map defect to FID. Raises ValueError if their defects differ, if there are none, or for a baseline of 0.
    """
    if not baseline or set(baseline) != set(improved):
        raise ValueError(f"both need the same defects: {sorted(baseline)} against {sorted(improved)}")
    if min(baseline.values()) <= 0:
        raise ValueError("a relative reduction needs a positive baseline")
    return sum((baseline[defect] - improved[defect]) / baseline[defect] for defect in baseline) / len(
        baseline
    )


def _count(statistics: FeatureSet | Moments) -> float:
    """Return the number of images; a `.npz` is assumed to have enough."""
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
    caveats = []
    if before.added != after.added:
        caveats.append(f"{before.added} images before and {after.added} after")
    if min(before.n, after.n) < 2:
        caveats.append("fewer than 2 images: no distance")
    if reference is None or _count(reference) < 2:
        caveats.append("fewer than 2 reference images: no distance")
    elif isinstance(reference, Moments):
        caveats.append("the reference is a .npz without images: no KID, and its count is unknown")
    small = [
        name
        for name, count in (("n", after.n), ("n_reference", 0 if reference is None else _count(reference)))
        if 2 <= count < dimension
    ]
    if small and before.n > 1 and after.n > 1:
        sizes = " and ".join(small)
        caveats.append(f"FID is biased upward: {sizes} below the {dimension} feature dimensions; lean on KID")
    sampled = [one for one in (before, after, reference) if isinstance(one, FeatureSet) and one.added > one.n]
    if sampled:
        largest = max(one.added for one in sampled)
        caveats.append(f"FID and KID from samples of {sampled[0].n} images of sets of up to {largest}")
    return caveats
