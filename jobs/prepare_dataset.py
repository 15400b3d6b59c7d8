"""Turn tables of product photos with foreground masks into training shards.

Every photo with a good mask gives three pairs: non_white_background (the photo, and the product on white),
watermark (the product on white with a mark, and without) and wrong_angle (turned, and upright). Photos
without a mask, or with one of low quality, give the photo alone, for unpaired training. One photo in five, by
hash of its id, is kept for tests.

    python jobs/prepare_dataset.py --photos photos.parquet --output shards
    python jobs/prepare_dataset.py --photos s3://shop/photos --output s3://shop/train \\
        --test-catalog s3://shop/held-back

A table of photos is parquet with image_id and image (encoded bytes), and optionally mask (8-bit grey PNG of
the photo's size, 255 is product) and product_type. Writes OUTPUT/shards/*.parquet, OUTPUT/label_map.yaml and,
last, OUTPUT/dataset.json: counts, a fingerprint, and which photos cannot be read.
Exit codes: 0 done, 2 wrong command line or input.
"""

import argparse
import hashlib
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from jobs import command
from model.errors import ConfigurationError
from pipelines import ray_session, storage
from pipelines.dataset.job import Outputs, Totals, last_catalog_hash, list_photos, prepare
from pipelines.dataset.photos import DEFECTS, PhotoSettings
from pipelines.label_map import LabelMap
from pipelines.progress import Progress

logger = logging.getLogger("jobs.prepare_dataset")

SHARDS, LABEL_MAP, SUMMARY = "shards", "label_map.yaml", "dataset.json"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = command.Parser("prepare_dataset.py", description=__doc__, formatter_class=command.HelpFormatter)
    p.add_argument(
        "--photos",
        nargs="+",
        action="extend",
        required=True,
        metavar="URI",
        help="parquet tables of photos: files or folders",
    )
    p.add_argument(
        "--output", required=True, metavar="URI", help="folder for shards/, label_map.yaml and dataset.json"
    )
    p.add_argument(
        "--label-map",
        metavar="URI",
        help="YAML with the groups of the defects; only its defects are made (default: the built-in three)",
    )
    p.add_argument("--seed", type=int, default=0, help="of marks and turns; the split does not depend on it")
    p.add_argument(
        "--max-side",
        type=int,
        default=384,
        help="longest side of stored images in pixels; raise it to train above 256",
    )
    p.add_argument(
        "--min-quality", type=float, default=0.6, help="masks scored below make no target (0 to 1)"
    )
    p.add_argument("--limit", type=command.positive, metavar="N", help="only the first N photos, for a try")
    p.add_argument(
        "--test-catalog",
        metavar="URI",
        help="also write the held-back photos as URI/catalog and URI/reference, for jobs/correct_catalog.py",
    )
    p.add_argument(
        "--test-limit",
        type=command.positive,
        metavar="N",
        help="at most N photos in the test catalog, chosen by hash",
    )
    p.add_argument(
        "--overwrite", action="store_true", help="replace what an earlier run wrote to the same folders"
    )
    p.add_argument(
        "--dry-run", action="store_true", help="print the resolved configuration and the plan, and do nothing"
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare a dataset; returns the exit code. Raises CatalogRepairError for what the caller must change."""
    started = time.monotonic()
    arguments = parser().parse_args(argv)
    if arguments.test_limit and not arguments.test_catalog:
        raise ConfigurationError("--test-limit needs --test-catalog URI")
    label_map, label_map_text = _label_map(arguments.label_map)
    settings = PhotoSettings(
        groups={name: defect.group for name, defect in label_map.defects.items() if name in DEFECTS},
        seed=arguments.seed,
        max_side=arguments.max_side,
        min_quality=arguments.min_quality,
    )
    listing = list_photos([storage.absolute(uri) for uri in arguments.photos], arguments.limit)
    owned = _owned(arguments.output, arguments.test_catalog)
    _check_apart([unit.uri for unit in listing.units], owned)
    occupied = [uri for uri in owned if _is_occupied(uri)]
    configuration = {
        "photos": arguments.photos,
        "output": arguments.output,
        "test_catalog": arguments.test_catalog,
        "test_limit": arguments.test_limit,
        "limit": arguments.limit,
        "label_map": arguments.label_map or "built-in",
        "settings": asdict(settings),
        "plan": {
            "photos": listing.rows,
            "tasks": len(listing.units),
            "defects": [name for name in DEFECTS if name in settings.groups],
            "defects_without_material": [name for name in label_map.defects if name not in DEFECTS],
            "replaces": occupied,
        },
    }
    command.show_configuration(configuration)
    if occupied and not arguments.overwrite:
        raise ConfigurationError(
            f"{', '.join(occupied)} exists; choose another --output (--test-catalog) or add --overwrite"
        )
    if arguments.dry_run:
        return command.EXIT_OK
    storage.check_writable(arguments.output, "--output")
    if arguments.test_catalog:
        storage.check_writable(arguments.test_catalog, "--test-catalog")
    ray_session.start()
    outputs = Outputs(
        shards=storage.join(storage.absolute(arguments.output), SHARDS),
        test_catalog=arguments.test_catalog and storage.absolute(arguments.test_catalog),
        last_hash=last_catalog_hash(listing.units, arguments.test_limit) if arguments.test_limit else None,
    )
    _remove(occupied)  # last, so that nothing above can cost the earlier dataset
    with Progress("prepare", listing.rows, sys.stderr) as progress:
        totals = prepare(listing, settings, outputs, progress)
    _finish(arguments.output, label_map_text, configuration, totals, time.monotonic() - started)
    return command.EXIT_OK


def _label_map(uri: str | None) -> tuple[LabelMap, str]:
    """The label map and its text."""
    if uri is None:
        return LabelMap.default(), LabelMap.default().to_yaml()
    try:
        text = storage.read_bytes(uri).decode(errors="replace")
    except storage.STORAGE_ERRORS as error:
        raise ConfigurationError(f"--label-map: cannot read {uri}: {error}") from error
    return LabelMap.parse(text, uri), text


def _owned(output: str, test_catalog: str | None) -> list[str]:
    """What this job writes, and so what --overwrite removes: nothing else in the folders is touched."""
    owned = [storage.join(output, name) for name in (SUMMARY, LABEL_MAP, SHARDS)]
    if test_catalog:
        owned += [storage.join(test_catalog, name) for name in ("catalog", "reference")]
    return owned


def _check_apart(inputs: Sequence[str], owned: Sequence[str]) -> None:
    """Raise ConfigurationError where an output would take an input's place: --overwrite removes it first."""
    folders = [f"{storage.resolve(uri)[1]}/" for uri in owned]
    for uri in inputs:
        path = storage.resolve(uri)[1]
        if any(path.startswith(folder) for folder in folders):
            raise ConfigurationError(f"--photos: {uri} lies where this job writes; choose another --output")


def _is_occupied(uri: str) -> bool:
    with storage.as_configuration_error(uri, "--output", "read"):
        return bool(storage.list_files(uri))


def _remove(uris: Sequence[str]) -> None:
    for uri in uris:
        with storage.as_configuration_error(uri, "--overwrite", "replace"):
            storage.remove(uri)


def _finish(
    output: str, label_map: str, configuration: dict[str, Any], totals: Totals, seconds: float
) -> None:
    """Write label_map.yaml and, last, dataset.json. Raises ConfigurationError where no photo was read."""
    fingerprint = hashlib.sha256(f"{totals.fingerprint:064x}\n{label_map}".encode()).hexdigest()
    summary = {
        "fingerprint": fingerprint,
        "counts": _nested(totals),
        "unreadable": [
            dict(zip(("image_id", "code", "message"), item, strict=True)) for item in totals.unreadable
        ],
        "configuration": configuration,
        "seconds": round(seconds, 1),
    }
    text = json.dumps(summary, indent=2, sort_keys=True) + "\n"
    with storage.as_configuration_error(output, "--output", "write"):
        storage.write_bytes(storage.join(output, LABEL_MAP), label_map.encode())
        storage.write_bytes(storage.join(output, SUMMARY), text.encode())
    logger.info("%s", json.dumps(summary["counts"], sort_keys=True))
    if not totals.counts["photos/read"]:
        raise ConfigurationError(
            f"--photos: none of {totals.counts['photos/unreadable']} photos could be read, one because: "
            f"{totals.unreadable[0][2]}; see {SUMMARY} in {output} and check the column image"
        )
    logger.info("dataset %s in %s after %.0f s", fingerprint[:12], output, seconds)


def _nested(totals: Totals) -> dict[str, Any]:
    """The flat counts as a tree, and the training rows by each of their keys."""
    counts: dict[str, Any] = {}
    for key, n in sorted(totals.counts.items()):
        kind, *keys = key.split("/")
        if kind != "rows":
            counts.setdefault(kind, {})["/".join(keys)] = n
            continue
        rows = counts.setdefault(
            "rows", {name: {} for name in ("defect", "pairing", "split", "product_type", "by_task")}
        )
        defect, pairing, split, product_type = keys
        for name, value in zip(
            rows, (defect, pairing, split, product_type, f"{defect}/{pairing}/{split}"), strict=True
        ):
            rows[name][value] = rows[name].get(value, 0) + n
    return counts


if __name__ == "__main__":
    command.run(main)
