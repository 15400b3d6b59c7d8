"""FID and KID of what a night has corrected, from pictures that its attempts have left."""

import logging
from collections.abc import Mapping
from typing import Any

from ray.exceptions import RayError

from model.errors import CatalogRepairError
from pipelines.correction.fid_pass import FidSettings, compute_fid, write_fid
from pipelines.correction.run_record import Run
from pipelines.correction.survey import CLEAN

logger = logging.getLogger(__name__)


def measure(run: Run) -> None:
    """FID of all that the next manifest has and the last one had not."""
    if run.plan.fid_weights is None:
        return
    if not run.night.rows:
        run.fid_missing = "no image is new or changed"
        return
    with run.stage("fid"):
        try:
            run.fid = _fid(run)
        except (CatalogRepairError, RayError) as error:
            # All images are corrected and committed: they are worth more than their measurement.
            run.fid_missing = f"FID could not be computed: {error}"
            logger.warning(run.fid_missing)


def _fid(run: Run) -> dict[str, Any]:
    plan, routed = run.plan, run.night.routes
    if plan.fid_weights is None:
        raise ValueError("FID needs weights")
    logger.info("computing FID and KID against %s", plan.reference.description)
    defects = tuple(defect for defect in plan.label_map.defects if defect in routed)
    samples = {route: min(counts.total(), plan.config.fid_samples) for route, counts in routed.items()}
    images = plan.reference.images + 2 * sum(samples[defect] for defect in defects)
    if plan.reference.is_catalog:
        images += min(run.inspection.survey.rows[CLEAN], plan.config.fid_samples)
    # Of more, only those count that would have been chosen without an interruption; how many, nobody has counted.
    corrected = {name: routed[name]["corrected"] for name in defects}
    wanted = {name: n for name, n in corrected.items() if run.resumed and n <= plan.config.fid_samples}
    settings = FidSettings(
        *(run.folder.at(), defects, plan.reference, plan.fid_weights, images),
        shown=None if run.shown is None else smallest(run.shown, plan.config.fid_samples),
        wanted=wanted,
    )
    summary = compute_fid(settings, run.placement)
    write_fid(run.folder.at(), summary)
    return summary


def smallest(shown: Mapping[bytes, tuple[str, int]], most: int) -> set[bytes]:
    """Of each route the `most` pictures with the smallest hashes: each attempt has sampled by a threshold of its own,
    and together they have more, of the last one's rows above all. shown: see `Assembled`.
    """
    by_route: dict[str, list[tuple[int, bytes]]] = {}
    for result, (route, number) in shown.items():
        by_route.setdefault(route, []).append((number, result))
    return {result for found in by_route.values() for _, result in sorted(found)[:most]}
