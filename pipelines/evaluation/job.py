"""Runs an evaluation from its plan to _SUCCESS. Its steps are in other modules, and run here or on Ray Data.

read -> decode -> generators and FID network -> one row per image -> driver: sets, figures, pictures
"""

import logging
import sys
from collections.abc import Iterator

import pyarrow as pa

from model.errors import RunError, underway
from model.precision import choose_device
from pipelines import storage
from pipelines.cluster.progress import Progress
from pipelines.evaluation.collect import Collection
from pipelines.evaluation.config import CSV, GRIDS, JSON, MARKDOWN, SUCCESS, Plan, prepare_output
from pipelines.evaluation.grid import comparison_grid
from pipelines.evaluation.measure import Measurer
from pipelines.evaluation.rows import decode_rows, read_rows
from pipelines.evaluation.score import Scores, empty_rows, score
from pipelines.evaluation.table import to_csv, to_json, to_markdown
from pipelines.metrics.fid.inception import describe
from pipelines.metrics.fid.weights import read_weights

logger = logging.getLogger(__name__)


def run(plan: Plan) -> Scores:
    """Measure, score and write everything. Raises ConfigurationError before anything is written, RunError and others
    after.
    """
    storage.check_writable(plan.config.output, "--output")  # before models and Ray, which take time
    if plan.fid_missing:
        logger.warning(plan.fid_missing)
    for name, missing in plan.preview()["plan"]["defects_unknown_to"].items():
        logger.warning("%s does not know %s: the table has dashes there", name, ", ".join(missing))
    if plan.config.workers == 0:
        measurer = Measurer(**plan.measurer_settings(choose_device(plan.config.device).type))
        prepare_output(plan.config)
        with underway():
            collection = collect(plan, measure_here(plan, measurer))
    else:
        from pipelines.cluster import session
        from pipelines.evaluation.on_ray import measure_on_ray, place_actors

        with session.stopped_afterwards(), session.our_errors():
            placement = place_actors(plan)
            prepare_output(plan.config)
            with underway(), session.our_errors():
                collection = collect(plan, measure_on_ray(plan, placement))
    logger.info("measured; computing figures")
    scores = score(collection, plan.contestants, plan.defects)
    write(plan, scores, collection)
    return scores


def measure_here(plan: Plan, measurer: Measurer) -> Iterator[pa.Table]:
    """Yield tables of MEASURES, made in this process."""
    sample = plan.survey.sample(floor=plan.weights is not None)
    for unit in plan.units:
        for sampled in read_rows(unit.table(), sample):
            for decoded in decode_rows(sampled, plan.inputs):
                yield measurer(decoded)


def collect(plan: Plan, measures: Iterator[pa.Table]) -> Collection:
    """Collect all measures, with progress on the terminal."""
    collection = Collection()
    total = plan.survey.sampled_rows(floor=plan.weights is not None)
    with Progress("evaluating", total, sys.stderr) as progress:
        for table in measures:
            progress.update(*collection.add(table))
    return collection


def write(plan: Plan, scores: Scores, collection: Collection) -> None:
    """Write grids, tables and, last, _SUCCESS.

    Raises RunError instead of writing _SUCCESS if a row of the table is empty that should not be.
    """
    output = plan.config.output
    grids = {
        defect: grid
        for defect in plan.defects
        if (grid := comparison_grid(collection, plan.contestants, defect)) is not None
    }
    for defect, grid in grids.items():
        storage.write_bytes(storage.join(output, GRIDS, f"{defect}.png"), grid)
    features = None if plan.weights is None else describe(read_weights(plan.weights))
    details = {**plan.describe(), "features": features}
    texts = {
        CSV: to_csv(scores),
        JSON: to_json(scores, plan.contestants, plan.rows(), details),
        MARKDOWN: to_markdown(scores, plan.contestants, plan.fid_missing, grids),
    }
    for name, text in texts.items():
        storage.write_bytes(storage.join(output, name), text.encode())
    if empty := empty_rows(scores, plan.contestants, collection):
        raise RunError(
            f"{'; '.join(empty)}. The tables in {output} have dashes there, and there is no {SUCCESS}"
        )
    storage.write_bytes(storage.join(output, SUCCESS), b"")
