"""A pool of generated images, of which a discriminator sees earlier ones too (Shrivastava et al., 2017)."""

from typing import Any

import torch
from torch import Tensor, nn


class ImagePool(nn.Module):
    """Keeps up to `size` images. Its content is part of the state; its draws come from torch's global CPU generator."""

    def __init__(self, size: int) -> None:
        """size: 0 passes every image through."""
        super().__init__()
        self.size = size
        self.images: list[Tensor] = []

    def forward(self, fakes: Tensor) -> Tensor:
        """For each of fakes (B, 3, S, S): itself, or, once the pool is full, half of the time an earlier one.

        The fake then takes the earlier one's place. Same shape back.
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
        """The images, for `state_dict`; on the CPU, for they travel to another process, which may lack the device."""
        return {"images": [image.cpu() for image in self.images]}

    def set_extra_state(self, state: Any) -> None:
        """Take over the images of `get_extra_state`."""
        self.images = [image.clone() for image in state["images"]]
