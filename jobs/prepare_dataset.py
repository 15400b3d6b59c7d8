"""Turn photos, product images and pairs into training shards: the one way into training.

A photo with a good mask (its own, or with --saliency a network's) gives the clean-up pair, photo and product on white,
and a pair for each defect that can be put into a clean image: a mark over it, another angle, and so on. Photos without
a mask, or with one of low quality, give the photo alone, for unpaired training. Clean product images give pairs for
every such defect; given pairs pass. One image in five, by hash of its id, is kept for tests.

    python jobs/prepare_dataset.py --photos photos.parquet --output shards
    python jobs/prepare_dataset.py --photos s3://shop/photos --saliency s3://shop/saliency.onnx \\
        --output s3://shop/train --test-catalog s3://shop/held-back
    python jobs/prepare_dataset.py --benchmark unpaired4 --root datasets --output benchmark
    python jobs/prepare_dataset.py --sources sources.yaml --output shards --append

A table of photos is parquet or CSV with image_id and image (encoded bytes) or uri, and optionally mask (8-bit grey PNG
of the photo's size, 255 is product) and product_type. --sources takes a YAML file that mixes any readers.

Writes OUTPUT/shards/*.parquet, OUTPUT/label_map.yaml, OUTPUT/report/index.html, which is the page to judge
--min-quality by, and last OUTPUT/dataset.json: counts, a fingerprint, and which images cannot be read. OUTPUT/work/ is
what it needs to go on: a run that was killed continues where it was when the same command is given again, and --append
adds new photos to a finished dataset (known ids are left alone, those that could not be read are tried again). Do not
train on a dataset while photos are being added to it. Leave tables that hold image bytes as they are until a run has
finished: their rows are known by number, and a run whose tables were rewritten ends with a message that names them.
Exit codes: 0 done, 1 broke off (the same command continues), 2 wrong command line or input, 130 interrupted (Ctrl-C),
143 terminated (SIGTERM).
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Any

from jobs import command
from jobs.prepare_flags import MEGABYTE, Request, parser, resolve
from model.errors import ConfigurationError, underway
from pipelines import ray_session, storage
from pipelines.dataset.finish import Description, finish
from pipelines.dataset.job import place_actors, run_units, units_left
from pipelines.dataset.known import KnownIds
from pipelines.dataset.listing import fresh_entries
from pipelines.dataset.output import Start, begin, known_ids, read_summary
from pipelines.dataset.plan import Plan, make_plan, unit_entries
from pipelines.dataset.records import Entry
from pipelines.dataset.totals import Totals
from pipelines.dataset.unchanged import check_unchanged
from pipelines.dataset.unit import Work
from pipelines.defects import known_syntheses
from pipelines.file_uris import path_of
from pipelines.lock import Lock, locked
from pipelines.names import not_in_label_map
from pipelines.placement import Placement
from pipelines.saliency import load_saliency

logger = logging.getLogger("jobs.prepare_dataset")


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare a dataset; returns the exit code. Raises CatalogRepairError for what the caller must change."""
    started = time.monotonic()
    with storage.impatient():
        request = resolve(parser(__doc__).parse_args(argv))
    if request.arguments.dry_run:
        return _run(request, None, started)
    ray_session.check()
    with locked(request.places.output, request.arguments.break_lock) as lock:
        return _run(request, lock, started)


def _run(request: Request, lock: Lock | None, started: float) -> int:
    """lock: of the output; None for a dry run. Returns the exit code."""
    arguments = request.arguments
    occupied = [uri for uri in request.owned if _is_occupied(uri)]
    start = begin(request.places, request.identity, occupied, arguments.append, arguments.overwrite)
    _check_start(request, start, occupied)
    configuration = _configuration(request, start, occupied)
    command.show_configuration(configuration)
    if request.saliency:
        load_saliency(request.saliency)  # its complaints come before hours of work
    if lock is None:
        return command.EXIT_OK
    if request.test_catalog:
        storage.check_writable(request.test_catalog, "--test-catalog")
    plan = start.plan
    if start.mode == "replaces":
        _list(request)
    elif plan is None:
        plan = _plan(request, start.generation)
        if not plan.planned and start.mode == "appends":
            return _nothing_to_add(request, plan)
    cluster = ray_session.start(*request.shared)
    if plan is None:
        _remove(occupied)
        plan = _plan(request, start.generation)
    actors = _actors(request, cluster, plan.units)
    work = _work(request, plan, "cpu" if actors is None else actors.device)
    with underway(), ray_session.our_errors():
        run_units(work, actors)
        lock.confirm()
        description = Description(request.label_map_text, configuration, time.monotonic() - started)
        totals = finish(request.places, work, description)
    _tell(request, totals, time.monotonic() - started)
    return command.EXIT_OK


def _configuration(request: Request, start: Start, occupied: Sequence[str]) -> dict[str, Any]:
    arguments = request.arguments
    made = request.settings.made
    return {
        "photos": arguments.photos,
        "benchmark": arguments.benchmark,
        "root": arguments.root,
        "sources": arguments.sources,
        "output": arguments.output,
        "test_catalog": arguments.test_catalog,
        "test_limit": arguments.test_limit,
        "limit": arguments.limit,
        "label_map": arguments.label_map or ("benchmark's" if request.sources.label_map else "built-in"),
        "shard_size_mb": arguments.shard_size,
        "saliency": {
            "network": arguments.saliency,
            "device": arguments.saliency_device,
            "gpus_per_actor": arguments.gpus_per_actor,
        },
        "settings": asdict(request.settings),
        "plan": {
            "run": start.mode,
            "generation": start.generation,
            "sources": request.sources.describe(),
            "cycle_groups": request.label_map.cycle_groups,
            "defects": list(made),
            "defects_without_synthesis": [name for name in request.label_map.defects if name not in made],
            "replaces": list(occupied) if start.mode == "replaces" else [],
        },
    }


def _plan(request: Request, generation: int) -> Plan:
    """List the sources and commit the plan. Raises ConfigurationError where there is nothing to prepare."""
    arguments = request.arguments
    logger.info("listing what there is to prepare")
    with ray_session.our_errors():
        plan = make_plan(
            request.places.plan(generation),
            partial(_limited, request),
            known_ids(request.places, generation),
            _check_entry(request),
            generation=generation,
            identity=request.identity,
            size_of_units=lambda count: unit_entries(
                count, request.settings, arguments.shard_size * MEGABYTE
            ),
            notes=request.sources.notes,
            test_limit=arguments.test_limit,
        )
    logger.info(
        "%d entries: %d to prepare in %d units, %d duplicates, %d in the dataset already",
        *(plan.listed, plan.planned, plan.units, plan.duplicates, plan.known),
    )
    return plan


def _limited(request: Request) -> Iterable[Entry]:
    return islice(request.sources.entries(), request.arguments.limit)


def _check_entry(request: Request) -> Callable[[Entry], None]:
    """What raises ConfigurationError for an entry of which nothing can be made, or that is an output of this job."""
    groups, makes = request.settings.groups, bool(request.settings.made)
    folders = tuple(f"{storage.resolve(uri)[1]}/" for uri in request.owned)

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
            if place is not None and _path(place.uri).startswith(folders):
                raise ConfigurationError(f"{place.uri} lies where this job writes; choose another --output")

    return check


def _path(uri: str) -> str:
    """What of a row's URI is compared with the output's paths; a URI that cannot be read is that row's error, later."""
    with suppress(ValueError):
        return path_of(uri)
    return uri.split("://")[-1]


def _work(request: Request, plan: Plan, device: str) -> Work:
    places, arguments = request.places, request.arguments
    return Work(
        plan,
        request.settings,
        places.plan(plan.generation),
        places.done(plan.generation),
        places.shards,
        arguments.shard_size * MEGABYTE,
        request.test_catalog,
        request.saliency,
        device,
    )


def _actors(request: Request, cluster: ray_session.Cluster, units: int) -> Placement | None:
    arguments = request.arguments
    if request.saliency is None:
        return None
    return place_actors(request.saliency, arguments.saliency_device, arguments.gpus_per_actor, cluster, units)


def _nothing_to_add(request: Request, plan: Plan) -> int:
    storage.remove(request.places.plan(plan.generation))
    logger.info("nothing to add: %d entries, of them %d in the dataset already", plan.listed, plan.known)
    return command.EXIT_OK


def _list(request: Request) -> None:
    """Raise what planning would: before anything is removed, so that nothing may cost the dataset that is there."""
    with ray_session.our_errors():
        for _ in fresh_entries(partial(_limited, request), KnownIds(), _check_entry(request)):
            pass


def _remove(uris: Sequence[str]) -> None:
    """Remove what earlier runs wrote."""
    for uri in uris:
        with storage.as_configuration_error(uri, "--overwrite", "replace"):
            storage.remove(uri)


def _check_start(request: Request, start: Start, occupied: Sequence[str]) -> None:
    """Raise ConfigurationError where what is there cannot be gone on with."""
    if start.mode == "appends":
        _check_append(request, occupied)
    elif start.mode == "new" and request.arguments.append:
        logger.warning("--append: there is no dataset in %s yet; a new one is made", request.places.output)
    if start.plan is not None:
        _check_unchanged(request, start.plan)


def _check_append(request: Request, occupied: Sequence[str]) -> None:
    """Raise ConfigurationError for a test catalog that cannot be added to."""
    if request.arguments.test_limit:
        raise ConfigurationError(
            "--test-limit cannot hold for photos that are added; leave it out, or --test-catalog"
        )
    before = (read_summary(request.places) or {}).get("identity", {}).get("--test-catalog")
    if before and request.test_catalog is None:
        logger.warning(
            "--append without --test-catalog %s: held-back images that are added do not get there", before
        )
    if before != request.test_catalog and not set(request.held_back).isdisjoint(occupied):
        raise ConfigurationError(
            f"--test-catalog {request.test_catalog} holds another dataset's, or this one's from before photos were "
            "added without it; choose a new one"
        )


def _check_unchanged(request: Request, plan: Plan) -> None:
    """Raise ConfigurationError where an unfinished run cannot go on, because its tables are others now."""
    places, generation = request.places, plan.generation
    unfinished = [places.plan(generation), places.done(generation)]
    for folder in (places.shards, *request.held_back):
        unfinished.append(storage.join(folder, f"part-{generation:03}-*"))
    remedy = (
        f"put the old ones back, or begin the addition anew: remove {', '.join(unfinished)} and give --append"
        if generation
        else "put the old ones back, or begin anew with --overwrite"
    )
    with storage.as_configuration_error(places.work, "--output", "read"):
        check_unchanged(places.plan(generation), plan, units_left(plan, places.done(generation)), remedy)


def _is_occupied(uri: str) -> bool:
    with storage.as_configuration_error(uri, "--output", "read"):
        return bool(storage.list_files(uri))


def _tell(request: Request, totals: Totals, seconds: float) -> None:
    """Log what came out. Raises ConfigurationError where no image was read, unless a dataset was there already."""
    report = storage.join(request.places.report, "index.html")
    logger.info(
        "%s", json.dumps({key: n for key, n in sorted(totals.counts.items()) if key.startswith("entries/")})
    )
    if not totals.counts["entries/prepared"] and not request.arguments.append:
        raise ConfigurationError(
            f"none of {totals.counts['entries/unreadable']} images could be read, one because: "
            f"{totals.unreadable[0][2]}; see {report} and check the sources"
        )
    without = totals.counts["masks/missing"]
    if without and request.saliency is None:
        logger.warning(
            "%d photos came without a mask: they make no pairs, and no defects are put into them; --saliency classical "
            "makes masks",
            without,
        )
    logger.info("dataset in %s after %.0f s; look at %s", request.places.output, seconds, report)


if __name__ == "__main__":
    command.run(main, "the same command goes on where this run was; --overwrite would begin anew")
