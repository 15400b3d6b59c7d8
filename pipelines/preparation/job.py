"""A preparation from its request to dataset.json: the steps are elsewhere.

    sources -> plan (driver) -> units (tasks; with --saliency actors) -> a record per unit -> totals, report,
    dataset.json

A unit whose record exists is done. So a run that was killed goes on where it was, and nothing is prepared twice.
Nothing that grows with the photos stays on the driver but eight bytes per image while it plans (`known`).
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from model.errors import ConfigurationError, underway
from pipelines.cluster import session
from pipelines.cluster.placement import Placement
from pipelines.contracts.names import not_in_label_map
from pipelines.preparation.entries import Entry
from pipelines.preparation.finish.finish import Description, finish
from pipelines.preparation.on_ray import place_actors, run_units
from pipelines.preparation.output import Start, find_start
from pipelines.preparation.plan.listing import distinct_entries
from pipelines.preparation.plan.plan import Plan, make_plan, unit_entries
from pipelines.preparation.plan.unchanged import check_unchanged
from pipelines.preparation.settings import MEGABYTE, Request
from pipelines.preparation.totals import Totals
from pipelines.saliency import load_saliency
from pipelines.storage import objects as storage
from pipelines.storage.file_uris import path_of
from pipelines.storage.lock import Lock
from pipelines.synthesis.defects import known_syntheses

logger = logging.getLogger(__name__)


def check(request: Request) -> Start:
    """Return how the run begins, from what its outputs hold. Raises ConfigurationError; writes nothing."""
    places = request.places
    start = find_start(places, request.identity, request.config.overwrite)
    if start.plan is not None:
        with storage.as_configuration_error(places.work, "--output", "read"):
            check_unchanged(places.plan, start.plan, request.work(start.plan).units_left())
    if request.config.saliency:
        load_saliency(request.config.saliency)  # its complaints come before hours of work
    return start


def run(request: Request, start: Start, configuration: Mapping[str, Any], lock: Lock) -> None:
    """Prepare everything.

    configuration: `request.preview(start)`, which the dataset keeps. lock: of the output. Raises ConfigurationError
    before anything is removed, and where no image could be read; RunError where it broke off.
    """
    began = time.monotonic()
    if request.config.test_catalog:
        storage.check_writable(request.config.test_catalog, "--test-catalog")
    plan, cluster = _plan_and_cluster(request, start)
    actors = _actors(request, cluster, plan.units)
    work = request.work(plan, "cpu" if actors is None else actors.device)
    with underway(), session.our_errors():
        run_units(work, actors)
        lock.confirm()
        seconds = time.monotonic() - began
        description = Description(request.label_map.to_yaml(), configuration, seconds)
        totals = finish(request.places, work, description)
    _report(request, totals, seconds)


def _plan_and_cluster(request: Request, start: Start) -> tuple[Plan, session.Cluster]:
    """Return the plan and the Ray that is connected, in the order that costs least where something is wrong."""
    if start.plan is not None:
        return start.plan, session.start(*request.shared)
    if not start.replaces:
        plan = _make_plan(request)
        return plan, session.start(*request.shared)
    _check_entries(request)  # before anything is removed: nothing may cost the dataset that is there
    cluster = session.start(*request.shared)
    request.places.remove()
    return _make_plan(request), cluster


def _make_plan(request: Request) -> Plan:
    """List the sources and commit the plan. Raises ConfigurationError for what the sources hold."""
    logger.info("listing what there is to prepare")
    with session.our_errors():
        plan = make_plan(
            request.places.plan,
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


def _check_entries(request: Request) -> None:
    """List the sources and raise what planning would."""
    with session.our_errors():
        for _ in distinct_entries(request.entries, _entry_check(request)):
            pass


def _entry_check(request: Request) -> Callable[[Entry], None]:
    """Return what raises ConfigurationError for an entry of which nothing can be made, or that this job writes."""
    groups, makes = request.settings.groups, bool(request.settings.made)
    owned = tuple(f"{storage.resolve(uri)[1]}/" for uri in request.places.owned)

    def check(entry: Entry) -> None:
        if entry.defect is None and not makes:
            raise ConfigurationError(
                f"--label-map names none of the defects that can be made of photos: {', '.join(known_syntheses())}; "
                "name one, or say how its defects are made with --synthesis DEFECT=NAME"
            )
        if entry.defect is not None and entry.defect not in groups:
            raise ConfigurationError(
                f"{entry.image_id}: {not_in_label_map('defect', entry.defect, groups)}; mend the name, or add it there "
                "(--label-map)"
            )
        for place in (entry.source, entry.target):
            if place is not None and _path(place.uri).startswith(owned):
                raise ConfigurationError(f"{place.uri} lies where this job writes; choose another --output")

    return check


def _path(uri: str) -> str:
    """Return what of a row's URI is compared with the outputs' paths.

    A URI that cannot be parsed is that row's error, later.
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
    """Log what came out. Raises ConfigurationError where no image could be read."""
    page = storage.join(request.places.report, "index.html")
    counts = totals.counts
    entries = {key: count for key, count in sorted(counts.items()) if key.startswith("entries/")}
    logger.info("%s", json.dumps(entries))
    if not counts["entries/prepared"]:
        reason = f", one because: {totals.unreadable[0][2]}" if totals.unreadable else ""
        raise ConfigurationError(
            f"none of {counts['entries/unreadable']} images could be read{reason}; see {page} and check the sources"
        )
    without = counts["masks/missing"]
    if without and request.config.saliency is None:
        logger.warning(
            "%d photos came without a mask: they make no pairs, and no defects are put into them; --saliency classical "
            "makes masks",
            without,
        )
    logger.info("dataset in %s after %.0f s; look at %s", request.places.output, seconds, page)
