"""Reads a marketplace's rules for product photos from YAML. Every key but the first five is optional.

version: 1
name: Amazon main image
source: https://…                       # the page with these figures
checked: 2026-11-22                     # when they were last compared with it
formats: [jpeg, png]                    # accepted; the first is written unless --format names another of them
quality: 95                             # initial quality of jpeg and webp, unless --quality is given
max_bytes: 12000000                     # quality is lowered to meet it, see `pipelines.correction.deliver.deliver`
max_pixels: 64000000
longest_side: {minimum: 500, recommended: 1600, maximum: 10000}   # any of the three
shortest_side: {recommended: 2000}
background: white
fill_share: {minimum: 0.85, maximum: 0.95}
"""

from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.contracts.yaml_reader import Number, Share, StrictModel, Text, VersionedFile, Whole, YamlFile
from pipelines.images.encode import EXTENSIONS

_FLAG = "--profile"


@dataclass(frozen=True)
class Bounds:
    """Hold required and recommended bounds of a figure; None means no bound."""

    minimum: float | None = None
    recommended: float | None = None  # at least this much
    maximum: float | None = None


@dataclass(frozen=True)
class Profile:
    """Hold a marketplace's rules; sides in pixels, shares in [0, 1]. None means no rule."""

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

    def decides(self) -> dict[str, Any]:
        """Return the rules that decide a result as JSON values, without name, source and date."""
        about = ("name", "source", "checked")
        return {key: value for key, value in asdict(self).items() if key not in about}


def profile_names() -> tuple[str, ...]:
    """Return the names of the built-in profiles."""
    files = resources.files("pipelines.contracts.profiles").iterdir()
    return tuple(sorted(file.name[: -len(".yaml")] for file in files if file.name.endswith(".yaml")))


def read_profile(name_or_uri: str) -> Profile:
    """Return the built-in profile of that name (`profile_names`), or the one at a URI. Raises ConfigurationError."""
    if name_or_uri in profile_names():
        data = resources.files("pipelines.contracts.profiles").joinpath(f"{name_or_uri}.yaml").read_bytes()
        return parse_profile(data, f"{_FLAG} {name_or_uri}")
    if not name_or_uri.endswith((".yaml", ".yml")):
        raise ConfigurationError(
            f"{_FLAG} {name_or_uri}: not one of {', '.join(profile_names())}, and a file's name must end in .yaml"
        )
    storage.check_readable(name_or_uri, _FLAG)
    with storage.as_configuration_error(name_or_uri, _FLAG, "read"):
        data = storage.read_bytes(name_or_uri)
    return parse_profile(data, f"{_FLAG} {name_or_uri}")


def parse_profile(text: str | bytes, name: str) -> Profile:
    """Parse a profile from YAML. name: its name in messages. Raises ConfigurationError with all mistakes at once."""
    file = YamlFile(text, name).parse(_File)
    figures = file.model_dump(
        exclude={"version", "background", "longest_side", "shortest_side", "fill_share"}
    )
    return Profile(
        **figures,
        longest_side=Bounds(**file.longest_side.model_dump()),
        shortest_side=Bounds(**file.shortest_side.model_dump()),
        white_background=file.background is not None,
        fill_share=Bounds(**file.fill_share.model_dump()),
    )


def _check_format(name: str) -> str:
    if name not in EXTENSIONS:
        raise ValueError(f"{name!r} is not one of {', '.join(EXTENSIONS)}, the formats that can be written")
    return name


_Figure = TypeVar("_Figure")


class _Bounds(StrictModel, Generic[_Figure]):
    minimum: _Figure | None = None
    recommended: _Figure | None = None
    maximum: _Figure | None = None

    @model_validator(mode="after")
    def _check_order(self) -> "_Bounds[_Figure]":
        given: list[Any] = [one for one in (self.minimum, self.recommended, self.maximum) if one is not None]
        if given != sorted(given):
            raise ValueError("must not decrease from minimum to recommended to maximum")
        return self


_Count = Annotated[Whole, Field(ge=1)]
_Side = _Bounds[Annotated[Number, Field(ge=0, le=1e6)]]


class _File(VersionedFile):
    name: Text
    source: Text
    checked: Text
    formats: Annotated[tuple[Annotated[Text, AfterValidator(_check_format)], ...], Field(min_length=1)]
    quality: Annotated[_Count, Field(le=100)] | None = None
    max_bytes: _Count | None = None
    max_pixels: _Count | None = None
    longest_side: _Side = _Side()
    shortest_side: _Side = _Side()
    background: Literal["white"] | None = None
    fill_share: _Bounds[Share] = _Bounds[Share]()
