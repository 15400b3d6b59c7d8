"""The fourth stage of a run: FID and KID of the images that it corrected."""

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ray.exceptions import RayError

from model.errors import CatalogRepairError
from pipelines.correction.inspect.survey import CLEAN, defect_of
from pipelines.correction.measure.fid_pass import FidSettings, compute_fid, write_fid
from pipelines.correction.rows import SAMPLES
from pipelines.correction.run import Run

logger = logging.getLogger(__name__)


def measure(run: Run) -> None:
    """Compute FID and KID of the images that this attempt corrected, or set `fid_missing` to the reason why not."""
    if run.plan.fid_weights is None:
        return
    if not run.night.rows:
        run.fid_missing = "no image is new or changed"
        return
    if not run.totals.rows:
        run.fid_missing = (
            "interrupted attempts finished all new and changed images, and their samples are gone"
        )
        return
    with run.stage("fid"):
        try:
            run.fid = _fid(run)
        except (CatalogRepairError, RayError) as error:
            # All images are corrected and committed; a failed measurement must not end the run.
            run.fid_missing = f"FID could not be computed: {error}"
            logger.warning(run.fid_missing)


def _fid(run: Run) -> dict[str, Any]:
    plan, most = run.plan, run.plan.config.fid_samples
    if plan.fid_weights is None:
        raise ValueError("FID needs weights")
    logger.info("computing FID and KID against %s", plan.reference.description)
    routes = tuple(route for route in run.night.routes if defect_of(route) in plan.label_map.defects)
    done = {route: run.totals.routes.get(route, Counter()) for route in routes}
    images = plan.reference.images + 2 * sum(min(counts.total(), most) for counts in done.values())
    if plan.reference.is_catalog:
        images += min(run.inspection.survey.rows[CLEAN], most)
    settings = FidSettings(
        *(run.folder.at(SAMPLES, run.attempt), routes, plan.reference, plan.fid_weights, images),
        notes=_notes(done, run.night.routes),
    )
    summary = compute_fid(settings, run.placement)
    write_fid(run.folder.at(), summary)
    return summary


def _notes(done: Mapping[str, Counter[str]], night: Mapping[str, Counter[str]]) -> dict[str, str]:
    """Return a note on the number of rows that FID covers, for routes that interrupted attempts corrected in part.

    done: by route, this attempt's rows by status. night: the same of all attempts since the last manifest.
    """
    corrected = {route: (counts["corrected"], night[route]["corrected"]) for route, counts in done.items()}
    return {
        route: f"of {now} of {total} corrected rows: interrupted attempts corrected the others"
        for route, (now, total) in corrected.items()
        if now < total
    }
