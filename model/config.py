"""Configuration of the networks, validated at construction. A setting's comment says when to change it."""

from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from model.errors import ConfigurationError

REDUCTIONS = ("sum", "sqrt", "mean")
INJECT_INITS = ("normal", "framework", "wide")
HEADS = ("direct", "blend")
GEOMETRIES = ("none", "affine")
ARCHITECTURES = ("resnet", "pretrained_unet", "unet", "resnet_blur")
#: Architectures that take labels, a blend head and a geometry head.
EDITING = ("resnet", "pretrained_unet")
CONDITIONS = ("none", "concat", "projection")
#: How an image is fitted to a generator's square input: see `pipelines.images.fit`.
FITS = ("stretch", "letterbox")

#: The ResNet generators halve their input twice, so sides must be multiples of this.
SIDE_MULTIPLE = 4
#: A pretrained encoder halves its input five times.
PRETRAINED_MULTIPLE = 32
#: Minimum and maximum number of times that the U-Net halves images; at 256 pixels 8 leave a bottleneck of one pixel.
SMALLEST_UNET, LARGEST_UNET = 5, 8


def require(condition: bool, message: str) -> None:
    """Raise ConfigurationError(message) unless `condition` holds."""
    if not condition:
        raise ConfigurationError(message)


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ConfigurationError unless `value` is one of `choices`."""
    require(value in choices, f"{name} is {value!r}; use one of {', '.join(choices)}")


@dataclass(frozen=True)
class GeneratorConfig:
    """Architecture of one generator (`resnet`: Li et al., 2022, on the ResNet of CycleGAN).

    n_groups, n_types: sizes of the two label vocabularies; 0 removes that injection (ablations "w/o g", "w/o g, eta").
    Only the architectures of EDITING take labels, heads and geometry.
    """

    n_groups: int
    n_types: int
    # Channels after the first convolution. 64 is the paper's; 32 is four times cheaper and enough at 128 pixels.
    # pretrained_unet: channels of the decoder at full size; at 1/16 it has eight times as many.
    width: int = 64
    # Residual blocks in total. 9 is usual at 256 pixels, 6 at 128.
    n_blocks: int = 9
    # Residual blocks between the group and the type injection. The paper says "several"; 0..n_blocks.
    n_before_eta: int = 4
    # How M becomes M': `sum` is the paper's. Use `sqrt` if labels dominate the skip path because M' is large.
    reduce: str = "sum"
    # N(0, 0.02) as everywhere else; `framework`, torch's default, which makes the type injection dominate early; or
    # `wide`, embeddings of N(0, 1) followed by N(0, 0.02), which separates labels from the first step on.
    inject_init: str = "normal"
    # `direct` is the paper's tanh image. `blend` adds a matte, so that untouched pixels pass through unchanged.
    head: str = "direct"
    # `affine` moves the image of `geometric_groups` before it is repainted, because convolutions cannot turn an object.
    geometry: str = "none"
    # Group ids whose defects are geometric; the transform is the identity for the others.
    geometric_groups: tuple[int, ...] = ()
    # `pretrained_unet` knows products from ImageNet: use it for fewer than some hundred thousand photos. `resnet` is
    # the paper's. `unet` is Pix2Pix's, `resnet_blur` MoNCE's (antialiased resampling): their recipes choose them.
    architecture: str = "resnet"
    # pretrained_unet: any backbone of timm with features at 1/8, 1/16 and 1/32. Choose a larger one, such as
    # tf_efficientnet_lite2, if the GPU has time to spare.
    encoder: str = "tf_efficientnet_lite0"
    # pretrained_unet: keep the statistics of the encoder's batch norms. Use False only if it starts from random
    # weights, or if batches are large and photos unlike those of ImageNet.
    freeze_norms: bool = True
    # unet: number of times that the image is halved; 2^n must divide its sides. 8 is Pix2Pix's at 256 pixels.
    n_downsamplings: int = LARGEST_UNET
    # unet: share of features dropped in training, in the innermost wide layers. Use 0 if there is much data.
    dropout: float = 0.5

    def __post_init__(self) -> None:
        require(self.n_groups >= 0 and self.n_types >= 0, "n_groups and n_types must not be negative")
        require(self.width >= 1, f"width is {self.width}; use 1 or more")
        require(self.n_blocks >= 0, f"n_blocks is {self.n_blocks}; use 0 or more")
        require(
            0 <= self.n_before_eta <= self.n_blocks,
            f"n_before_eta is {self.n_before_eta}; use 0..n_blocks ({self.n_blocks})",
        )
        require_choice("reduce", self.reduce, REDUCTIONS)
        require_choice("inject_init", self.inject_init, INJECT_INITS)
        require_choice("head", self.head, HEADS)
        require_choice("architecture", self.architecture, ARCHITECTURES)
        require(self.n_downsamplings >= 2, f"n_downsamplings is {self.n_downsamplings}; use 2 or more")
        require(0 <= self.dropout < 1, f"dropout is {self.dropout}; use 0 or more, below 1")
        require_choice("geometry", self.geometry, GEOMETRIES)
        object.__setattr__(self, "geometric_groups", tuple(self.geometric_groups))
        require(
            all(0 <= group < self.n_groups for group in self.geometric_groups),
            f"geometric_groups {self.geometric_groups} must be group ids below n_groups ({self.n_groups})",
        )
        require(
            (self.geometry == "none") == (not self.geometric_groups),
            "geometry='affine' needs geometric_groups, and geometry='none' must have none",
        )
        if self.architecture not in EDITING:
            require(
                self.n_groups == self.n_types == 0 and self.head == "direct" and self.geometry == "none",
                f"architecture {self.architecture!r} takes no labels, no other head and no geometry",
            )


def unet_depth(image_size: int) -> int:
    """Return the number of times that the U-Net halves images of this side: as many as possible, at most 8.

    Raises ConfigurationError for sides that cannot be halved five times.
    """
    depth = next((n for n in range(LARGEST_UNET, 0, -1) if image_size % 2**n == 0), 0)
    require(
        depth >= SMALLEST_UNET,
        f"image size {image_size}: a U-Net needs a multiple of {2**SMALLEST_UNET}; or choose architecture 'resnet'",
    )
    return depth


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Architecture of a PatchGAN: `n_layers` 3 and width 64 give the 70x70 receptive field of the method."""

    width: int = 64
    # Strided convolutions. 3 sees 70x70 pixels; 2 (34x34) suits images of 64 pixels and below.
    n_layers: int = 3
    # Whether D sees the type label. `none` is the paper's, and enough if real images are of the fake's own defect. Use
    # `concat` (planes beside the image) or `projection` (Miyato and Koyama, 2018) if realistic images of a wrong defect
    # are accepted.
    condition: str = "none"

    def __post_init__(self) -> None:
        require(self.width >= 1, f"discriminator width is {self.width}; use 1 or more")
        require(self.n_layers >= 1, f"discriminator n_layers is {self.n_layers}; use 1 or more")
        require_choice("condition", self.condition, CONDITIONS)


Config = TypeVar("Config")


def from_mapping(kind: type[Config], values: dict[str, Any], where: str) -> Config:
    """Return a configuration dataclass from JSON values. Raises ConfigurationError, naming `where`, for wrong keys."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    require(not unknown, f"{where}: unknown key {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigurationError(f"{where}: {error}") from error


def to_mapping(config: Any) -> dict[str, Any]:
    """Return the configuration as JSON-ready values."""
    return asdict(config)
