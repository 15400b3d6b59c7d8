"""Figures of published pictures: of each case, then of many."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.correction.deliver.deliver import DeliverySettings, deliver
from pipelines.correction.deliver.gates import GateConfig, Rejection
from pipelines.images.decode import decode_image
from pipelines.inference.edits.apply import EditedImage
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

#: Below this overlap, a product has lost or kept more than a tenth too much.
POOR_IOU = 0.9
#: Turns are not measured if registration of the upload itself is wrong by more than this number of degrees.
FINDS_WITHIN = 2.0


class Scored(NamedTuple):
    """A measured case. rejected: the code of the gate or error, None if it was published.

    values: the measurements (empty without a perfect correction). worth: for sorting, higher is better.
    """

    case: Case
    rejected: str | None
    picture: bytes | None
    values: dict[str, float]
    worth: float


def score(case: Case, published: Published) -> Scored:
    """Return the measurements of one case. A rejected one has figures only if it is clean: the original is kept."""
    rejected = None if published.picture is not None else published.code or published.status
    if case.target is None or case.region is None or (rejected and case.task not in CLEAN):
        return Scored(case, rejected, published.picture, {}, 0.0)
    picture = case.pixels if published.picture is None else decode_image(published.picture)
    return Scored(case, rejected, published.picture, *measure(case, picture, case.target, case.region))


def measure(
    case: Case, picture: NDArray[np.uint8], target: NDArray[np.uint8], region: NDArray[np.bool_]
) -> tuple[dict[str, float], float]:
    """Return the task's figures of a corrected picture, uint8 (H,W,3), and its worth."""
    if case.task == BACKGROUND:
        iou = kept_iou(case.pixels, picture, region)
        return {"iou": iou, "psnr": psnr(picture, target)}, iou
    if case.task in (MARK_ON_PHOTO, MARK_ON_WHITE):
        upload = case.pixels
        before, after = psnr_inside(upload, target, region), psnr_inside(picture, target, region)
        whole = {"whole_before": psnr(upload, target), "whole_after": psnr(picture, target)}
        return {"before": before, "after": after, "gain": after - before, **whole}, after - before
    if case.task == ANGLE:
        if abs(degrees_between(case.pixels, target) - case.degrees) > FINDS_WITHIN:
            return {}, 0.0
        left = abs(degrees_between(picture, target))
        return {"before": abs(case.degrees), "left": left}, -left
    share = touched(target, picture, region)
    return {"touched": share, "change": mean_change(target, picture)}, -share


def baselines(cases: Iterable[Case]) -> dict[str, list[Scored]]:
    """Return the cases of every baseline, by name; backgrounds are whitened, encoded and judged by the gates."""
    by_name: dict[str, list[Scored]] = defaultdict(list)
    for case in cases:
        for name, method in BASELINES.get(case.task, {}).items():
            picture = method(case)
            if case.task == BACKGROUND:
                by_name[name].append(score(case, _delivered(case, picture)))
            elif case.target is not None and case.region is not None:
                by_name[name].append(
                    Scored(case, None, None, *measure(case, picture, case.target, case.region))
                )
    return dict(by_name)


def _delivered(case: Case, picture: NDArray[np.uint8]) -> Published:
    """Return what the job would publish if a generator painted `picture`."""
    row = {"upload": case.upload, "defects": [LABELS[case.task]], "edits": [], "product_type": None}
    painted = np.where((picture != case.pixels).any(axis=2), np.uint8(255), np.uint8(0))
    try:
        delivered = deliver(
            case.pixels, EditedImage(picture, painted), row, DeliverySettings(gates=GateConfig())
        )
    except Rejection as rejection:
        return Published("rejected", rejection.code, rejection.message, None)
    return Published("corrected", None, None, delivered.encoded)


def summaries(scored: Sequence[Scored]) -> dict[str, dict[str, Any]]:
    """Return `summary` by task, then by kind of goods; and by product type under `product_types`."""
    by_task: dict[str, dict[str, Any]] = defaultdict(dict)
    for (task, kind), group in _grouped(scored, lambda one: (one.case.task, one.case.kind)).items():
        types = _grouped(group, lambda one: (one.case.product_type,))
        by_type = {name: summary(part) for (name,), part in sorted(types.items())}
        by_task[task][kind] = {**summary(group), "product_types": by_type}
    return dict(by_task)


def summary(scored: Sequence[Scored]) -> dict[str, Any]:
    """Return figures of one task's cases.

    They are n, rejected (share), gates (counts by code), measured (cases with figures), and the task's own; dB and
    degrees are plain numbers, shares 0 to 1.
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
    figures: dict[str, float] = {}
    if "iou" in values:
        iou = values["iou"]
        figures = {
            "iou_mean": iou.mean(),
            "iou_median": np.median(iou),
            "iou_poor": (iou < POOR_IOU).mean(),
            "psnr": values["psnr"].mean(),
        }
    elif "gain" in values:
        names = ("before", "after", "gain", "whole_before", "whole_after")
        figures = {name: values[name].mean() for name in names}
    elif "left" in values:
        figures = {
            "before_median": np.median(values["before"]),
            "left_median": np.median(values["left"]),
            "left_90": np.quantile(values["left"], 0.9),
        }
    elif "touched" in values:
        figures = {
            "touched_mean": values["touched"].mean(),
            "touched_90": np.quantile(values["touched"], 0.9),
            "change": values["change"].mean(),
        }
    return {name: float(figure) for name, figure in figures.items()}


def _grouped(
    scored: Iterable[Scored], key: Callable[[Scored], tuple[str, ...]]
) -> dict[tuple[str, ...], list[Scored]]:
    groups: dict[tuple[str, ...], list[Scored]] = defaultdict(list)
    for one in scored:
        groups[key(one)].append(one)
    return dict(groups)
