"""Compares the canary with the current bundle: what each made of the images that the canary corrected."""

from collections import Counter

from pipelines.contracts.schemas import by_status
from pipelines.correction.inspect.survey import CANARY, CURRENT
from pipelines.correction.report.page import Comparison
from pipelines.correction.run import Run


def compare(run: Run) -> Comparison | None:
    """Return the comparison of a run, or None if it has no canary."""
    canary, routes = run.models.canary, run.night.routes
    if canary is None:
        return None
    counts = {
        defect: {
            bundle: by_status(routes.get(defect + suffix, Counter()))
            for bundle, suffix in (("canary", CANARY), ("current", CURRENT))
        }
        for defect in run.plan.label_map.defects
        if defect + CANARY in routes
    }
    return Comparison(
        *(str(canary.uri), canary.version, canary.config_hash, run.plan.config.canary_share),
        counts=counts,
        fid={} if run.fid is None else run.fid.get("canary", {}),
    )
