"""A marketplace's rules for product photos, read from YAML; every key but the first five is optional.

version: 1
name: Amazon main image
source: https://…                       # the page that the figures are from
checked: 2026-11-22                     # when they were compared with it
formats: [jpeg, png]                    # accepted; the first is written unless --format names another of them
quality: 95                             # to begin with, of jpeg and webp, unless --quality is given
max_bytes: 12000000                     # quality is lowered for it, see `pipelines.correction.deliver`
max_pixels: 64000000
longest_side: {minimum: 500, recommended: 1600, maximum: 10000}   # any of the three
shortest_side: {recommended: 2000}
background: white
fill_share: {minimum: 0.85, maximum: 0.95}
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from yaml.nodes import Node

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.encode import EXTENSIONS
from pipelines.yaml_reader import YamlReader

_FLAG = "--profile"
_REQUIRED = ("version", "name", "source", "checked", "formats")
_SIDES = ("longest_side", "shortest_side")
_OPTIONAL = ("quality", "max_bytes", "max_pixels", *_SIDES, "background", "fill_share")


@dataclass(frozen=True)
class Bounds:
    """What a figure must be, and should be; None asks for nothing."""

    minimum: float | None = None
    recommended: float | None = None  # at least that much
    maximum: float | None = None


@dataclass(frozen=True)
class Profile:
    """A marketplace's rules; sides in pixels, shares in [0, 1]. None asks for nothing."""

    name: str
    source: str
    checked: str
    formats: tuple[str, ...]
    quality: int | None = None
    max_bytes: int | None = None
    max_pixels: int | None = None
    longest_side: Bounds = field(default_factory=Bounds)
    shortest_side: Bounds = field(default_factory=Bounds)
    white_background: bool = False
    fill_share: Bounds = field(default_factory=Bounds)


def profile_names() -> tuple[str, ...]:
    """The profiles that come along, by name."""
    files = resources.files("pipelines.profiles").iterdir()
    return tuple(sorted(file.name[: -len(".yaml")] for file in files if file.name.endswith(".yaml")))


def read_profile(name_or_uri: str) -> Profile:
    """The profile of that name (`profile_names`), or in the file at a URI. Raises ConfigurationError."""
    if name_or_uri in profile_names():
        data = resources.files("pipelines.profiles").joinpath(f"{name_or_uri}.yaml").read_bytes()
        return parse_profile(data, f"{_FLAG} {name_or_uri}")
    if not name_or_uri.endswith((".yaml", ".yml")):
        raise ConfigurationError(
            f"{_FLAG} {name_or_uri}: not one of {', '.join(profile_names())}; nor does it end in .yaml, as a file would"
        )
    storage.check_readable(name_or_uri, _FLAG)
    with storage.as_configuration_error(name_or_uri, _FLAG, "read"):
        data = storage.read_bytes(name_or_uri)
    return parse_profile(data, f"{_FLAG} {name_or_uri}")


def parse_profile(text: str | bytes, name: str) -> Profile:
    """A profile from YAML; `name` is how messages call it. Raises ConfigurationError with every complaint at once."""
    reader = YamlReader(name)
    top = reader.fields(reader.root(text), "", _REQUIRED, _OPTIONAL)
    if "version" in top and reader.integer(top["version"], "version") not in (None, 1):
        reader.complain(top["version"], "version", "this release reads version 1 only")

    def written(key: str) -> str:
        return (reader.text(top[key], key) if key in top else None) or ""

    def whole(key: str) -> int | None:
        return reader.integer(top[key], key, minimum=1) if key in top else None

    profile = Profile(
        name=written("name"),
        source=written("source"),
        checked=str(top["checked"].value) if "checked" in top else "",  # YAML takes a date for a date
        formats=_formats(reader, top.get("formats")),
        quality=whole("quality"),
        max_bytes=whole("max_bytes"),
        max_pixels=whole("max_pixels"),
        **{side: _bounds(reader, top.get(side), side, 1e6) for side in _SIDES},
        white_background=_background(reader, top.get("background")),
        fill_share=_bounds(reader, top.get("fill_share"), "fill_share", 1.0),
    )
    if profile.quality is not None and profile.quality > 100:
        reader.complain(top["quality"], "quality", "must be at most 100")
    reader.finish()
    return profile


def _formats(reader: YamlReader, node: Node | None) -> tuple[str, ...]:
    if node is None:
        return ()
    found = []
    for index, item in enumerate(reader.items(node, "formats", empty="must name at least one format")):
        name = reader.text(item, f"formats[{index}]")
        if name is not None and name not in EXTENSIONS:
            reader.complain(
                item,
                f"formats[{index}]",
                f"{name!r} is not one of {', '.join(EXTENSIONS)}, which are written",
            )
        elif name is not None:
            found.append(name)
    return tuple(found)


def _bounds(reader: YamlReader, node: Node | None, key: str, most: float) -> Bounds:
    if node is None:
        return Bounds()
    fields: Mapping[str, Any] = reader.fields(node, key, (), ("minimum", "recommended", "maximum"))
    found = {name: reader.number(value, f"{key}.{name}", 0, most) for name, value in fields.items()}
    ordered = (found.get(name) for name in ("minimum", "recommended", "maximum"))
    given = [value for value in ordered if value is not None]
    if given != sorted(given):
        reader.complain(node, key, "must not fall from minimum to recommended to maximum")
    return Bounds(**found)


def _background(reader: YamlReader, node: Node | None) -> bool:
    if node is None:
        return False
    if reader.text(node, "background") not in (None, "white"):
        reader.complain(node, "background", "must be white; leave it out where anything goes")
    return True
