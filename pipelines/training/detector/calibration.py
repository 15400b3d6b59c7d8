"""Calibrates a detector's logits to probabilities and thresholds on held-back samples, and scores them on others.

Computes in float64 throughout.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from model.detector.network import Calibration

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: Bins of the expected calibration error (Naeini et al., 2015).
BINS = 10
#: Bounds of the logit's factor. It must stay positive, even for a label that was not learned.
SCALES = (1e-3, 100.0)
#: Smallest distance of a threshold from 0 and 1.
MARGIN = 1e-4


def calibrate(logits: Floats, present: Flags, precision: float) -> Calibration:
    """Return the calibration of one label. logits, present: (N,), of the samples for which the label is known.

    precision: see `threshold`. Without both positive and negative samples, returns Calibration().
    """
    if present.all() or not present.any():
        return Calibration()
    scale, offset = platt(logits, present)
    chosen = threshold(expit(scale * logits + offset), present, precision)
    return Calibration(scale, offset, chosen)


def platt(logits: Floats, present: Flags) -> tuple[float, float]:
    """Fit (a, b) of p = sigmoid(a z + b) by least cross-entropy to Platt's smoothed targets (1999, section 2.2).

    Smoothing keeps the result finite if positives and negatives are perfectly separated.
    """
    yes, no = int(present.sum()), int((~present).sum())
    target = np.where(present, (yes + 1) / (yes + 2), 1 / (no + 2))

    def loss(parameters: Floats) -> tuple[float, Floats]:
        z = parameters[0] * logits + parameters[1]
        slope = (expit(z) - target) / len(logits)
        value = np.logaddexp(0, z) - target * z
        return float(value.mean()), np.array([slope @ logits, slope.sum()])

    fit = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[SCALES, (None, None)])
    return float(fit.x[0]), float(fit.x[1])


def at_bound(calibration: Calibration) -> bool:
    """Return True if the scale is at one of its bounds.

    Then the logits either do not predict the label, or predict it perfectly on too few samples to estimate confidence.
    """
    return any(math.isclose(calibration.scale, bound, rel_tol=1e-3) for bound in SCALES)


def threshold(probability: Floats, present: Flags, precision: float) -> float:
    """Return the threshold with the best F1 among those with at least this precision.

    If none is that precise, returns the most precise one; the best F1 of a label that was not learned would assign it
    to every image. The result is half way between two samples' probabilities, and at least MARGIN from 0 and 1.
    """
    values, right, given = _by_threshold(probability, present)
    precise, f1 = right / given, 2 * right / (given + present.sum())
    enough = precise >= min(precision, precise.max())
    best = int(np.argmax(np.where(enough, f1, -1.0)))
    below = values[best + 1] if best + 1 < len(values) else 0.0
    return float(np.clip((values[best] + below) / 2, MARGIN, 1 - MARGIN))


def average_precision(probability: Floats, present: Flags) -> float | None:
    """Return the sum over thresholds of precision times gained recall; ties count together. None without positives."""
    if not present.any():
        return None
    _, right, given = _by_threshold(probability, present)
    gained = np.diff(right, prepend=0) / present.sum()
    return float((gained * right / given).sum())


def calibration_error(probability: Floats, present: Flags) -> float:
    """Return the expected calibration error over BINS equal bins.

    It is the mean of |mean probability - share of positives|, weighted by the bins' samples.
    """
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, probability - present, BINS)
    return float(np.abs(gaps).sum() / len(probability))


def _by_threshold(probability: Floats, present: Flags) -> tuple[Floats, Floats, Floats]:
    """Return the distinct probabilities, descending, and how many samples reach each: positives, and all."""
    order = np.argsort(-probability, kind="stable")
    ordered = probability[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    right = np.cumsum(present[order])[last]
    return ordered[last], right.astype(float), (last + 1).astype(float)


def label_scores(logits: Floats, present: Flags, calibration: Calibration) -> dict[str, Any]:
    """Return one label's scores: images, positives, AP, precision and recall at the threshold, calibration error.

    A score without any samples is None.
    """
    probability = expit(calibration.scale * logits + calibration.offset)
    given = probability >= calibration.threshold
    right = int((given & present).sum())
    return {
        "images": len(present),
        "positives": int(present.sum()),
        "average_precision": _rounded(average_precision(probability, present)),
        "precision": _rounded(right / int(given.sum()) if given.any() else None),
        "recall": _rounded(right / int(present.sum()) if present.any() else None),
        "calibration_error": _rounded(calibration_error(probability, present) if len(present) else None),
    }


def given_shares(
    logits: Floats, kinds: Sequence[str], calibrations: Sequence[Calibration]
) -> dict[str, dict[str, Any]]:
    """Return for each kind of image the number of images, and by label the share to which it is assigned, (L,)."""
    scale, offset, limit = (
        np.array([getattr(one, name) for one in calibrations]) for name in ("scale", "offset", "threshold")
    )
    given = expit(scale * logits + offset) >= limit
    names = np.array(kinds)
    return {
        str(kind): {
            "images": int((names == kind).sum()),
            "given": [_rounded(float(share)) for share in given[names == kind].mean(0)],
        }
        for kind in sorted(set(kinds))
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
