"""A preparation's settings, and the request that they resolve to before anything is listed."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

from model.config import require
from model.errors import ConfigurationError
from pipelines import storage
from pipelines.contracts.label_map import LabelMap
from pipelines.preparation.entries import Entry
from pipelines.preparation.output import Layout, Start
from pipelines.preparation.plan.plan import Plan
from pipelines.preparation.readers.sources import Sources, open_sources
from pipelines.preparation.unit.rows import RowSettings
from pipelines.preparation.unit.unit import Work
from pipelines.saliency.load import CLASSICAL, is_network
from pipelines.storage.outputs import lies_in
from pipelines.synthesis.defects import known_syntheses

MEGABYTE = 10**6


@dataclass(frozen=True)
class PreparationConfig:
    """What jobs/prepare_dataset.py prepares, and how: a field for each of these flags, whose help describes them."""

    output: str
    photos: Sequence[str] = ()
    benchmark: str | None = None
    root: str | None = None
    sources: str | None = None
    label_map: str | None = None
    synthesis: Sequence[str] = ()
    draws: int = RowSettings.draws
    seed: int = RowSettings.seed
    max_side: int = RowSettings.max_side
    min_quality: float = RowSettings.min_quality
    saliency: str | None = None
    saliency_device: str = "auto"
    gpus_per_actor: float | None = None
    shard_size: int = 256  # megabytes
    limit: int | None = None
    test_catalog: str | None = None
    test_limit: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Raise ConfigurationError for flags that contradict one another."""
        require(bool(self.test_catalog) or not self.test_limit, "--test-limit needs --test-catalog URI")
        require(bool(self.benchmark) == bool(self.root), "--benchmark NAME and --root URI go together")
        _check_gpus(self.saliency, self.saliency_device, self.gpus_per_actor)
        require(
            bool(self.photos or self.benchmark or self.sources),
            "nothing to prepare: give --photos, --benchmark with --root, or --sources",
        )


@dataclass(frozen=True)
class Request:
    """A preparation, resolved. identity: the flags that decide the output."""

    config: PreparationConfig
    sources: Sources
    label_map: LabelMap
    settings: RowSettings
    identity: Mapping[str, Any]

    @property
    def layout(self) -> Layout:
        """The URIs of the outputs."""
        return Layout(self.config.output, self.config.test_catalog)

    @property
    def shared(self) -> list[str]:
        """The URIs in flags that workers read and write."""
        config = self.config
        given = (*config.photos, config.root, config.test_catalog, config.saliency, config.output)
        return [uri for uri in given if uri and uri != CLASSICAL]

    def entries(self) -> Iterator[Entry]:
        """Yield the entries to prepare, up to --limit."""
        return islice(self.sources.entries(), self.config.limit)

    def work(self, plan: Plan, device: str = "cpu") -> Work:
        """Return what workers need. device: of the saliency network."""
        layout, config = self.layout, self.config
        return Work(
            plan,
            self.settings,
            layout.plan,
            layout.done,
            layout.shards,
            config.shard_size * MEGABYTE,
            config.test_catalog,
            config.saliency,
            device,
        )

    def preview(self, start: Start) -> dict[str, Any]:
        """Return the resolved configuration and the plan of the run."""
        defects, made = self.label_map.defects, self.settings.made
        built_in = "benchmark's" if self.sources.label_map else "built-in"
        return {
            **asdict(self.config),
            "label_map": self.config.label_map or built_in,
            "plan": {
                "run": start.mode,
                "sources": self.sources.describe(),
                "cycle_groups": self.label_map.cycle_groups,
                "defects": list(made),
                "defects_without_synthesis": [name for name in defects if name not in made],
                "syntheses": dict(self.settings.syntheses),
                "replaces": list(start.replaces),
            },
        }


def resolve(given: PreparationConfig) -> Request:
    """Check the flags against the sources and the outputs. Raises ConfigurationError; writes nothing."""
    config = _with_absolute_uris(given)
    given_map = None if config.label_map is None else LabelMap.read(config.label_map)
    _check_apart(config)
    benchmark = (config.benchmark, config.root) if config.benchmark and config.root else None
    sources = open_sources(config.photos, benchmark, config.sources)
    label_map = given_map or sources.label_map or LabelMap.default()
    sources.check_defects(label_map.defects)
    settings = RowSettings(
        groups={name: defect.group for name, defect in label_map.defects.items()},
        syntheses=_syntheses(config.synthesis, label_map),
        seed=config.seed,
        draws=config.draws,
        max_side=config.max_side,
        min_quality=config.min_quality,
    )
    return Request(config, sources, label_map, settings, _identity(config, label_map, settings))


def _with_absolute_uris(config: PreparationConfig) -> PreparationConfig:
    saliency = config.saliency
    return replace(
        config,
        output=storage.absolute(config.output),
        photos=[storage.absolute(uri) for uri in config.photos],
        root=storage.absolute(config.root) if config.root else None,
        test_catalog=storage.absolute(config.test_catalog) if config.test_catalog else None,
        saliency=storage.absolute(saliency) if saliency is not None and is_network(saliency) else saliency,
    )


def _identity(config: PreparationConfig, label_map: LabelMap, settings: RowSettings) -> dict[str, Any]:
    """Return the flags that decide the output; to continue a run they must be the same."""
    return {
        "--photos": config.photos,
        "--benchmark": [config.benchmark, config.root] if config.benchmark else None,
        "--sources": _digest_of_sources(config.sources) if config.sources else None,
        "--limit": config.limit,
        "--test-catalog": config.test_catalog,
        "--test-limit": config.test_limit,
        "--shard-size": config.shard_size,
        "--label-map": _digest(label_map.to_yaml().encode()),
        "--synthesis": dict(settings.syntheses),
        "--seed": settings.seed,
        "--draws": settings.draws,
        "--max-side": settings.max_side,
        "--min-quality": settings.min_quality,
        "--saliency": config.saliency,
    }


def _syntheses(asked: Sequence[str], label_map: LabelMap) -> dict[str, str]:
    """Return the synthesis of each defect: the one of its own name if it exists, unless another is asked for."""
    known = known_syntheses()
    syntheses = {name: name for name in label_map.defects if name in known}
    for text in asked:
        defect, _, name = text.partition("=")
        if not (defect and name):
            raise ConfigurationError(
                f"--synthesis {text}: write DEFECT=NAME, with a NAME of {', '.join(known)}"
            )
        syntheses[defect] = name
    return syntheses


def _check_gpus(saliency: str | None, device: str, share: float | None) -> None:
    """Raise ConfigurationError for an impossible share of GPUs, or one that contradicts the other flags."""
    if share is None:
        return
    if not (0 < share <= 1 or (share > 1 and share.is_integer())):
        raise ConfigurationError(f"--gpus-per-actor {share:g}: above 0 and up to 1, or whole")
    if saliency is None or device == "cpu":
        raise ConfigurationError(
            "--gpus-per-actor asks for GPUs for a saliency network: give --saliency, without --device cpu"
        )


def _check_apart(config: PreparationConfig) -> None:
    """Raise ConfigurationError if an output would overwrite an input, or a later run would read its own shards."""
    owned = Layout(config.output, config.test_catalog).owned
    outputs = [uri for uri in (config.output, config.test_catalog) if uri]
    for flag, uris in {"--photos": config.photos, "--root": [config.root] if config.root else []}.items():
        for uri in uris:
            if lies_in(uri, owned) or any(lies_in(output, [uri]) for output in outputs):
                raise ConfigurationError(f"{flag}: {uri} lies where this job writes; choose another --output")
    if config.test_catalog and lies_in(config.test_catalog, Layout(config.output).owned):
        raise ConfigurationError(
            f"--test-catalog {config.test_catalog} lies among the training data; choose a folder outside"
        )


def _digest_of_sources(uri: str) -> str:
    with storage.as_configuration_error(uri, "--sources", "read"):
        return _digest(storage.read_bytes(uri))


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()[:16]}"
