"""Generators whose answer is an edit, under two labels: where to move pixels, what to paint, and where."""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from model.config import GeneratorConfig
from model.edits import Edit, blend, identity_theta, warp
from model.layers import ImageGenerator

#: Side of the grid to which the geometry head pools features. Global pooling would lose orientation.
GEOMETRY_GRID = 8


#: Factor for black and white, whose inverse hyperbolic tangent is infinite; it moves them by a quarter level of 255.
NEARLY = 0.998


class Answer(NamedTuple):
    """The network's answer for images, in the frame of the moved image.

    content: (B, 3, S, S) in [-1, 1]. matte: (B, 1, S, S) in [0, 1], or None if the content is the whole picture. theta:
    (B, 2, 3) float32, or None if nothing moves.
    """

    content: Tensor
    matte: Tensor | None
    theta: Tensor | None


class GeometryHead(nn.Module):
    """Maps features to an affine map near the identity (spatial transformer; extension, not in the paper)."""

    def __init__(self, layers: list[nn.Module], channels: int) -> None:
        """layers: reduce the features to about the grid's size; channels: number of the layers' output channels."""
        super().__init__()
        self.convolutions = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(GEOMETRY_GRID))
        self.linear = nn.Linear(channels * GEOMETRY_GRID**2, 6)
        # Adam changes every weight by the learning rate, and thousands of changes add up here. Without the scale, one
        # step moved the product out of the frame and training did not recover (equalised learning rate, Karras et al.,
        # 2018).
        self.scale = self.linear.in_features**-0.5

    def forward(self, features: Tensor) -> Tensor:
        """Return theta (B, 2, 3) float32 of features (B, c, h, w); the identity while the linear layer is zero."""
        pooled = self.convolutions(features)
        # With 8 bits of mantissa a map misplaces the far edge of a large photo by pixels, so use float32 under
        # autocast.
        with torch.autocast(features.device.type, enabled=False):
            # Bounded: the diagonal stays positive, so that no map mirrors the product left to right or upside down.
            offset = torch.tanh(self.linear(pooled.float().flatten(1)) * self.scale).view(-1, 2, 3)
        return identity_theta(len(features), features.device) + offset


class EditingGenerator(ImageGenerator):
    """Base of `Generator` and `PretrainedUNet`: turns an answer into an image, or into an edit for any resolution."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        # A lookup table on the module's device: True for groups that may move the image.
        geometric = torch.zeros(max(config.n_groups, 1), dtype=torch.bool)
        geometric[list(config.geometric_groups)] = True
        self.register_buffer("geometric", geometric, persistent=False)

    def answer(self, image: Tensor, group: Tensor, type_: Tensor) -> Answer:
        """Return the network's answer. Arguments as in `forward`."""
        raise NotImplementedError

    def movable(self, group: Tensor) -> Tensor:
        """Return (B, 1, 1, 1) bool: True if the group may move the image."""
        return cast(Tensor, self.geometric)[group][:, None, None, None]

    def allowed_theta(self, theta: Tensor, group: Tensor) -> Tensor:
        """Return theta (B, 2, 3), replaced by the identity if the group may not move the image."""
        return torch.where(self.movable(group)[:, 0], theta, identity_theta(len(theta), theta.device))

    def render(self, image: Tensor, group: Tensor, answer: Answer) -> Tensor:
        """Apply an answer to its image (B, 3, S, S): move it (outside is white), then paint. Float32, in [-1, 1]."""
        if answer.matte is None:
            return answer.content
        image = image.float()
        if answer.theta is not None:
            image = torch.where(self.movable(group), warp(image, answer.theta, outside=1.0), image)
        return blend(image, answer.content, answer.matte)

    def forward(self, image: Tensor, group: Tensor, type_: Tensor) -> Tensor:
        """Translate image (B, 3, S, S) RGB in [-1, 1] under group and type labels (B,) int64; same shape, float32.

        Labels whose vocabulary is 0 are ignored. Raises ConfigurationError for sides that the network cannot halve
        often enough.
        """
        return self.render(image, group, self.answer(image, group, type_))

    def edit(self, image: Tensor, group: Tensor, type_: Tensor) -> Edit:
        """Translate into an `Edit`: `apply_edit(image, edit)` equals `forward`. Arguments as in `forward`."""
        content, matte, theta = self.answer(image, group, type_)
        if matte is None:
            # The direct head repaints everything in the moved frame, so nothing of the input remains to be moved.
            matte, theta = torch.ones_like(content[:, :1]), None
        if theta is None:
            theta = identity_theta(len(image), image.device)
        return Edit(theta, content, matte)


def split_head(out: Tensor, head: str, start: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Return content (B, 3, S, S) in [-1, 1] and, for a `blend` head, matte (B, 1, S, S) in [0, 1].

    out: output of the last convolution (B, 3 or 4, S, S). start: image (B, 3, S, S) in [-1, 1] that the content equals
    where `out` is 0; None: grey.
    """
    out = out.float()
    content = out[:, :3]
    if start is not None:
        content = content + torch.atanh(start.float() * NEARLY)
    return torch.tanh(content), torch.sigmoid(out[:, 3:]) if head == "blend" else None
