"""A bundle's generator on a device: images of its own size to edits, in passes that are always full."""

from collections.abc import Sequence

import numpy as np
import torch

from model.edits import Edit
from model.precision import autocast, choose_precision, memory_format
from pipelines.bundles import check_unchanged, read_bundle
from pipelines.pixels import to_tensor


class GeneratorPass:
    """Every pass takes exactly `size` images, the last one filled up with repetitions: convolutions choose their
    algorithm by the batch's size, so an image's answer would otherwise depend on its neighbours.
    """

    def __init__(
        self, uri: str | None, flag: str, version: str, device: torch.device, precision: str, size: int
    ) -> None:
        """Load the generator.

        uri: of the bundle, None for the starter; flag: where it comes from, for messages. version: what the bundle must
        be. precision: as `model.precision` takes it. Raises BundleError where the bundle is not of that version any
        more.
        """
        bundle = read_bundle(uri, flag)
        check_unchanged(bundle.version, version, f"{flag} {uri or 'starter'}")
        chosen = choose_precision(precision, device)
        self.size = size
        self.side: int = bundle.config["image_size"]
        self._device, self._layout = device, memory_format(chosen)
        self.generator = bundle.generator.to(device).to(memory_format=self._layout)
        self._autocast = autocast(device, chosen)

    @torch.inference_mode()
    def __call__(
        self, images: Sequence[np.ndarray], conditions: Sequence[tuple[int, int]]
    ) -> tuple[Edit, list[bool]]:
        """The edits of 1 to `size` images, and whether each is finite throughout.

        images: uint8 (side,side,3) each; conditions: their (group id, type id).
        """
        count = len(images)
        full = [*range(count), *[count - 1] * (self.size - count)]
        x = to_tensor(np.stack([images[index] for index in full]), self._device)
        ids = torch.tensor([conditions[index] for index in full], device=self._device)
        with self._autocast():
            edit = self.generator.edit(x.contiguous(memory_format=self._layout), ids[:, 0], ids[:, 1])
        edit = Edit(*(part[:count] for part in edit))
        finite = torch.stack([part.flatten(1).isfinite().all(dim=1) for part in edit]).all(dim=0)
        return edit, finite.tolist()
