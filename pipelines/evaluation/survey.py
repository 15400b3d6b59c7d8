"""Chooses the rows of the shards to compare: counts from small columns, and a sample by hash.

Every bundle gets the same rows, in any order, on any number of machines, in every run.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from model.errors import ConfigurationError
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.sampling import Sample, Smallest, sample_hash
from pipelines.contracts.splits import TEST, TRAIN
from pipelines.storage.parquet_units import Unit, joined, read_unit

FLAG = "--data"
#: Rows in each defect's comparison picture.
GRID_ROWS = 6
#: Beginnings of the names of sets of rows; a defect's name follows. Pictures show pairs if there are any.
TEST_SET, TRAIN_SET, GRID_SET = "test/", "train/", "grid/"
#: Units whose small columns are read at the same time: each waits for the storage, not for a CPU.
_THREADS = 16
_KEYS = ("image_id", "defect", "split", "pairing")


@dataclass
class Survey:
    """Counts and samples. counts: rows by (split, defect, pairing). smallest: the hashes of each set's sample."""

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    smallest: dict[str, Smallest] = field(default_factory=dict)

    def rows(self, split: str, defect: str) -> int:
        """Return the number of rows of a defect in a split, whether they are compared or not."""
        return sum(n for (of_split, name, _), n in self.counts.items() if (of_split, name) == (split, defect))

    def sample(self, floor: bool) -> Sample:
        """Return the sample of rows to compare. floor: with training rows, for the train-versus-test floor."""
        thresholds = {name: smallest.threshold() for name, smallest in self.smallest.items()}
        return Sample(
            {
                name: threshold
                for name, threshold in thresholds.items()
                if threshold is not None and (floor or not name.startswith(TRAIN_SET))
            }
        )

    def sampled_rows(self, floor: bool) -> int:
        """Return the number of rows to read for the comparison (it is a little higher if ids repeat)."""
        wanted = (TEST_SET, TRAIN_SET) if floor else (TEST_SET,)
        return sum(len(one.values) for name, one in self.smallest.items() if name.startswith(wanted))


def take_survey(units: Sequence[Unit], samples: int, label_map: LabelMap) -> Survey:
    """Count rows and draw the sample: `samples` rows per defect and split, and GRID_ROWS pairs for its picture.

    Reads only the small columns; memory is bounded by `samples`, whatever the shards' size. Raises ConfigurationError
    if there is no test row, or if the label map lacks a row's defect.
    """
    total = Survey()
    units = list(joined(units))
    with ThreadPoolExecutor(_THREADS) as pool:
        for step in range(0, len(units), _THREADS):  # in parts, because results would pile up
            for part in pool.map(lambda unit: _survey_unit(unit, samples), units[step : step + _THREADS]):
                _merge(total, part, samples)
    for defect in label_map.defects:
        if grid_set(defect, "paired") in total.smallest:
            total.smallest.pop(grid_set(defect, "unpaired"), None)
    unknown = sorted({defect for _, defect, _ in total.counts} - set(label_map.defects))
    if unknown:
        raise ConfigurationError(
            f"{FLAG}: rows of {', '.join(map(repr, unknown))}, which its label map lacks "
            f"({', '.join(label_map.defects)}); prepare the data again"
        )
    if not any(total.rows(TEST, defect) for defect in label_map.defects):
        raise ConfigurationError(
            f"{FLAG}: no row has split 'test' ({sum(total.counts.values())} rows in all); one photo in five is held "
            "back by hash of its id, so a few photos may have none: prepare more"
        )
    return total


def _size(name: str, samples: int) -> int:
    return min(GRID_ROWS, samples) if name.startswith(GRID_SET) else samples


def _survey_unit(unit: Unit, samples: int) -> Survey:
    survey = Survey()
    hashes: dict[str, list[int]] = {}
    for _, table in read_unit(unit, _KEYS):
        for row in table.to_pylist():
            survey.counts[row["split"], row["defect"], row["pairing"]] += 1
            for name in _sets_of(row["split"], row["defect"], row["pairing"]):
                hashes.setdefault(name, []).append(sample_hash(row["image_id"]))
    for name, numbers in hashes.items():
        survey.smallest.setdefault(name, Smallest(_size(name, samples))).add(numbers)
    return survey


def _sets_of(split: str, defect: str, pairing: str) -> Iterator[str]:
    """Yield the sets that a row may be sampled for."""
    if split == TRAIN:
        yield TRAIN_SET + defect
    elif split == TEST:
        yield TEST_SET + defect
        yield grid_set(defect, pairing)


def grid_set(defect: str, pairing: str) -> str:
    """Return the set from which the defect's picture takes rows of this pairing."""
    return f"{GRID_SET}{pairing}/{defect}"


def _merge(total: Survey, part: Survey, samples: int) -> None:
    total.counts.update(part.counts)
    for name, smallest in part.smallest.items():
        total.smallest.setdefault(name, Smallest(_size(name, samples))).add(smallest.values)


def is_compared(sample: Sample, row: Mapping[str, str]) -> bool:
    """Return whether a row is read for the comparison; its `image_id`, `defect` and `split` are used."""
    kind = {TEST: TEST_SET, TRAIN: TRAIN_SET}.get(row["split"])
    return kind is not None and sample.has(kind + row["defect"], row["image_id"])
