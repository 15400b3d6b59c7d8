"""Settings of a training: everything that decides its result, besides the data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from model.config import FITS, SIDE_MULTIPLE, require, require_choice
from model.recipes import MethodConfig
from model.training_step import OptimizerConfig
from pipelines.contracts.label_map import LabelMap
from pipelines.shards.reading import Decode, Decoding, Making
from pipelines.shards.validation_part import GENERATOR_SHARE, LARGEST_SHARE
from pipelines.storage import objects as storage
from pipelines.training.feed.order import SamplingConfig

#: With smaller images, the deepest feature maps would be too small for the padding and the strides.
SMALLEST_SIDE = 32
_COUNTS = (
    *("image_size", "steps", "batch_size", "accumulate", "shuffle_rows", "log_every"),
    *("checkpoint_every", "keep", "grid_every", "validation_images"),
)


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """Hold the settings that generator and detector trainings share: plain values, which can travel to workers."""

    output: str
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    image_size: int = 256
    steps: int = 1000
    batch_size: int = 1  # per worker
    # Batches per update. Raise it if the batch that trains well does not fit into memory.
    accumulate: int = 1
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    # (defect, N): its rows are drawn N times an epoch. For a defect that is harder than the others, or rarer.
    repeat: tuple[tuple[str, int], ...] = ()
    # `balanced` draws every defect equally often. For data in which one defect has a hundred times another's photos.
    sampler: str = "proportional"
    # Decoded rows to shuffle among, per worker: 2 * 3 * image_size^2 bytes each.
    shuffle_rows: int = 512
    log_every: int = 20
    checkpoint_every: int = 500
    # Checkpoints kept. Raise it to go further back than the last few.
    keep: int = 2
    grid_every: int = 500
    # Share of the training split's photos that are held back to choose the best step, or thresholds. Raise it if
    # defects have few photos (see `validation.LEAST_FOR_FID`); 0 trains on all photos and chooses nothing.
    validation_share: float = GENERATOR_SHARE
    # Steps between measurements on these photos; 0: never.
    validate_every: int = 0
    # Images per defect and side for a measurement. More are steadier and slower.
    validation_images: int = 200

    def __post_init__(self) -> None:
        for name in _COUNTS:
            require(getattr(self, name) >= 1, f"{name} must be 1 or more, got {getattr(self, name)}")
        require(
            0 <= self.validation_share <= LARGEST_SHARE,
            f"--validation-share {self.validation_share:g}: a share from 0 to {LARGEST_SHARE:g}, such as 0.05",
        )

    @property
    def decoding(self) -> Decode:
        """Return the function that decodes rows."""
        raise NotImplementedError

    def sampling(self, label_map: LabelMap) -> SamplingConfig:
        """Return how often an epoch draws which rows."""
        return SamplingConfig(
            sampler=self.sampler,
            repeat=tuple((label_map.defects[defect].id, times) for defect, times in self.repeat),
            shuffle_rows=self.shuffle_rows,
        )

    @property
    def update_size(self) -> int:
        """Return the number of samples per worker and update."""
        return self.batch_size * self.accumulate

    @property
    def checkpoints(self) -> str:
        """Return the folder of this training's checkpoints."""
        return storage.join(self.output, "checkpoints")


@dataclass(frozen=True, kw_only=True)
class TrainSettings(LoopSettings):
    """Hold the settings of a generator's training."""

    method: MethodConfig
    # `letterbox` keeps an image's aspect ratio and fills the square with white: for data with very different shapes, or
    # if tilts must be judged. `stretch` is the paper's choice: the image fills the square.
    fit: str = "stretch"
    # Decay per update of a running average of the generator; validation and the bundle then use the average. 0: none.
    ema: float = 0.0
    # torch.compile the networks. Takes minutes at the start: for long trainings on GPUs.
    compile: bool = False
    # How pairs are made anew in every epoch, if the data asks for it; set by `plan.find_making`.
    making: Making | None = None
    # Groups whose pairs also enter cycle and identity losses (u), as unpaired samples always do; see `LabelMap.cyclic`.
    cycle_groups: frozenset[str] = frozenset()
    # Groups cropped at random. Never a group whose defect concerns the position in the frame.
    cropped_groups: frozenset[str] = frozenset()
    # Defects whose images are mirrored at random. Never one of orientation or text.
    flipped_defects: frozenset[str] = frozenset()
    # URI of the Inception weights, if the extra `fid` is not installed.
    fid_weights: str | None = None
    # Factors of the reconstruction term by type id; empty for none.
    defect_weight: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require_choice("--fit", self.fit, FITS)
        require(0 <= self.ema < 1, f"ema is {self.ema}; use 0 for none, or a decay below 1")
        super().__post_init__()
        require(
            self.image_size % SIDE_MULTIPLE == 0 and self.image_size >= SMALLEST_SIDE,
            f"--image-size {self.image_size}: use a multiple of {SIDE_MULTIPLE}, {SMALLEST_SIDE} or more",
        )

    def sampling(self, label_map: LabelMap) -> SamplingConfig:
        """Return how often an epoch draws which rows."""
        method = self.method
        return replace(super().sampling(label_map), pairs=method.uses_pairs, unpaired=method.uses_unpaired)

    @property
    def decoding(self) -> Decoding:
        """Return the decoding of rows for training."""
        return Decoding(self.image_size, self.cropped_groups, self.fit, self.making)

    @property
    def validation_decoding(self) -> Decoding:
        """Return the decoding of rows for validation: whole images, at the training resolution."""
        return Decoding(self.image_size, fit=self.fit, making=self.making)


def describe(settings: LoopSettings) -> Mapping[str, Any]:
    """Return the settings as JSON values, without locations on this machine."""
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in asdict(settings).items()
        if name not in ("output", "fid_weights", "making")
    }
