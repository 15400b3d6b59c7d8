"""What is compared: data sets, rows, seeds, and one budget for all. Everything else follows from these tables.

A row is one line of the tables: a recipe, its flags for jobs/train.py, and the data that it is trained and scored on.
A run is a row with a seed. A row that is changed after its runs have begun cannot continue them: give it another name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pipelines.contracts.splits import TEST, TRAIN

#: Product types that `held_out_types` is not trained on: in outline unlike the others.
HELD_OUT = ("shoes", "dress", "hat")
#: What jobs/prepare_dataset.py trusts by default; the paper trusts every mask.
TRUSTED = 0.6


@dataclass(frozen=True)
class DataSet:
    """How one data set is prepared from photos with masks, and from photos without masks, which stay unpaired."""

    split: str = TRAIN
    # Pairs need a mask of this quality. 0 is the paper's way: every mask makes a pair, also a bad one.
    min_quality: float = 0.0
    # Share of the masks that are not ignored which is spoilt on purpose: dilated, shifted, or with holes.
    spoilt: float = 0.0
    # Share of the rows that carry the label of another defect.
    wrong_labels: float = 0.0
    # Product types that are left out, or the only ones.
    without: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    # Share of the photos whose mask is ignored, so that they stay unpaired; and the share of the photos without masks,
    # which show other goods, that are added to them. Of the unpaired photos about half show what the tests show.
    unpaired: float = 1 / 3
    others: float = 1 / 3


DATA = {
    "paper": DataSet(),
    "trusted": DataSet(min_quality=TRUSTED),
    "spoilt": DataSet(spoilt=1 / 3),
    "wrong_labels_5": DataSet(wrong_labels=0.05),
    "wrong_labels_20": DataSet(wrong_labels=0.2),
    "without_types": DataSet(without=HELD_OUT),
    # Tests hold photos with masks only: their targets are trusted composites of the same goods.
    "test": DataSet(TEST, TRUSTED, unpaired=0, others=0),
    "test_types": DataSet(TEST, TRUSTED, only=HELD_OUT, unpaired=0, others=0),
}


@dataclass(frozen=True)
class Row:
    """One line of the tables. recipe: None scores the bundle that the project ships, which nothing is trained for."""

    name: str
    recipe: str | None
    meaning: str
    data: str = "paper"
    # Flags of jobs/train.py besides the study's own.
    flags: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    tests: tuple[str, ...] = ("test",)
    # Data whose training targets are scored beside the test targets: what other photos, corrected perfectly, score.
    floor: str | None = None


class Run(NamedTuple):
    """A row with a seed."""

    row: Row
    seed: int

    @property
    def name(self) -> str:
        """The name of the run's files."""
        return f"{self.row.name}-{self.seed}"


@dataclass(frozen=True)
class Study:
    """All rows and the budget that they share. samples: seen by each training, repetitions counted."""

    rows: tuple[Row, ...]
    samples: int
    batch_size: int
    image_size: int
    # Flags of jobs/train.py for every row.
    flags: tuple[str, ...]
    # Whether FID and KID are measured: some 0.3 s of a core for each image.
    fid: bool = True
    # None: the real photos beside the project. Otherwise the number of drawn scenes that take their place.
    drawn: int | None = None

    @property
    def steps(self) -> int:
        """The number of updates of each training."""
        return -(-self.samples // self.batch_size)

    def runs(self) -> Iterator[Run]:
        """Yield all runs in the order of their importance: first seeds first."""
        for position in range(max(len(row.seeds) for row in self.rows)):
            for row in self.rows:
                if position < len(row.seeds):
                    yield Run(row, row.seeds[position])

    def data_of(self, row: Row) -> set[str]:
        """Return the names of the data sets that a row needs."""
        floor = set() if row.floor is None else {row.floor}
        trained_on = set() if row.recipe is None else {row.data}
        return {*row.tests, *floor, *trained_on}


#: The network of the starter, at its size, for every row that can have it: capacity and knowledge of goods are not the
#: limit then. It differs from the paper's in its blend head, scaled maps, initial weights and batch norms as well. The
#: losses are the paper's: no geometry head, no matte loss, no balance of tasks.
UNET = ("--architecture", "pretrained_unet", "--encoder-weights", "imagenet", "--encoder-rate", "1e-4")
#: The paper's own network, as wide as the budget allows.
RESNET = ("--architecture", "resnet", "--width", "16", "--blocks", "6")

STUDY = Study(
    rows=(
        Row(
            *("proposed", "proposed", "g, η and unpaired images"),
            flags=UNET,
            seeds=(0, 1),
            tests=("test", "test_types"),  # to compare `held_out_types` with
        ),
        Row("no_labels", "no_labels", "without g and η (WS-I2I)", flags=UNET, seeds=(0, 1)),
        Row("paired_only", "paired_only", "without unpaired images", flags=UNET, seeds=(0, 1)),
        Row("no_group", "no_group", "without g", flags=UNET, seeds=(0, 1)),
        Row("starter", None, "the bundle in model/starter", floor="trusted"),
        Row("spoilt", "proposed", "a third of the masks spoilt", "spoilt", UNET),
        Row("spoilt_paired_only", "paired_only", "the same without unpaired images", "spoilt", UNET),
        Row("trusted", "proposed", "doubtful masks used unpaired", "trusted", UNET),
        Row("pix2pix", "pix2pix", "Pix2Pix on the same network", flags=UNET),
        Row("cyclegan", "cyclegan", "CycleGAN on the same network", flags=UNET),
        Row("monce", "monce", "MoNCE", flags=("--width", "16", "--blocks", "6")),
        Row("resnet_proposed", "proposed", "the paper's network", flags=RESNET),
        Row("resnet_no_labels", "no_labels", "the paper's network without g and η", flags=RESNET),
        Row("wrong_labels_5", "proposed", "5% of the labels wrong", "wrong_labels_5", UNET),
        Row("wrong_labels_20", "proposed", "20% of the labels wrong", "wrong_labels_20", UNET),
        Row(
            "held_out_types",
            "proposed",
            f"never saw {', '.join(HELD_OUT)}",
            "without_types",
            UNET,
            tests=("test", "test_types"),
        ),
    ),
    samples=15_000,
    batch_size=4,
    image_size=128,
    flags=(
        *("--rate", "4e-4", "--precision", "float32"),
        # Half as wide as usual: at 128 pixels two critics of 64 cost as much as everything else.
        *("--set", "discriminator.width=32"),
        *("--log-every", "50", "--checkpoint-every", "250", "--keep", "1", "--grid-every", "1250"),
        *("--validate-every", "1250", "--validation-images", "40"),
    ),
)

#: The same in minutes, on drawn scenes: it shows that the machinery works, and nothing about the method.
SMALL = Study(
    rows=(
        Row("starter", None, "the bundle in model/starter", floor="trusted"),
        Row("proposed", "proposed", "g, η and unpaired images"),
        Row("no_labels", "no_labels", "without g and η (WS-I2I)"),
        Row("spoilt", "paired_only", "a third of the masks spoilt", "spoilt"),
        Row("wrong_labels_20", "proposed", "20% of the labels wrong", "wrong_labels_20"),
    ),
    samples=16,
    batch_size=2,
    image_size=64,
    flags=(
        *("--architecture", "pretrained_unet", "--encoder-weights", "none", "--precision", "float32"),
        *("--set", "discriminator.width=8", "--set", "discriminator.n_layers=2", "--validate-every", "0"),
        *("--log-every", "2", "--checkpoint-every", "4", "--keep", "1", "--shuffle-rows", "16"),
    ),
    fid=False,
    drawn=24,
)
