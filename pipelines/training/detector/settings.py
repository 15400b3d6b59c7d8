"""Settings of a detector's training: everything that decides its result, besides the data."""

from dataclasses import dataclass

from model.config import PRETRAINED_MULTIPLE, require
from model.detector.network import DetectorConfig
from pipelines.shards.reading import Making
from pipelines.shards.validation_part import DETECTOR_SHARE
from pipelines.training.detector.decoding import SampleDecoding
from pipelines.training.detector.samples import SampleConfig
from pipelines.training.settings import LoopSettings


@dataclass(frozen=True, kw_only=True)
class DetectorSettings(LoopSettings):
    """Hold the settings of a detector's training."""

    detector: DetectorConfig
    batch_size: int = 16  # rows, of two images each
    unknown: str = SampleConfig.unknown
    overlay: float = SampleConfig.overlay
    flip: bool = SampleConfig.flip
    # How pairs are made anew in every epoch, if the data asks for it; set by `training.plan.find_making`.
    making: Making | None = None
    validation_share: float = DETECTOR_SHARE
    validation_images: int = 1000
    # AdamW's. Raise it if the scores on held-back photos are much worse than on the trained ones.
    weight_decay: float = 0.05
    # Thresholds give the best F1 at this precision or more. Raise it if a wrong correction costs more than a defect
    # that stays.
    precision_target: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.image_size % PRETRAINED_MULTIPLE == 0,
            f"--image-size {self.image_size}: use a multiple of {PRETRAINED_MULTIPLE}",
        )
        target = self.precision_target
        require(0 <= target <= 1, f"--label-precision {target:g}: a share from 0 to 1, as 0.95")
        require(self.weight_decay >= 0, f"--weight-decay {self.weight_decay}: not below 0")
        _ = self.samples

    @property
    def samples(self) -> SampleConfig:
        """Return how samples are made."""
        return SampleConfig(self.detector.labels, self.image_size, self.unknown, self.overlay, self.flip)

    @property
    def decoding(self) -> SampleDecoding:
        """Return how rows become images, and what is drawn over them."""
        return SampleDecoding(self.samples, self.seed, self.making)
