"""The bundles that are compared: their names, and the ids of the defects that each knows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.contracts.label_map import LabelMap
from pipelines.evaluation.rows import Input
from pipelines.inference.bundles import read_bundle

FLAG = "--bundle"


@dataclass(frozen=True)
class Contestant:
    """A bundle without its weights. conditions: defect -> (group id, type id), by the bundle's own label map."""

    name: str
    uri: str
    version: str
    recipe: str
    image_size: int
    conditions: dict[str, tuple[int, int]]
    fit: str = "stretch"

    @property
    def input(self) -> Input:
        """Form in which the bundle takes images."""
        return Input(self.image_size, self.fit)


def read_contestants(uris: Sequence[str]) -> tuple[Contestant, ...]:
    """Read and verify every bundle. Raises ConfigurationError with --bundle and the remedy."""
    names = short_names(uris)
    return tuple(_contestant(name, uri) for name, uri in zip(names, uris, strict=True))


def short_names(uris: Sequence[str]) -> list[str]:
    """Return short names for tables and pictures: the name of the last folder, with those before it if names are
    equal otherwise.

    The last folder of a training's bundle, `bundle`, is left out: `runs/a/bundle` is `a`. Raises ConfigurationError
    if a bundle is given twice.
    """
    paths = [_parts(uri) for uri in uris]
    absolute = [storage.absolute(uri) for uri in uris]
    twice = [uri for uri, full in zip(uris, absolute, strict=True) if absolute.count(full) > 1]
    if twice:
        raise ConfigurationError(f"{FLAG} {twice[0]} is named twice; name each bundle once")
    lengths = [1] * len(paths)
    while True:
        names = ["/".join(path[-count:]) for path, count in zip(paths, lengths, strict=True)]
        counts = Counter(names)
        longer = [
            count + 1 if counts[name] > 1 and count < len(path) else count
            for name, path, count in zip(names, paths, lengths, strict=True)
        ]
        if longer == lengths:  # names may still be equal: the same path in two storages
            return [name if counts[name] == 1 else uri for name, uri in zip(names, uris, strict=True)]
        lengths = longer


def _parts(uri: str) -> list[str]:
    """Return the folders of `uri`, without `bundle` at its end."""
    parts = [part for part in storage.resolve(uri)[1].split("/") if part]
    kept = parts[:-1] if len(parts) > 1 and parts[-1] == "bundle" else parts
    return kept or [uri]


def _contestant(name: str, uri: str) -> Contestant:
    bundle = read_bundle(uri, FLAG)
    label_map = LabelMap.parse(bundle.label_map, f"{FLAG} {uri}: label_map.yaml")
    recipe = str(bundle.config.get("recipe", "unknown"))
    size = bundle.image_size
    return Contestant(name, uri, bundle.version, recipe, size, label_map.conditions, bundle.fit)
