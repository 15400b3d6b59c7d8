"""The command line of jobs/prepare_dataset.py, and what it resolves to."""

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jobs import command
from model.errors import ConfigurationError
from pipelines import storage
from pipelines.dataset.output import Places
from pipelines.dataset.rows import RowSettings
from pipelines.dataset.sources import Sources, open_sources
from pipelines.dataset.unit import HELD_BACK
from pipelines.defects import known_syntheses
from pipelines.label_map import LabelMap
from pipelines.saliency.load import CLASSICAL, is_network

MEGABYTE = 10**6


def parser(description: str | None) -> argparse.ArgumentParser:
    """The command line."""
    p = command.Parser("prepare_dataset.py", description=description, formatter_class=command.HelpFormatter)
    inputs = p.add_argument_group("what to prepare (one of them at least)")
    inputs.add_argument(
        "--photos",
        nargs="+",
        action="extend",
        default=[],
        type=command.location,
        metavar="URI",
        help="tables of photos (parquet, CSV), or folders of tables or images",
    )
    inputs.add_argument(
        "--benchmark", metavar="NAME", help="a public benchmark below --root: paired4, unpaired4, …"
    )
    inputs.add_argument(
        "--root",
        type=command.location,
        metavar="URI",
        help="folder of the benchmark's datasets, in their official layouts",
    )
    inputs.add_argument(
        "--sources",
        type=command.location,
        metavar="FILE",
        help="YAML file that names any mix of readers",
    )
    p.add_argument(
        "--output",
        required=True,
        type=command.destination,
        metavar="URI",
        help="folder for shards/, label_map.yaml, report/ and dataset.json",
    )
    p.add_argument(
        "--label-map",
        type=command.location,
        metavar="URI",
        help="YAML with the defects and their groups (default: the benchmark's, else the built-in three)",
    )
    p.add_argument(
        "--synthesis",
        action="append",
        default=[],
        metavar="DEFECT=NAME",
        help="make DEFECT by another synthesis than that of its own name (default: its own, where there is one)",
    )
    p.add_argument(
        "--draws",
        type=command.not_negative,
        default=0,
        metavar="N",
        help="write N fixed pairs per training image and defect; 0 lets training make them anew in every epoch. The "
        "test split's pairs are fixed either way",
    )
    p.add_argument("--seed", type=int, default=0, help="of marks, turns, …; the split does not depend on it")
    p.add_argument(
        "--max-side",
        type=int,
        default=384,
        help="longest side of stored images in pixels; raise it to train above 256",
    )
    p.add_argument(
        "--min-quality", type=float, default=0.6, help="masks scored below make no target (0 to 1)"
    )
    p.add_argument(
        "--saliency",
        type=command.location_unless(lambda text: not is_network(text)),
        metavar="NAME|URI",
        help="masks for photos that have none: 'classical', or a network (.onnx, or TorchScript .pt)",
    )
    p.add_argument(
        "--saliency-device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where the network runs; auto takes GPUs where the cluster has them",
    )
    p.add_argument(
        "--gpus-per-actor",
        type=float,
        metavar="F",
        help="share of a GPU of each process with the network (default: 0.25)",
    )
    p.add_argument(
        "--shard-size",
        type=command.positive,
        default=256,
        metavar="MB",
        help="size of a shard at most; smaller where there would be fewer than 64, which is how the work is shared",
    )
    p.add_argument("--limit", type=command.positive, metavar="N", help="only the first N images, for a try")
    p.add_argument(
        "--test-catalog",
        type=command.destination,
        metavar="URI",
        help="also write the held-back images, each with one of its defects, as URI/catalog, and others as "
        "URI/reference, for jobs/correct_catalog.py",
    )
    p.add_argument(
        "--test-limit",
        type=command.positive,
        metavar="N",
        help="at most N images in the test catalog, chosen by hash",
    )
    existing = p.add_mutually_exclusive_group()
    existing.add_argument(
        "--append", action="store_true", help="add what is new to the dataset that is finished in the folder"
    )
    existing.add_argument(
        "--overwrite", action="store_true", help="replace what earlier runs wrote to the same folders"
    )
    command.add_break_lock(p)
    p.add_argument(
        "--dry-run", action="store_true", help="print the resolved configuration and the plan, and do nothing"
    )
    return p


@dataclass(frozen=True)
class Request:
    """The command line, resolved. identity: the flags that decide what comes out."""

    arguments: argparse.Namespace
    sources: Sources
    label_map: LabelMap
    label_map_text: str
    settings: RowSettings
    places: Places
    test_catalog: str | None
    saliency: str | None
    identity: dict[str, Any]

    @property
    def held_back(self) -> list[str]:
        """Folders of the test catalog; none where it is not wanted."""
        return [storage.join(self.test_catalog, name) for name in HELD_BACK] if self.test_catalog else []

    @property
    def shared(self) -> list[str]:
        """What workers read and write, as far as flags name it."""
        given = (*self.identity["--photos"], self.arguments.root, self.test_catalog, self.saliency)
        return [uri for uri in (*given, self.places.output) if uri and uri != CLASSICAL]

    @property
    def owned(self) -> list[str]:
        """What the job writes."""
        return [*self.places.owned, *self.held_back]


def resolve(arguments: argparse.Namespace) -> Request:
    """Check the flags against one another and open the sources. Raises ConfigurationError."""
    if arguments.test_limit and not arguments.test_catalog:
        raise ConfigurationError("--test-limit needs --test-catalog URI")
    if bool(arguments.benchmark) != bool(arguments.root):
        raise ConfigurationError("--benchmark NAME and --root URI go together")
    _check_gpus(arguments.saliency, arguments.saliency_device, arguments.gpus_per_actor)
    if not (arguments.photos or arguments.benchmark or arguments.sources):
        raise ConfigurationError("nothing to prepare: give --photos, --benchmark with --root, or --sources")
    given_map = _read_label_map(arguments.label_map) if arguments.label_map else None
    photos = [storage.absolute(uri) for uri in arguments.photos]
    benchmark = (arguments.benchmark, storage.absolute(arguments.root)) if arguments.benchmark else None
    places = Places(storage.absolute(arguments.output))
    test_catalog = storage.absolute(arguments.test_catalog) if arguments.test_catalog else None
    given = {"--photos": photos, "--root": [benchmark[1]] if benchmark else []}
    _check_apart(given, [places.output, *([test_catalog] if test_catalog else [])], places.owned)
    if test_catalog and _lies_in(test_catalog, places.owned):
        raise ConfigurationError(
            f"--test-catalog {test_catalog} lies among the training data; choose a folder outside"
        )
    sources = open_sources(photos, benchmark, arguments.sources)
    if given_map is not None:
        label_map, text = given_map
        decides = text
    else:
        label_map = sources.label_map or LabelMap.default()
        text = label_map.to_yaml()
        # No row depends on cycle_groups, and datasets of earlier versions, whose map lacked them, may be added to.
        decides = replace(label_map, cycle_groups=None).to_yaml()
    sources.check_defects(label_map.defects)
    saliency = arguments.saliency
    if saliency is not None and is_network(saliency):
        saliency = storage.absolute(saliency)
    settings = RowSettings(
        groups={name: defect.group for name, defect in label_map.defects.items()},
        syntheses=_syntheses(arguments.synthesis, label_map),
        seed=arguments.seed,
        draws=arguments.draws,
        max_side=arguments.max_side,
        min_quality=arguments.min_quality,
    )
    identity = {
        "--photos": photos,
        "--benchmark": list(benchmark) if benchmark else None,
        "--sources": _digest(_read(arguments.sources, "--sources")) if arguments.sources else None,
        "--limit": arguments.limit,
        "--test-catalog": test_catalog,
        "--test-limit": arguments.test_limit,
        "--shard-size": arguments.shard_size,
        "--label-map": _digest(decides.encode()),
        "--synthesis": dict(settings.syntheses),
        "--seed": settings.seed,
        "--draws": settings.draws,
        "--max-side": settings.max_side,
        "--min-quality": settings.min_quality,
        "--saliency": saliency,
    }
    return Request(arguments, sources, label_map, text, settings, places, test_catalog, saliency, identity)


def _syntheses(asked: Sequence[str], label_map: LabelMap) -> dict[str, str]:
    """Which synthesis makes which defect: the one of its own name where there is one, and as asked."""
    known = known_syntheses()
    found = {name: name for name in label_map.defects if name in known}
    for text in asked:
        defect, equals, name = text.partition("=")
        if not (defect and equals and name):
            raise ConfigurationError(
                f"--synthesis {text}: write DEFECT=NAME, with a NAME of {', '.join(known)}"
            )
        found[defect] = name
    return found


def _check_gpus(saliency: str | None, device: str, share: float | None) -> None:
    """Raise ConfigurationError for a share of GPUs that no process can have, or that contradicts the other flags."""
    if share is None:
        return
    if not (0 < share <= 1 or (share > 1 and share.is_integer())):
        raise ConfigurationError(f"--gpus-per-actor {share:g}: above 0 and up to 1, or whole")
    if saliency is None or device == "cpu":
        raise ConfigurationError(
            "--gpus-per-actor asks for GPUs for a saliency network: give --saliency, without --saliency-device cpu"
        )


def _check_apart(given: dict[str, list[str]], outputs: Sequence[str], owned: Sequence[str]) -> None:
    """Raise ConfigurationError where an output would take an input's place, or a later run read its own shards."""
    for flag, uris in given.items():
        for uri in uris:
            if _lies_in(uri, owned) or any(_lies_in(place, [uri]) for place in outputs):
                raise ConfigurationError(f"{flag}: {uri} lies where this job writes; choose another --output")


def _lies_in(uri: str, places: Sequence[str]) -> bool:
    """Whether `uri` is one of `places` or below one."""
    path = storage.resolve(uri)[1]
    return any(f"{path}/".startswith(f"{storage.resolve(place)[1]}/") for place in places)


def _read_label_map(uri: str) -> tuple[LabelMap, str]:
    text = _read(uri, "--label-map").decode(errors="replace")
    return LabelMap.parse(text, uri), text


def _read(uri: str, flag: str) -> bytes:
    try:
        return storage.read_bytes(uri)
    except storage.STORAGE_ERRORS as error:
        raise ConfigurationError(f"{flag}: cannot read {uri}: {error}") from error


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()[:16]}"
