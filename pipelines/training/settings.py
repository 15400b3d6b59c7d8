"""Settings that trainings of generators and of detectors share; each kind has more of its own."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from model.config import require
from model.training_step import OptimizerConfig
from pipelines import storage
from pipelines.contracts.label_map import LabelMap
from pipelines.shards.reading import Decode
from pipelines.shards.validation_part import GENERATOR_SHARE, LARGEST_SHARE
from pipelines.training.feed.order import SamplingConfig

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
    steps: int
    batch_size: int = 1  # per worker
    # Batches per update. Raise it if the batch that trains well does not fit into memory.
    accumulate: int = 1
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    # (defect, N): its rows are drawn N times an epoch. For a defect that is harder than the others, or rarer.
    repeat: tuple[tuple[str, int], ...] = ()
    sampler: str = SamplingConfig.sampler
    shuffle_rows: int = SamplingConfig.shuffle_rows
    log_every: int = 20
    checkpoint_every: int = 500
    # Checkpoints kept. Raise it to go further back than the last few.
    keep: int = 2
    grid_every: int = 500
    # Share of the training split's photos that are held back to choose the best step, or thresholds. Raise it if
    # defects have few photos (see `generator.validation.LEAST_FOR_FID`); 0 trains on all photos and chooses nothing.
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


def describe(settings: LoopSettings) -> Mapping[str, Any]:
    """Return the settings as JSON values, without locations on this machine."""
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in asdict(settings).items()
        if name not in ("output", "fid_weights", "making")
    }
