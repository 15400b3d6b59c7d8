"""The reference for FID (flag --reference): clean images in parquet, statistics in `.npz`, or the catalog's own."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.contracts.columns import image_columns, is_image, is_text
from pipelines.contracts.names import not_in_label_map
from pipelines.contracts.sampling import Sample, Smallest, sample_hash
from pipelines.metrics.fid.statistics import Moments
from pipelines.storage.parquet_units import Unit, list_units, read_unit

logger = logging.getLogger(__name__)

FLAG = "--reference"
#: Columns that may be in a file's path, as in `defect=watermark/part.parquet`.
_IN_PATH = ("image_id", "defect")
#: The name of the set of images that is the reference for every defect.
EVERY_DEFECT = ""


@dataclass(frozen=True)
class Reference:
    """The source of reference statistics: `units` with `sample`, or `moments`; both are empty for the catalog's own
    images.

    sample: its sets are defects, and EVERY_DEFECT. moments: by defect.
    """

    description: str
    units: tuple[Unit, ...] = ()
    sample: Sample = field(default_factory=lambda: Sample({}))
    moments: dict[str, Moments] = field(default_factory=dict)
    images: int = 0  # in the sample

    @property
    def is_catalog(self) -> bool:
        """True if the catalog's own clean images are the reference."""
        return not self.units and not self.moments


def read_reference(uri: str | None, defects: Sequence[str], sample_size: int) -> Reference:
    """Check the reference and choose its sample. Raises ConfigurationError naming --reference and the remedy.

    uri: parquet (file or folder) with `image` and optionally `image_id` and `defect`; or a `.npz` for every defect; or
    a folder of `<defect>.npz`; or None.
    """
    if uri is None:
        return Reference("the catalog's own clean images")
    storage.check_readable(uri, FLAG)
    files = storage.list_files(uri, ".npz", follow_links=True)
    if files:
        return Reference(f"statistics of {uri}", moments=_read_moments(uri, files, defects))
    listing = list_units([uri], FLAG, _check, in_path=_IN_PATH)
    smallest: dict[str, Smallest] = {}
    for unit in listing.units:
        for name, key, _ in _rows(unit, images=False):
            smallest.setdefault(name, Smallest(sample_size)).add([sample_hash(key)])
    thresholds = {name: kept.threshold() for name, kept in smallest.items()}
    sample = Sample({name: threshold for name, threshold in thresholds.items() if threshold is not None})
    if not listing.rows:
        raise ConfigurationError(f"{FLAG} {uri}: has no rows; give clean images, or leave the flag out")
    _warn_of_unknown(uri, smallest.keys() - {EVERY_DEFECT}, defects)
    if smallest.keys().isdisjoint({EVERY_DEFECT, *defects}):
        raise ConfigurationError(
            f"{FLAG} {uri}: every image is of a defect that the label map lacks; it has {', '.join(defects)}"
        )
    images = sum(len(kept.values) for kept in smallest.values())
    return Reference(f"images of {uri}", listing.units, sample, images=images)


def read_images(unit: Unit, sample: Sample) -> Iterator[tuple[str, str, bytes]]:
    """Yield (set, id, encoded image) of the sampled images of one unit; rows without an image are left out."""
    for name, key, image in _rows(unit, images=True):
        if image is not None and sample.has(name, key):
            yield name, key, image


def _rows(unit: Unit, images: bool) -> Iterator[tuple[str, str, bytes | None]]:
    """Yield (set, id, image) of every row. Without `image_id`, the id is made from file and row number."""
    columns = ("image_id", "defect", "image") if images else ("image_id", "defect")
    # A file with neither id nor defect has no column to read, only a number of rows.
    for first, table in read_unit(unit, columns, in_path=_IN_PATH):
        encoded = image_columns(table)[0].to_pylist()
        defects = _texts(table, "defect")
        ids = _texts(table, "image_id")
        for index in range(table.num_rows):
            key = ids[index] or f"{storage.resolve(unit.uri)[1].rsplit('/', 1)[-1]}#{first + index}"
            yield defects[index] or EVERY_DEFECT, key, encoded[index]


def _texts(table: pa.Table, name: str) -> list[str | None]:
    if name not in table.column_names:
        return [None] * table.num_rows
    return list(table.column(name).cast(pa.string()).to_pylist())


def _check(schema: pa.Schema, uri: str) -> None:
    if "image" not in schema.names or not is_image(schema.field("image").type):
        raise ConfigurationError(
            f"{FLAG} {uri}: needs a column 'image' of encoded bytes (binary or struct<bytes, path>); "
            f"it has {', '.join(schema.names)}"
        )
    for name in {"image_id", "defect"} & set(schema.names):
        if not is_text(schema.field(name).type):
            raise ConfigurationError(
                f"{FLAG} {uri}: column {name!r} is {schema.field(name).type}, not string: cast it to text"
            )


def _warn_of_unknown(uri: str, names: Iterable[str], defects: Sequence[str]) -> None:
    """Warn of names that no defect has: a reference may serve several label maps, or a name may be misspelt."""
    for name in sorted(set(names) - set(defects)):
        logger.warning("%s %s: left out: %s", FLAG, uri, not_in_label_map("defect", name, defects))


def _read_moments(uri: str, files: list[str], defects: Sequence[str]) -> dict[str, Moments]:
    if uri.endswith(".npz"):
        moments = Moments.from_npz(storage.read_bytes(files[0]), f"{FLAG} {uri}")
        return dict.fromkeys(defects, moments)
    by_name = {file.rsplit("/", 1)[-1].removesuffix(".npz"): file for file in files}
    named = [defect for defect in defects if defect in by_name]
    _warn_of_unknown(uri, by_name.keys(), defects)
    if not named:
        raise ConfigurationError(
            f"{FLAG} {uri}: none of its .npz files is named after a defect ({', '.join(defects)})"
        )
    return {
        name: Moments.from_npz(storage.read_bytes(by_name[name]), f"{FLAG} {by_name[name]}") for name in named
    }
