"""From what was published to figures: of each case, then of many."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.correction.deliver.deliver import DeliverySettings, deliver
from pipelines.correction.deliver.gates import GateConfig, Rejection
from pipelines.images.decode import decode_image
from pipelines.inference.edits.apply import Edited
from pipelines.metrics.pixel_errors import psnr
from tests.benchmarks.starter_quality.baselines import BASELINES
from tests.benchmarks.starter_quality.cases import (
    ANGLE,
    BACKGROUND,
    CLEAN,
    LABELS,
    MARK_ON_PHOTO,
    MARK_ON_WHITE,
    Case,
)
from tests.benchmarks.starter_quality.corrected import Published
from tests.benchmarks.starter_quality.measures import (
    degrees_between,
    kept_iou,
    mean_change,
    psnr_inside,
    touched,
)

#: An overlap below is a product that has lost or kept more than a tenth.
POOR_IOU = 0.9
#: Turns that registration does not find again in the upload itself, within so many degrees, are not measured.
FINDS_WITHIN = 2.0


class Scored(NamedTuple):
    """case; rejected: the code of the gate or error, None where it was published; values: what was measured (nothing
    where there is no perfect correction); worth: higher is better, for sorting.
    """

    case: Case
    rejected: str | None
    picture: bytes | None
    values: dict[str, float]
    worth: float


def score(case: Case, published: Published) -> Scored:
    """Measure one case. A rejected one has figures only where keeping the original is an answer: clean images."""
    rejected = None if published.picture is not None else published.code or published.status
    if case.target is None or case.region is None or (rejected and case.task not in CLEAN):
        return Scored(case, rejected, published.picture, {}, 0.0)
    picture = case.seen if published.picture is None else decode_image(published.picture)
    return Scored(case, rejected, published.picture, *measure(case, picture, case.target, case.region))


def measure(
    case: Case, picture: NDArray[np.uint8], target: NDArray[np.uint8], region: NDArray[np.bool_]
) -> tuple[dict[str, float], float]:
    """The task's figures of a corrected picture, uint8 (H,W,3), and what it is worth."""
    if case.task == BACKGROUND:
        iou = kept_iou(case.seen, picture, region)
        return {"iou": iou, "psnr": psnr(picture, target)}, iou
    if case.task in (MARK_ON_PHOTO, MARK_ON_WHITE):
        seen = case.seen
        before, after = psnr_inside(seen, target, region), psnr_inside(picture, target, region)
        whole = {"whole_before": psnr(seen, target), "whole_after": psnr(picture, target)}
        return {"before": before, "after": after, "gain": after - before, **whole}, after - before
    if case.task == ANGLE:
        if abs(degrees_between(case.seen, target) - case.degrees) > FINDS_WITHIN:
            return {}, 0.0
        left = abs(degrees_between(picture, target))
        return {"before": abs(case.degrees), "left": left}, -left
    share = touched(target, picture, region)
    return {"touched": share, "change": mean_change(target, picture)}, -share


def baselines(cases: Iterable[Case]) -> dict[str, list[Scored]]:
    """Every baseline's cases, by its name; backgrounds are whitened, encoded and judged by the gates, like bundles'."""
    found: dict[str, list[Scored]] = defaultdict(list)
    for case in cases:
        for name, method in BASELINES.get(case.task, {}).items():
            picture = method(case)
            if case.task == BACKGROUND:
                found[name].append(score(case, _delivered(case, picture)))
            elif case.target is not None and case.region is not None:
                found[name].append(
                    Scored(case, None, None, *measure(case, picture, case.target, case.region))
                )
    return dict(found)


def _delivered(case: Case, picture: NDArray[np.uint8]) -> Published:
    """What the job would publish, had a generator painted `picture`."""
    row = {"upload": case.upload, "defects": [LABELS[case.task]], "edits": [], "product_type": None}
    painted = np.where((picture != case.seen).any(axis=2), np.uint8(255), np.uint8(0))
    try:
        delivered = deliver(case.seen, Edited(picture, painted), row, DeliverySettings(gates=GateConfig()))
    except Rejection as rejection:
        return Published("rejected", rejection.code, rejection.message, None)
    return Published("corrected", None, None, delivered.encoded)


def summaries(scored: Sequence[Scored]) -> dict[str, dict[str, Any]]:
    """By task, then by kind of goods: `summary`, and the same by product type under `product_types`."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for (task, kind), group in _grouped(scored, lambda one: (one.case.task, one.case.kind)).items():
        types = _grouped(group, lambda one: (one.case.product_type,))
        by_type = {name: summary(part) for (name,), part in sorted(types.items())}
        found[task][kind] = {**summary(group), "product_types": by_type}
    return dict(found)


def summary(scored: Sequence[Scored]) -> dict[str, Any]:
    """Figures of cases of one task: n, rejected (share), gates (counts by code), measured (cases with figures), and the
    task's own; dB and degrees as they are, shares 0 to 1.
    """
    codes = Counter(one.rejected for one in scored if one.rejected)
    columns: dict[str, list[float]] = defaultdict(list)
    for one in scored:
        for name, value in one.values.items():
            columns[name].append(value)
    values = {name: np.array(column) for name, column in columns.items()}
    measured = len(next(iter(values.values()))) if values else 0
    rejected = sum(codes.values()) / len(scored)
    return {
        "n": len(scored),
        "rejected": rejected,
        "gates": dict(codes),
        "measured": measured,
        **{name: figure for name, figure in _figures(values).items() if measured},
    }


def _figures(values: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    found: dict[str, float] = {}
    if "iou" in values:
        iou = values["iou"]
        found = {
            "iou_mean": iou.mean(),
            "iou_median": np.median(iou),
            "iou_poor": (iou < POOR_IOU).mean(),
            "psnr": values["psnr"].mean(),
        }
    elif "gain" in values:
        names = ("before", "after", "gain", "whole_before", "whole_after")
        found = {name: values[name].mean() for name in names}
    elif "left" in values:
        found = {
            "before_median": np.median(values["before"]),
            "left_median": np.median(values["left"]),
            "left_90": np.quantile(values["left"], 0.9),
        }
    elif "touched" in values:
        found = {
            "touched_mean": values["touched"].mean(),
            "touched_90": np.quantile(values["touched"], 0.9),
            "change": values["change"].mean(),
        }
    return {name: float(figure) for name, figure in found.items()}


def _grouped(
    scored: Iterable[Scored], key: Callable[[Scored], tuple[str, ...]]
) -> dict[tuple[str, ...], list[Scored]]:
    groups: dict[tuple[str, ...], list[Scored]] = defaultdict(list)
    for one in scored:
        groups[key(one)].append(one)
    return dict(groups)
