"""Looks whether images that the last manifest names are still there: a sample of them, another one in every run.

A run asks the storage about new uploads only, so it would never notice that somebody has deleted corrected images. One
request for each would take hours where there are millions. With 200, a loss of one image in a hundred is found with a
probability of 87% in each run, and one of a single image hardly ever.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipelines import storage
from pipelines.cluster.ahead import map_ahead
from pipelines.contracts.hashing import hash_number
from pipelines.published.parts import read_part
from pipelines.storage.parquet_units import StorageReadError, count_rows

logger = logging.getLogger(__name__)

#: So many images or more are drawn from a part of the manifest that has them; its 100,000 URIs take a second to read.
_OF_A_PART = 20
#: Missing images, and parts that name them, which a record lists.
_LISTED = 10


@dataclass(frozen=True)
class ImageCheck:
    """What a run found of its sample of earlier images.

    checked: images that were looked for. missing: those of them that are gone. examples: URIs of some of these. parts:
    the manifest's files that name them, at most _LISTED.
    """

    checked: int
    missing: int = 0
    examples: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Return this for the run's record."""
        return asdict(self)


def check_images(manifest: Sequence[str], most: int, run: str) -> ImageCheck | None:
    """Look for up to `most` images that the manifest names.

    manifest: URIs of its parts. run: the run's name, which decides about the sample. None if there is nothing to look
    for. A storage that fails costs the check, not the run, and is logged.
    """
    if not most or not manifest:
        return None
    missing: dict[str, list[str]] = {}
    checked = 0
    try:
        for (part, uri), is_there in map_ahead(
            lambda one: storage.exists(one[1]), _sample(manifest, most, run)
        ):
            checked += 1
            if not is_there:
                missing.setdefault(part, []).append(uri)
    except (StorageReadError, *storage.STORAGE_ERRORS) as error:  # type: ignore[misc] # a tuple of classes
        logger.warning("after %d of the manifest's images, the storage gave no answer: %s", checked, error)
    uris = [uri for one in missing.values() for uri in one]
    check = ImageCheck(checked, len(uris), tuple(uris[:_LISTED]), tuple([*missing][:_LISTED]))
    return check if checked else None


def alerts(record: dict[str, Any]) -> list[str]:
    """Return a sentence if a run's record says that images are gone."""
    found = record.get("images_check")
    if not found or not found["missing"]:
        return []
    return [
        f"{found['missing']} of {found['checked']} images that were looked for are gone, such as "
        f"{found['examples'][0]}; restore them, or delete the files of the manifest that name them (images_check.parts "
        "in the run's record) and run again, which corrects the rows of these files again"
    ]


def _sample(manifest: Sequence[str], most: int, run: str) -> Iterator[tuple[str, str]]:
    """Yield (part, URI of an image), drawn by the run's name: of a few parts, about as many of each. All, if the
    manifest has no more than `most` rows.
    """
    random = np.random.default_rng(hash_number("image check", run))
    parts, takes_all = _first_parts([manifest[index] for index in random.permutation(len(manifest))], most)
    for index, part in enumerate(parts):
        uris = pc.drop_null(read_part(part, ("output_uri",)).column("output_uri"))
        wanted = len(uris) if takes_all else min(len(uris), math.ceil(most / (len(parts) - index)))
        most -= wanted
        for chosen in random.choice(len(uris), wanted, replace=False):
            yield part, uris[int(chosen)].as_py()


def _first_parts(parts: Sequence[str], most: int) -> tuple[Sequence[str], bool]:
    """Return the first parts, from which `most` rows are drawn, and whether these are all of their rows."""
    count = math.ceil(most / _OF_A_PART)
    while (rows := count_rows(parts[:count])) < most and count < len(parts):
        count *= 2  # these parts have few rows
    return parts[:count], rows <= most
