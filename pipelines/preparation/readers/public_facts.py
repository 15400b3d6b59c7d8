"""Facts about the eight public datasets on which Li et al. (2022) report: layouts, directions, conditions, counts.

Four are paired: folders of JPEGs with A (left) and B (right) in halves of equal width. Four are unpaired: trainA,
trainB, testA, testB. The counts are those commonly reported for the archives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.contracts.label_map import Defect, LabelMap, Rule

PAIRED4, UNPAIRED4 = "paired4", "unpaired4"
#: Folders of the official splits, which are pooled.
PAIRED_FOLDERS = ("train", "val", "test")
UNPAIRED_FOLDERS = ("trainA", "testA", "trainB", "testB")


@dataclass(frozen=True)
class PublicDataset:
    """Facts about a dataset. The paper treats each as a task of its own, so its name is also its defect's.

    reported: number of images by official folder.
    is_reversed: the task runs from B to A, as Li et al. state for maps (map to aerial photo).
    """

    name: str
    benchmark: str
    group: str
    reported: Mapping[str, int]
    is_reversed: bool = False

    @property
    def is_paired(self) -> bool:
        return self.benchmark == PAIRED4

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders that the layout may have."""
        return PAIRED_FOLDERS if self.is_paired else UNPAIRED_FOLDERS


_PHOTOS = {"trainB": 6287, "testB": 751}  # the same photos in both datasets of paintings

#: In the order of their condition numbers in each benchmark.
DATASETS = (
    PublicDataset("maps", PAIRED4, "urban", {"train": 1096, "val": 1098}, is_reversed=True),
    PublicDataset("facades", PAIRED4, "urban", {"train": 400, "val": 100, "test": 106}),
    PublicDataset("edges2shoes", PAIRED4, "edges", {"train": 49825, "val": 200}),
    PublicDataset("edges2handbags", PAIRED4, "edges", {"train": 138567, "val": 200}),
    PublicDataset(
        "horse2zebra",
        UNPAIRED4,
        "objects",
        {"trainA": 1067, "testA": 120, "trainB": 1334, "testB": 140},
    ),
    PublicDataset(
        "apple2orange",
        UNPAIRED4,
        "objects",
        {"trainA": 995, "testA": 266, "trainB": 1019, "testB": 248},
    ),
    PublicDataset("monet2photo", UNPAIRED4, "paintings", {"trainA": 1072, "testA": 121, **_PHOTOS}),
    PublicDataset("vangogh2photo", UNPAIRED4, "paintings", {"trainA": 400, "testA": 400, **_PHOTOS}),
)

#: The values of `--benchmark`.
BENCHMARKS = (PAIRED4, UNPAIRED4, *(dataset.name for dataset in DATASETS))


def datasets_of(benchmark: str) -> tuple[PublicDataset, ...]:
    """Return the datasets of a combined benchmark, or the one of that name; empty if the name is unknown."""
    return tuple(dataset for dataset in DATASETS if benchmark in (dataset.benchmark, dataset.name))


def label_map(datasets: Sequence[PublicDataset]) -> LabelMap:
    """Return a label map with a defect for each dataset, numbered as in the combined benchmark; a single one from 0.

    Li et al. (2022) train pairs without cycle and identity losses (lambda 3 and 4 are 0), and unpaired images with
    both.
    """
    groups = list(dict.fromkeys(dataset.group for dataset in datasets))
    return LabelMap(
        groups={group: number for number, group in enumerate(groups)},
        defects={
            dataset.name: Defect(dataset.name, number, dataset.group, order=number + 1)
            for number, dataset in enumerate(datasets)
        },
        rules=tuple(Rule(dataset.name, dataset.name, min_score=0.5) for dataset in datasets),
        cycle_groups=tuple(dict.fromkeys(dataset.group for dataset in datasets if not dataset.is_paired)),
    )
