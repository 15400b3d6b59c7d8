"""The first stage of a run: finds the rows of the catalog that need work."""

import logging
from typing import Any

from model.errors import ConfigurationError
from pipelines.cluster.placement import configure
from pipelines.correction.inspect import inspection
from pipelines.correction.inspect.pending import InspectSettings
from pipelines.correction.inspect.repeated import DUPLICATE_ID
from pipelines.correction.output import check_whole
from pipelines.correction.run import RETRIED, SMALLEST_BLOCK, STRIPS_PER_DEFECT, Run
from pipelines.correction.scores import scale_note
from pipelines.published.erased import read_erased
from pipelines.published.layout import PLAN_FOLDER

logger = logging.getLogger(__name__)


def inspect(run: Run, known: Any, published: int) -> None:
    """Find the rows that need work, and set `run.inspection`.

    known: see `known.find_known`. published: number of rows of the last manifest. Raises ConfigurationError for a
    catalog that is too small or has wrong rows; what is published stays unchanged then.
    """
    plan = run.plan
    configure(SMALLEST_BLOCK, RETRIED)
    settings = InspectSettings(
        plan.label_map,
        run.models,
        run.folder.at(PLAN_FOLDER),
        known,
        max(plan.config.fid_samples, STRIPS_PER_DEFECT),
        detector=plan.detector is not None,
        compare=plan.fid_weights is not None and plan.reference.is_catalog,
        allowed=plan.config.allowed_uris,
        erased=read_erased(run.output),
        score_scale=plan.config.score_scale,
    )
    try:
        check_whole(plan.listing.rows, published, plan.config.max_dropped)
        run.inspection, repeated = inspection.inspect(plan.listing, settings)
    except ConfigurationError:
        run.folder.begin_attempt()
        raise
    if note := scale_note(run.inspection.top_score, plan.config.score_scale):
        logger.warning("%s", note)
    if repeated.refused:
        logger.warning(
            "ids that occur more than once with different images or labels, so that their rows fail (%s): %d",
            *(DUPLICATE_ID, repeated.refused),
        )
