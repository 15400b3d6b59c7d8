"""The effects of a camera on a scene: exposure, fall-off, vignetting, white balance, noise."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Camera:
    """Light, white balance and noise of one photo, which product and background share."""

    light: np.ndarray  # float32 (H, W): exposure, fall-off to one side, vignetting
    noise: np.ndarray  # float32 (H, W)
    balance: np.ndarray  # float32 (3,)

    @classmethod
    def draw(cls, height: int, width: int, rng: np.random.Generator) -> "Camera":
        x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        fall = np.float32(rng.uniform(0.0, 0.08)) * (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1))
        distance = x * x + y * y
        vignette = 1.0 - np.float32(rng.uniform(0.02, 0.14) / 4) * distance * distance
        exposure, warmth = rng.uniform(0.94, 1.05), rng.normal(0, 0.025)
        noise = rng.standard_normal((height, width), dtype=np.float32) * np.float32(
            rng.uniform(0.5, 2.4) / 255
        )
        balance = np.array([1 + warmth, 1.0, 1 - warmth], dtype=np.float32)
        return cls((1.0 + fall) * vignette * exposure, noise, balance)

    def take(
        self, picture: np.ndarray, window: tuple[slice, slice] = (slice(None), slice(None))
    ) -> np.ndarray:
        """Return the part of the scene in `window`, float32 (h, w, 3), as this camera shows it, in [0, 1]."""
        photo = picture * self.light[window][..., None]
        photo *= self.balance
        photo += self.noise[window][..., None]
        return np.clip(photo, 0, 1, out=photo)
