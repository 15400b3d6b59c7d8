"""Which bundle corrects an image: the current one or, for a share of the catalog, one that is on trial (the canary)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.contracts.hashing import in_share


@dataclass(frozen=True)
class Model:
    """A bundle as the tasks of a run need it; small, because it travels with them.

    uri: None for the starter. flag: of the command line. version: of the bundle's contents. image_size, fit: of the
    generator's input (see `pipelines.images.fit`). config_hash: of all else that decides an output's bytes.
    """

    uri: str | None
    flag: str
    version: str
    image_size: int
    fit: str
    config_hash: str


@dataclass(frozen=True)
class Models:
    """The bundles of a run. output: URI of the folder of all outputs. share: of the ids that the canary corrects.

    The canary's rows are equal to those of a run that corrects everything with it, so that it can become the current
    bundle without correcting them again. A larger share has all ids of a smaller one.
    """

    output: str
    current: Model
    canary: Model | None = None
    share: float = 0.0

    def __iter__(self) -> Iterator[Model]:
        yield self.current
        if self.canary is not None:
            yield self.canary

    def in_canary(self, image_id: str) -> bool:
        """Return whether the canary corrects an image, by a hash of its id."""
        return self.canary is not None and in_share(self.share, "canary", image_id)

    def of(self, image_id: str) -> Model:
        """Return the bundle that corrects an image."""
        return self.canary if self.canary is not None and self.in_canary(image_id) else self.current

    def is_compared(self, row: Mapping[str, Any]) -> bool:
        """Return whether the current bundle corrects an image of the canary, too. row: `image_id`, `defects`, `sampled`
        and `in_strip` are used.
        """
        shown = bool(row["defects"]) and bool(row["sampled"] or row["in_strip"])
        return shown and self.in_canary(row["image_id"])

    def identity(self, model: Model) -> str:
        """Return what decides a manifest row besides the catalog's row: model, configuration and output."""
        return " ".join((model.version, model.config_hash, self.output))
