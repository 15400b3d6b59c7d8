"""A pool of generated images, from which a discriminator also sees earlier ones (Shrivastava et al., 2017)."""

from typing import Any

import torch
from torch import Tensor, nn


class ImagePool(nn.Module):
    """Keeps up to `size` images, which are part of the state. It draws from torch's global CPU generator."""

    def __init__(self, size: int) -> None:
        """size: number of images; 0 passes every image through."""
        super().__init__()
        self.size = size
        self.images: list[Tensor] = []

    def forward(self, fakes: Tensor) -> Tensor:
        """Return, for each of fakes (B, 3, S, S), the fake itself or, half of the time once the pool is full, an
        earlier one.

        The fake then replaces the earlier one in the pool. Same shape as the input.
        """
        if self.size == 0:
            return fakes
        return torch.stack([self._exchange(fake) for fake in fakes])

    def _exchange(self, fake: Tensor) -> Tensor:
        if len(self.images) < self.size:
            self.images.append(fake.clone())  # a view would keep its whole batch alive
            return fake
        if torch.rand(()) < 0.5:
            return fake
        index = int(torch.randint(self.size, ()))
        earlier, self.images[index] = self.images[index], fake.clone()
        return earlier.to(fake.device)

    def get_extra_state(self) -> Any:
        """Return the images for `state_dict`, on the CPU, because the process that loads them may lack the device."""
        return {"images": [image.cpu() for image in self.images]}

    def set_extra_state(self, state: Any) -> None:
        """Restore the images of `get_extra_state`."""
        self.images = [image.clone() for image in state["images"]]
