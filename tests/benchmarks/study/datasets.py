"""Prepares the study's data sets as the paper builds its own, with the code of jobs/prepare_dataset.py.

x of a background pair is a real photo, and y the photo composited on white through its mask, however bad; a mark or a
turn is put into that composite, so that these pairs are exact. Photos without masks, or whose masks are ignored on
purpose, stay unpaired.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.contracts.hashing import hash_number, in_share
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import SHARD
from pipelines.contracts.splits import split_of
from pipelines.images.decode import decode_image
from pipelines.images.encode import encode_mask
from pipelines.preparation.finish.finish import Description, finish
from pipelines.preparation.plan.plan import make_plan
from pipelines.preparation.settings import PreparationConfig, resolve
from pipelines.preparation.unit.unit import prepare_unit
from pipelines.shards.writer import ShardWriter
from tests.benchmarks.study import drawn
from tests.benchmarks.study.places import SHARED, Places, remove_folder, replace_file
from tests.benchmarks.study.plan import DATA, DataSet, Study
from tests.benchmarks.study.spoil import spoil

logger = logging.getLogger("study")

PHOTOS, OBJECTS = SHARED / "photos.parquet", SHARED / "objects.parquet"
TABLE = pa.schema(
    [
        ("image_id", pa.string()),
        ("product_type", pa.string()),
        ("image", pa.binary()),
        ("mask", pa.binary()),
    ]
)
#: Longest side of stored images: that at which answers are compared.
SIDE = 256
UNIT_ENTRIES, SHARD_BYTES = 64, 1 << 26


class MissingPhotos(Exception):  # noqa: N818 (a reason to skip, not a mistake)
    """The real photos are not on this machine."""


def prepare(name: str, study: Study, places: Places) -> Path:
    """Return the folder of a data set, prepared now if it is not there as `plan.DATA` describes it.

    Raises MissingPhotos.
    """
    folder = places.data(name)
    ready, wanted = folder / "ready", repr((DATA[name], study.drawn, SIDE))
    if not ready.exists() or ready.read_text() != wanted:
        logger.info("preparing data set %s", name)
        remove_folder(folder)
        _prepare(DATA[name], _photos(study), folder)
        replace_file(ready, wanted.encode())
    return folder


def _photos(study: Study) -> Iterator[dict[str, Any]]:
    """Yield all photos as rows of TABLE."""
    if study.drawn is not None:
        yield from drawn.photos(study.drawn)
        return
    for path in (PHOTOS, OBJECTS):
        if not path.exists():
            raise MissingPhotos(
                f"{path} is not on this machine; it is not part of the project. --small needs none"
            )
    yield from _read(PHOTOS)
    yield from (row for row in _read(OBJECTS) if row["mask"] is None)


def _read(path: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(64, columns=TABLE.names):
            yield from batch.to_pylist()


def _prepare(data: DataSet, photos: Iterable[dict[str, Any]], folder: Path) -> None:
    folder.mkdir(parents=True)
    table = folder / "photos.parquet"
    with pq.ParquetWriter(table, TABLE) as writer:
        for row in photos:
            if belongs(row, data):
                writer.write_table(pa.Table.from_pylist([masked(row, data)], TABLE), row_group_size=1)
    config = PreparationConfig(
        str(folder), photos=[str(table)], draws=1, max_side=SIDE, min_quality=data.min_quality
    )
    prepare_here(config)
    if data.wrong_labels:
        _relabel(folder, data.wrong_labels)


def belongs(row: dict[str, Any], data: DataSet) -> bool:
    """Return whether a photo is in a data set."""
    of_type = row["product_type"] not in data.without and (not data.only or row["product_type"] in data.only)
    wanted = row["mask"] is not None or in_share(data.others, "other", row["image_id"])
    return split_of(row["image_id"]) == data.split and of_type and wanted


def masked(row: dict[str, Any], data: DataSet) -> dict[str, Any]:
    """Return a photo with the mask that the data set gives it."""
    if row["mask"] is not None and in_share(data.unpaired, "unpaired", row["image_id"]):
        return {**row, "mask": None}
    if row["mask"] is None or not in_share(data.spoilt, "spoilt", row["image_id"]):
        return row
    return {**row, "mask": encode_mask(spoil(decode_image(row["mask"])[..., 0], row["image_id"]))}


def prepare_here(config: PreparationConfig) -> None:
    """Do what jobs/prepare_dataset.py does, in this process and without Ray."""
    request = resolve(config)
    plan = make_plan(
        request.layout.plan,
        request.entries,
        lambda _: None,
        identity=request.identity,
        size_of_units=lambda _: UNIT_ENTRIES,
        notes=request.sources.notes,
    )
    work = request.work(plan)
    for unit in range(plan.units):
        prepare_unit(unit, work)
    finish(request.layout, work, Description(request.label_map.to_yaml(), {}, 0.0))


def _relabel(folder: Path, share: float) -> None:
    """Give a share of a data set's rows the label of another defect, as a detector that errs would."""
    groups = {name: defect.group for name, defect in LabelMap.default().defects.items()}
    files = sorted((folder / "shards").glob("*.parquet"))
    with ShardWriter(str(folder / "shards"), "wrong", SHARD, SHARD_BYTES, ("source", "target")) as writer:
        for file in files:
            for row in pq.read_table(file).to_pylist():
                defect = labelled(row["image_id"], row["defect"], share, tuple(groups))
                writer.add([{**row, "defect": defect, "group": groups[defect]}])
    for file in files:
        file.unlink()
    summary = json.loads((folder / "dataset.json").read_text())
    summary["fingerprint"] = hashlib.sha256(f"{summary['fingerprint']} {share}".encode()).hexdigest()
    replace_file(folder / "dataset.json", json.dumps(summary, indent=2).encode())


def labelled(image_id: str, defect: str, share: float, defects: tuple[str, ...]) -> str:
    """Return the label that a detector gives a row that shows `defect`: in `share` of the cases another one."""
    if not in_share(share, "detector", image_id, defect):
        return defect
    others = [name for name in defects if name != defect]
    return others[hash_number("which", image_id, defect) % len(others)]


def rows_of(folder: Path) -> dict[str, int]:
    """Return the number of a data set's rows by defect and pairing."""
    counts: dict[str, int] = {}
    for file in sorted((folder / "shards").glob("*.parquet")):
        table = pq.read_table(file, columns=["defect", "pairing"])
        for row in table.to_pylist():
            key = f"{row['defect']}, {row['pairing']}"
            counts[key] = counts.get(key, 0) + 1
    return counts
