"""Runs a bundle's generator on a device: turns images of its input size into edits, in passes of a fixed size."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from model.edits import Edit
from model.precision import autocast, choose_precision, memory_format
from pipelines.cluster.memory import keep_freed_memory
from pipelines.images.fit import inner_slices, squared
from pipelines.images.pixels import to_tensor
from pipelines.inference.bundles import check_unchanged, read_bundle


class GeneratorPass:
    """Run a generator in passes of exactly `size` images; the last pass is filled up with repetitions.

    Convolutions choose their algorithm by the batch's size. Without this, an image's edit would depend on its
    neighbours.
    """

    def __init__(
        self, uri: str | None, flag: str, version: str, device: torch.device, precision: str, size: int
    ) -> None:
        """Load the generator.

        uri: the bundle's, or None for the starter. flag: named in messages. version: the bundle's expected version.
        precision: see `model.precision`. Raises BundleError if the bundle no longer has that version.
        """
        if device.type == "cpu":
            keep_freed_memory()
        bundle = read_bundle(uri, flag)
        check_unchanged(bundle.version, version, f"{flag} {uri or 'starter'}")
        chosen = choose_precision(precision, device)
        self.size = size
        self.side = bundle.image_size
        self.fit = bundle.fit
        generator = bundle.generator.for_inference()
        self._device, self._layout = device, memory_format(chosen, device, generator)
        self.generator = generator.to(device).to(memory_format=self._layout)
        self._autocast = autocast(device, chosen)

    @torch.inference_mode()
    def __call__(
        self, images: Sequence[np.ndarray], conditions: Sequence[tuple[int, int]]
    ) -> tuple[list[Edit], list[bool]]:
        """Return the edits of 1 to `size` images, one per image and on the CPU, and whether each is finite.

        images: uint8 (h,w,3) each, made by `pipelines.images.fit.fit_inside` with `side` and `fit`. conditions: their
        (group id, type id). An edit has its image's size: it covers the upload, not the square around it.
        """
        count = len(images)
        full = [*range(count), *[count - 1] * (self.size - count)]
        x = to_tensor(np.stack([squared(images[index], self.side) for index in full]), self._device)
        ids = torch.tensor([conditions[index] for index in full], device=self._device)
        edit = self.edit(x, ids[:, 0], ids[:, 1])
        edit = Edit(*(part[:count].float().cpu() for part in edit))
        finite = torch.stack([part.flatten(1).isfinite().all(dim=1) for part in edit]).all(dim=0)
        edits = [
            _within(Edit(*(part[index : index + 1] for part in edit)), image.shape[0], image.shape[1])
            for index, image in enumerate(images)
        ]
        return edits, finite.tolist()

    @torch.inference_mode()
    def edit(self, images: Tensor, groups: Tensor, types: Tensor) -> Edit:
        """Return the network's edit of (size,3,side,side), -1..1, under labels (size,) int64, all on the device."""
        with self._autocast():
            return self.generator.edit(images.contiguous(memory_format=self._layout), groups, types)


def _within(edit: Edit, height: int, width: int) -> Edit:
    """Cut a square's edit to the image of (height, width) inside it (`pipelines.images.fit.inner_slices`)."""
    side = edit.matte.shape[-1]
    if (height, width) == (side, side):
        return edit
    rows, columns = inner_slices(height, width, side)
    # On -1..1 the square's coordinates are `scale` times the image's, plus `shift`; theta maps within the square.
    scale = torch.tensor([width, height], dtype=torch.float64) / side
    shift = (
        torch.tensor([columns.start + columns.stop, rows.start + rows.stop], dtype=torch.float64) / side - 1
    )
    linear, offset = edit.theta.double().split([2, 1], dim=2)
    moved = (linear @ shift[:, None] + offset - shift[:, None]) / scale[:, None]
    # An identity must stay exactly the identity, so that pixels keep their bytes.
    is_identity = torch.equal(edit.theta, torch.eye(2, 3)[None])
    theta = edit.theta if is_identity else torch.cat([linear * scale / scale[:, None], moved], dim=2).float()
    return Edit(theta, edit.content[..., rows, columns], edit.matte[..., rows, columns])
