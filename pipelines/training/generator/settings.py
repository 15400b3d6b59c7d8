"""Settings of a generator's training: everything that decides its result, besides the data."""

from dataclasses import dataclass, replace

from model.config import FITS, SIDE_MULTIPLE, require, require_choice
from model.recipes import MethodConfig
from pipelines.contracts.label_map import LabelMap
from pipelines.shards.reading import Decoding, Making
from pipelines.training.feed.order import SamplingConfig
from pipelines.training.settings import LoopSettings

#: With smaller images, the deepest feature maps would be too small for the padding and the strides.
SMALLEST_SIDE = 32


@dataclass(frozen=True, kw_only=True)
class TrainSettings(LoopSettings):
    """Hold the settings of a generator's training."""

    method: MethodConfig
    validate_every: int = 2000
    # `letterbox` keeps an image's aspect ratio and fills the square with white: for data with very different shapes, or
    # if tilts must be judged. `stretch` is the paper's choice: the image fills the square.
    fit: str = "stretch"
    # Decay per update of a running average of the generator; validation and the bundle then use the average. 0: none.
    ema: float = 0.0
    # torch.compile the networks. Takes minutes at the start: for long trainings on GPUs.
    compile: bool = False
    # How pairs are made anew in every epoch, if the data asks for it; set by `training.plan.find_making`.
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
