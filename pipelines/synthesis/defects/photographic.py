"""Faults of the camera and of storage: blur, too little light, too few pixels.

Severity, with lengths as shares of the longer side, so that a picture looks equally bad at every size:

- blur: Gaussian sd 0.5 to 1.4 %, defocus disc radius 0.7 to 2 %, camera shake 2 to 6 % long. At 384 pixels that is
  2 to 8 pixels of radius: labels become unreadable, then seams vanish; less is not visible in a shop's list.
- dark exposure: 1 to 3 stops too little. A meter assumes 18 % grey, and a product on white reflects some 90 %: an
  automatic exposure is log2(90 / 18) = 2.3 stops too dark.
- low resolution: 1 / 2.5 to 1 / 6 of the pixels a side, 64 to 154 of 384: the size of thumbnails, which sellers save
  and upload as photos; JPEG quality 15 to 50 at that size, as messengers and old shops store them.

All leave a little noise of the sensor, which no lens blurs, or of storage. It is also the visible change on pictures of
one flat tone.
Light is added in linear light (IEC 61966-2-1), as in cameras.
"""

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Ranges of `blur`; see the module's docstring. Each is at least MIN_REACH pixels.
SOFT_SD, DEFOCUS_RADIUS, SHAKE_LENGTH = (0.005, 0.014), (0.007, 0.02), (0.02, 0.06)
MIN_REACH = 1.0
#: sd of the remaining noise, in levels of 255.
RESIDUAL_NOISE = (0.8, 2.5)

#: Noise from storing the enlarged picture once more, sd in levels of 255.
RESAVED_NOISE = 0.8

#: Stops of missing light, and the contrast curve's exponent on the encoded levels.
MISSING_STOPS, CONTRAST = (1.0, 3.0), (1.0, 1.3)
#: Variance of a photon counter's signal x in [0, 1]: SHOT * x + READ ** 2 (Foi et al., 2008, Poisson and Gauss).
SHOT, READ = (0.0002, 0.0012), (0.0008, 0.0025)
#: Lamps at home are warmer than daylight: gain of red, and loss of blue.
WARMTH = (-0.04, 0.14)
#: Share by which light falls off towards one side, at most.
FALL_OFF = (0.0, 0.4)

#: Reduction of the sides, JPEG quality at the small size, and smallest side in pixels.
REDUCTION, QUALITY, MIN_SIDE = (2.5, 6.0), (15, 51), 4


def blur(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add softness, defocus or camera shake, with equal probability; uint8 (H, W, 3) -> a new uint8 (H, W, 3)."""
    from scipy.signal import oaconvolve  # one second of every training worker's start, which rarely blurs

    longer = max(image.shape[:2])
    kind = int(rng.integers(3))
    reach = float(rng.uniform(*(SOFT_SD, DEFOCUS_RADIUS, SHAKE_LENGTH)[kind])) * longer
    if kind == 0:
        kernel = _gaussian(max(MIN_REACH, reach))
    elif kind == 1:
        kernel = _disc(max(1.5 * MIN_REACH, reach))
    else:
        kernel = _shake(max(4 * MIN_REACH, reach), rng)
    pad = kernel.shape[0] // 2
    light = np.pad(_LINEAR[image], ((pad, pad), (pad, pad), (0, 0)), mode="symmetric")
    blurred = oaconvolve(light, kernel[..., None], mode="valid", axes=(0, 1))
    return _to_bytes(_encoded(blurred), float(rng.uniform(*RESIDUAL_NOISE)), rng)


def dark_exposure(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Reduce the light by one to three stops, as from a warm lamp, and add the noise of a sensor in low light.

    Maps uint8 (H, W, 3) to a new uint8 (H, W, 3).
    """
    height, width = image.shape[:2]
    gain = 2.0 ** -float(rng.uniform(*MISSING_STOPS))
    warmth = float(rng.uniform(*WARMTH))
    light = _LINEAR[image] * np.array([1 + warmth, 1.0, 1 - warmth], dtype=np.float32) * np.float32(gain)
    light *= _fall_off(height, width, rng)[..., None]
    shot, read = float(rng.uniform(*SHOT)), float(rng.uniform(*READ))
    light += np.sqrt(np.float32(shot) * light + np.float32(read**2)) * rng.standard_normal(
        light.shape, dtype=np.float32
    )
    levels = _encoded(light) ** np.float32(rng.uniform(*CONTRAST))
    return np.rint(levels * 255).astype(np.uint8)


def low_resolution(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Reduce, compress and enlarge again; uint8 (H, W, 3) -> a new uint8 (H, W, 3)."""
    height, width = image.shape[:2]
    reduction = float(rng.uniform(*REDUCTION))
    small = Image.fromarray(image).resize(
        (max(MIN_SIDE, round(width / reduction)), max(MIN_SIDE, round(height / reduction))),
        (Image.Resampling.BOX, Image.Resampling.BICUBIC)[int(rng.integers(2))],
    )
    noisy = _to_bytes(
        np.asarray(small, dtype=np.float32) / np.float32(255), 1.0 + float(rng.uniform(*RESIDUAL_NOISE)), rng
    )
    stored = io.BytesIO()
    Image.fromarray(noisy).save(stored, "JPEG", quality=int(rng.integers(*QUALITY)))  # 4:2:0, as phones do
    methods = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.NEAREST)
    method = methods[int(rng.choice(3, p=(0.5, 0.35, 0.15)))]
    with Image.open(stored) as shrunk:
        enlarged = np.asarray(shrunk.resize((width, height), method), dtype=np.float32) / np.float32(255)
    return _to_bytes(enlarged, RESAVED_NOISE, rng)


def _gaussian(sd: float) -> NDArray[np.float32]:
    """Return a Gaussian kernel (K, K) of sum 1, cut at 3 sd."""
    reach = math.ceil(3 * sd)
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sd) ** 2)
    return _normalised(np.outer(line, line))


def _disc(radius: float) -> NDArray[np.float32]:
    """Return the image of a round aperture, a kernel (K, K) of sum 1 with a smooth rim."""
    reach = math.ceil(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return _normalised(np.clip(radius + 0.5 - np.hypot(x, y), 0, 1))


def _shake(length: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the path of an unsteady hand, a kernel (K, K) of sum 1: nearly straight, slightly bent."""
    steps = 16 + 4 * int(length)
    heading = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, 1.2 / math.sqrt(steps), steps))
    path = np.cumsum(np.stack([np.sin(heading), np.cos(heading)]), axis=1) * (length / steps)
    path -= path.mean(axis=1, keepdims=True)
    reach = math.ceil(length / 2) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    corner = np.floor(path).astype(int)
    rest = path - corner
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):  # each point is shared by its four pixels
        share = np.abs(1 - down - rest[0]) * np.abs(1 - right - rest[1])
        np.add.at(kernel, (corner[0] + down + reach, corner[1] + right + reach), share)
    return _normalised(kernel)


def _normalised(kernel: NDArray[np.float64]) -> NDArray[np.float32]:
    return (kernel / kernel.sum()).astype(np.float32)


def _fall_off(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return 1 on the lamp's side, less on the other: float32 (H, W)."""
    toward, loss = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(*FALL_OFF))
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :] * np.float32(math.cos(toward))
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None] * np.float32(math.sin(toward))
    return np.clip(1.0 - np.float32(loss) * (x + y + np.float32(0.5)), 0, 1)


def _to_bytes(levels: NDArray[np.float32], noise: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return uint8 of float32 (H, W, 3) in [0, 1] with noise of `noise` levels of 255, half common to the channels."""
    height, width = levels.shape[:2]
    grain = rng.standard_normal((height, width, 1), dtype=np.float32)
    grain = grain + rng.standard_normal((height, width, 3), dtype=np.float32)
    noisy = levels * np.float32(255) + grain * np.float32(noise / math.sqrt(2))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _encoded(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return sRGB levels in [0, 1] of linear light, clipped to [0, 1]."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** np.float32(1 / 2.4) - 0.055).astype(
        np.float32
    )


_LEVELS = np.arange(256) / 255
#: Linear light in [0, 1] of the 256 levels.
_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4).astype(np.float32)
