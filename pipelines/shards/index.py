"""Indexes all training rows without their pixels, so that the order of an epoch can be computed.

The index is built once, before training starts, from the shards' footers and small columns. Everything in the data that
would make a training fail later is reported then, all at once, with counts. The index has 3 bytes per row and 16 per
row group; an epoch's order has another 4 bytes per row. So ten million rows take 30 MB and 40 MB in every worker: the
only memory of a training that grows with the dataset. Building it takes another 16 bytes per row, for hashes of ids.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import SHARD
from pipelines.images.decode import DecodeLimits, ImageError, decode_image
from pipelines.shards.validation_part import GENERATOR_SHARE, Hashes, hash_ids, held_back

logger = logging.getLogger("train")

#: Bits of `Index.kinds`: which images a row has, whether they are a pair, and whether the row is held back: in the test
#: split, or in the validation part of the training split (`validation_part`).
SOURCE, TARGET, PAIRED, TEST, VALIDATION = 1, 2, 4, 8, 16
#: The shard has no source; it is made when the row is read. Such rows also have SOURCE.
MADE = 32
#: Bits of rows that are not trained on.
_HELD_BACK = TEST | VALIDATION
#: `Index.types` of an unused row, which is in neither split.
UNUSED = -1
#: Rows of each shard whose images are decoded as a check before training starts.
SAMPLED_ROWS = 8
#: Shards read at once: each waits for storage, not for a CPU.
_THREADS = 16
_COLUMNS = ("image_id", "pairing", "group", "defect", "split")


@dataclass(frozen=True)
class Index:
    """Describe the rows of all shards in the order of files and row groups. U row groups, N rows.

    units: (U, 2) int32, file number and row group in it. starts: (U + 1,) int64, unit u has rows starts[u] up to
    starts[u + 1]. types: (N,) int16, type ids or UNUSED. kinds: (N,) uint8, bits SOURCE, TARGET, PAIRED, TEST,
    VALIDATION.
    """

    files: tuple[str, ...]
    units: NDArray[np.int32]
    starts: NDArray[np.int64]
    types: NDArray[np.int16]
    kinds: NDArray[np.uint8]

    @property
    def training(self) -> NDArray[np.bool_]:
        """Return (N,) flags of the rows that are trained on: the training split without its validation part."""
        return self.of_split(0)

    def of_split(self, split: int) -> NDArray[np.bool_]:
        """Return (N,) flags of the rows in a split.

        split: 0 for the rows that are trained on, VALIDATION for the validation part, TEST for the test split.
        """
        return (self.types != UNUSED) & (self.kinds & _HELD_BACK == split)

    def having(self, type_: int, bits: int, split: int = 0) -> NDArray[np.bool_]:
        """Return (N,) flags of the rows of a type that have all of `bits`. split: as for `of_split`."""
        return (self.types == type_) & (self.kinds & (bits | _HELD_BACK) == bits | split)


@dataclass
class Findings:
    """Collect problems of the data: counts by kind, with one example each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, problem: str, example: str, count: int = 1) -> None:
        """Count `problem`, and keep its first example."""
        if count:
            self.counts[problem] += count
            self.examples.setdefault(problem, example)

    def merge(self, other: "Findings") -> None:
        """Add the problems of `other`."""
        for problem, count in other.counts.items():
            self.add(problem, other.examples[problem], count)

    def lines(self) -> list[str]:
        """Return a line for each problem, the most frequent first."""
        return [
            f"{count} {problem} (such as {self.examples[problem]})"
            for problem, count in self.counts.most_common()
        ]


@dataclass(frozen=True)
class _File:
    """Hold one shard's part of the index."""

    rows: tuple[int, ...]  # number of rows in each row group
    types: NDArray[np.int16]
    kinds: NDArray[np.uint8]
    findings: Findings
    # See `hash_ids` for both.
    photos: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    folders: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))


def build_index(
    shards: Sequence[str], label_map: LabelMap, validation_share: float = GENERATOR_SHARE
) -> Index:
    """Build the index from the footers and small columns of all shards, and check the images of a few rows of each.

    validation_share: share of the training split's photos that is held back from training. Raises ConfigurationError
    with all problems and their counts: unreadable shards, unknown defects, groups or pairings, rows that lack images,
    sampled images that cannot be decoded.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        parts = list(pool.map(partial(_read_file, label_map=label_map), shards))
    findings = Findings()
    for part in parts:
        findings.merge(part.findings)
    if findings.counts:
        raise ConfigurationError(
            "--data cannot be trained on: "
            + "; ".join(findings.lines())
            + "; prepare it again with jobs/prepare_dataset.py"
        )
    kinds = np.concatenate([part.kinds for part in parts])
    photos, folders = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("photos", "folders")
    )
    chosen = held_back(photos, folders, validation_share) & (kinds & TEST == 0)
    units = [(number, group) for number, part in enumerate(parts) for group in range(len(part.rows))]
    rows = [count for part in parts for count in part.rows]
    return Index(
        tuple(shards),
        np.array(units, np.int32).reshape(-1, 2),
        np.concatenate([[0], np.cumsum(rows, dtype=np.int64)]),
        np.concatenate([part.types for part in parts]),
        np.where(chosen, kinds | VALIDATION, kinds).astype(np.uint8),
    )


def rows_by_defect(index: Index, label_map: LabelMap) -> dict[str, dict[str, int]]:
    """Count per defect the pairs and unpaired rows of training, and the rows of validation part and test split."""
    return {
        name: {
            "pairs": int(index.having(defect.id, PAIRED).sum()),
            "unpaired": int(index.having(defect.id, 0).sum() - index.having(defect.id, PAIRED).sum()),
            "validation": int(index.having(defect.id, 0, VALIDATION).sum()),
            "test": int(index.having(defect.id, 0, TEST).sum()),
        }
        for name, defect in label_map.defects.items()
    }


def missing_tasks(index: Index, label_map: LabelMap, *, pairs: bool, unpaired: bool) -> dict[str, str]:
    """Return the defects of the label map that cannot be trained, each with the reason.

    pairs, unpaired: whether the method learns from these.
    """
    reasons = {}
    for name, defect in label_map.defects.items():
        paired = int(index.having(defect.id, PAIRED).sum()) if pairs else 0
        sources, targets = (
            int(index.having(defect.id, bit).sum()) if unpaired else 0 for bit in (SOURCE, TARGET)
        )
        if not paired and not (sources and targets):
            total = int(index.having(defect.id, 0).sum())
            reasons[name] = (
                f"{total} training rows, of which the recipe can use 0 pairs, {sources} sources and {targets} targets"
                if total
                else "no training rows"
            )
    return reasons


def check_defects(
    index: Index, label_map: LabelMap, *, pairs: bool, unpaired: bool, allow_missing: bool
) -> None:
    """Raise ConfigurationError for defects that cannot be trained; with allow_missing warn, if at least one can be."""
    missing = missing_tasks(index, label_map, pairs=pairs, unpaired=unpaired)
    if not missing:
        return
    reasons = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
    if len(missing) == len(label_map.defects):
        raise ConfigurationError(f"--data has nothing that this recipe learns from ({reasons})")
    if not allow_missing:
        raise ConfigurationError(
            f"--data lacks {len(missing)} of the label map's {len(label_map.defects)} defects ({reasons}); "
            "add data, remove them from the label map, or leave them untrained with --allow-missing"
        )
    logger.warning("untrained defects: %s", reasons)


def _read_file(shard: str, label_map: LabelMap) -> _File:
    try:
        filesystem, path = storage.arrow_filesystem(shard)
        with pq.ParquetFile(path, filesystem=filesystem, pre_buffer=False) as file:
            return _index_file(shard, file, label_map)
    except (pa.ArrowException, *storage.STORAGE_ERRORS) as error:
        findings = Findings()
        reason = " ".join(str(error).split())[:200]
        findings.add("shards cannot be read", f"{shard}: {type(error).__name__}: {reason}")
        return _File((), np.empty(0, np.int16), np.empty(0, np.uint8), findings)


def _index_file(shard: str, file: pq.ParquetFile, label_map: LabelMap) -> _File:
    findings = Findings()
    missing = set(SHARD.names) - set(file.schema_arrow.names)
    if missing:
        findings.add("shards lack columns", f"{shard}: {', '.join(sorted(missing))}")
        return _File((), np.empty(0, np.int16), np.empty(0, np.uint8), findings)
    small = file.read(columns=list(_COLUMNS))
    names = list(label_map.defects)
    positions = _positions(small["defect"], names)
    ids = np.array([defect.id for defect in label_map.defects.values()], np.int16)
    groups = np.array([defect.group for defect in label_map.defects.values()])
    test = _equal(small["split"], "test")
    used = test | _equal(small["split"], "train")
    paired = _equal(small["pairing"], "paired")
    known = positions >= 0
    for name, count in Counter(small["defect"].filter(pa.array(used & ~known)).to_pylist()).items():
        findings.add(f"rows have the defect {name!r}, which the label map lacks", shard, count)
    odd = used & ~paired & ~_equal(small["pairing"], "unpaired")
    findings.add("rows have a pairing that is neither 'paired' nor 'unpaired'", shard, int(odd.sum()))
    group = np.array(small["group"].to_pylist(), object)
    wrong = used & known & (group != groups[np.maximum(positions, 0)])
    findings.add("rows have another group than the label map gives their defect", shard, int(wrong.sum()))
    images = _which_images(file, len(paired))
    made = paired & ~test & (images == TARGET)
    images = images | np.where(made, SOURCE, 0).astype(np.uint8)
    bare = used & ((images == 0) | (paired & (images != SOURCE | TARGET)))
    findings.add("rows lack an image: both of a pair, or any of an unpaired row", shard, int(bare.sum()))
    findings.merge(_check_samples(shard, file))
    usable = used & known & ~odd & ~bare
    metadata = file.metadata
    photos, folders = hash_ids(small["image_id"])
    return _File(
        tuple(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)),
        np.where(usable, ids[np.maximum(positions, 0)], UNUSED).astype(np.int16),
        (images | np.where(paired, PAIRED, 0) | np.where(test, TEST, 0) | np.where(made, MADE, 0)).astype(
            np.uint8
        ),
        findings,
        photos,
        folders,
    )


def _positions(column: pa.ChunkedArray, names: list[str]) -> NDArray[np.int64]:
    """Return the position of each value in `names`; -1 for other values."""
    positions = pc.fill_null(pc.index_in(column, value_set=pa.array(names, column.type)), -1)
    return positions.to_numpy().astype(np.int64)


def _equal(column: pa.ChunkedArray, value: str) -> NDArray[np.bool_]:
    return pc.fill_null(pc.equal(column, value), False).to_numpy().astype(bool)


def _which_images(file: pq.ParquetFile, count: int) -> NDArray[np.uint8]:
    """Return (count,) bits SOURCE and TARGET of every row.

    If a row group has no nulls in a column, or only nulls, its footer is enough. Otherwise the column is read, a few
    rows at a time: equal numbers of nulls and unpaired rows do not prove that these are the same rows.
    """
    images = np.zeros(count, np.uint8)
    first = 0
    names = file.schema_arrow.names
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        rows = slice(first, first + group.num_rows)
        first += group.num_rows
        for name, bit in (("source", SOURCE), ("target", TARGET)):
            statistics = group.column(names.index(name)).statistics
            known = statistics is not None and statistics.has_null_count
            if known and statistics.null_count == 0:
                images[rows] |= bit
            elif not known or statistics.null_count < group.num_rows:
                batches = file.iter_batches(16, row_groups=[number], columns=[name])
                present = [batch.column(0).is_valid().to_numpy(zero_copy_only=False) for batch in batches]
                images[rows] |= np.where(np.concatenate(present), bit, 0).astype(np.uint8)
    return images


def _check_samples(shard: str, file: pq.ParquetFile) -> Findings:
    """Decode the images of the first rows, and return the problems."""
    findings = Findings()
    batch = next(file.iter_batches(SAMPLED_ROWS, columns=["image_id", "source", "target"]), None)
    for row in batch.to_pylist() if batch is not None else ():
        for side in ("source", "target"):
            try:
                if row[side] is not None:
                    decode_image(row[side], DecodeLimits(), max_side=64)
            except ImageError as error:
                example = f"{side} of {row['image_id']} in {shard}: {error.message}"
                findings.add(f"sampled images cannot be used: {error.code}", example)
    return findings
