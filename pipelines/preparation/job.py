"""Run a preparation from its request to dataset.json.

    sources -> plan (driver) -> units (tasks; with --saliency actors) -> a record per unit -> totals, report,
    dataset.json

A unit is done if its record exists, so a killed run continues where it stopped and prepares nothing twice.
Only one structure on the driver grows with the photos: eight bytes per image while it plans (`known`).
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from model.errors import ConfigurationError, underway
from pipelines import storage
from pipelines.cluster import session
from pipelines.cluster.placement import Placement
from pipelines.contracts.names import not_in_label_map
from pipelines.preparation.entries import Entry
from pipelines.preparation.finish.finish import Description, finish
from pipelines.preparation.on_ray import place_actors, run_units
from pipelines.preparation.output import Layout, Start, find_start
from pipelines.preparation.plan.listing import distinct_entries
from pipelines.preparation.plan.plan import Plan, make_plan, unit_entries
from pipelines.preparation.plan.unchanged import check_unchanged
from pipelines.preparation.settings import MEGABYTE, Request
from pipelines.preparation.totals import Totals
from pipelines.saliency import load_saliency
from pipelines.storage.file_uris import path_of
from pipelines.storage.lock import Lock
from pipelines.synthesis.defects import known_syntheses

logger = logging.getLogger(__name__)


def check(request: Request) -> Start:
    """Return how the run begins, given what its outputs hold. Raises ConfigurationError; writes nothing."""
    layout = request.layout
    start = find_start(layout, request.identity, request.config.overwrite)
    if start.plan is not None:
        with storage.as_configuration_error(layout.work, "--output", "read"):
            check_unchanged(layout.plan, start.plan, request.work(start.plan).units_left())
    if request.config.saliency:
        load_saliency(request.config.saliency)  # fail before hours of work, not after
    return start


def run(
    request: Request,
    start: Start,
    configuration: Mapping[str, Any],
    lock: Lock,
    began: Callable[[], None] = lambda: None,
) -> None:
    """Prepare the dataset.

    configuration: `request.preview(start)`, which is kept in the dataset. lock: the output's. began: called once
    the sources are listed and nothing is refused any more. Raises ConfigurationError before anything is removed, or if
    no image could be read; RunError if the run cannot finish.
    """
    started = time.monotonic()
    if request.config.test_catalog:
        storage.check_writable(request.config.test_catalog, "--test-catalog")
    plan, cluster = _plan_and_cluster(request, start)
    actors = _actors(request, cluster, plan.units)
    request.layout.remove_unfinished()
    began()
    work = request.work(plan, "cpu" if actors is None else actors.device)
    with underway(), session.our_errors():
        run_units(work, actors)
        lock.confirm()
        seconds = time.monotonic() - started
        description = Description(request.label_map.to_yaml(), configuration, seconds)
        totals = finish(request.layout, work, description)
    _report(request, totals, seconds)


def _plan_and_cluster(request: Request, start: Start) -> tuple[Plan, session.Cluster]:
    """Return the plan and the connected Ray cluster, obtained in the order in which a failure costs least."""
    if start.plan is not None:
        return start.plan, session.start(*request.shared)
    if not start.replaces:
        plan = _make_plan(request)
        return plan, session.start(*request.shared)
    _check_entries(request)  # before anything is removed: an error must not cost the existing dataset
    cluster = session.start(*request.shared)
    request.layout.remove()
    return _make_plan(request), cluster


def _make_plan(request: Request) -> Plan:
    """List the sources and commit the plan. Raises ConfigurationError for invalid entries, and then leaves no draft."""
    logger.info("listing the sources")
    with session.our_errors(), _without_draft(request.layout):
        plan = make_plan(
            request.layout.plan,
            request.entries,
            _entry_check(request),
            identity=request.identity,
            size_of_units=lambda count: unit_entries(
                count, request.settings, request.config.shard_size * MEGABYTE
            ),
            notes=request.sources.notes,
            test_limit=request.config.test_limit,
        )
    logger.info(
        "%d entries: %d to prepare in %d units, %d duplicates",
        *(plan.listed, plan.planned, plan.units, plan.duplicates),
    )
    return plan


@contextmanager
def _without_draft(layout: Layout) -> Iterator[None]:
    """Remove the unfinished plan if the block raises ConfigurationError."""
    try:
        yield
    except ConfigurationError:
        storage.remove(layout.work)  # it holds nothing else before a plan is committed
        raise


def _check_entries(request: Request) -> None:
    """List the sources and raise the errors that planning would raise."""
    with session.our_errors():
        for _ in distinct_entries(request.entries, _entry_check(request)):
            pass


def _entry_check(request: Request) -> Callable[[Entry], None]:
    """Return a check that raises ConfigurationError if nothing can be made of an entry, or if this job writes it."""
    groups, can_make = request.settings.groups, bool(request.settings.made)
    owned = tuple(f"{storage.resolve(uri)[1]}/" for uri in request.layout.owned)

    def check(entry: Entry) -> None:
        if entry.defect is None and not can_make:
            raise ConfigurationError(
                f"--label-map names none of the defects that can be made from photos: {', '.join(known_syntheses())}; "
                "name one, or choose how to make its defects with --synthesis DEFECT=NAME"
            )
        if entry.defect is not None and entry.defect not in groups:
            raise ConfigurationError(
                f"{entry.image_id}: {not_in_label_map('defect', entry.defect, groups)}; correct it, or add it there "
                "(--label-map)"
            )
        for locator in (entry.source, entry.target):
            if locator is not None and _path(locator.uri).startswith(owned):
                raise ConfigurationError(f"{locator.uri} lies where this job writes; choose another --output")

    return check


def _path(uri: str) -> str:
    """Return the path of a row's URI, for comparison with the outputs' paths.

    A URI that cannot be parsed is reported later, as that row's error.
    """
    with suppress(ValueError):
        return path_of(uri)
    return uri.split("://")[-1]


def _actors(request: Request, cluster: session.Cluster, units: int) -> Placement | None:
    config = request.config
    if config.saliency is None:
        return None
    return place_actors(config.saliency, config.saliency_device, config.gpus_per_actor, cluster, units)


def _report(request: Request, totals: Totals, seconds: float) -> None:
    """Log the outcome. Raises ConfigurationError if no image could be read."""
    page = storage.join(request.layout.report, "index.html")
    counts = totals.counts
    entries = {key: count for key, count in sorted(counts.items()) if key.startswith("entries/")}
    logger.info("%s", json.dumps(entries))
    if not counts["entries/prepared"]:
        reason = f", for example: {totals.unreadable[0][2]}" if totals.unreadable else ""
        raise ConfigurationError(
            f"none of {counts['entries/unreadable']} images could be read{reason}; see {page} and check the sources"
        )
    without = counts["masks/missing"]
    if without and request.config.saliency is None:
        logger.warning(
            "%d photos have no mask, so they make no pairs and no defects are added to them; --saliency classical "
            "makes masks",
            without,
        )
    logger.info("dataset in %s after %.0f s; look at %s", request.layout.output, seconds, page)
