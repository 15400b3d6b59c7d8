"""Find the product by a network: turn photos into its input and its output into masks, whatever runs it."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.errors import RunError
from pipelines.images.resize import resize_bicubic
from pipelines.saliency.preprocessing import Preprocessing
from pipelines.saliency.protocol import check_photos

#: A network: takes float32 (B, 3, h, w), normalised, and returns its outputs, with masks (B, 1, h', w') or (B, h', w').
Runner = Callable[[NDArray[np.float32]], Sequence[NDArray[np.float32]]]

#: Side of the input if neither the network's file nor the JSON beside it gives one: U2-Net's.
DEFAULT_SIDE = 320
#: Photos in one pass. At 1024x1024 a pass of eight needs some gigabytes.
BATCH = 8
#: How far values may leave [0, 1] and still count as probabilities: by rounding, or by a filter that overshoots in the
#: export. If probabilities were taken for logits, the whole mask would lie between 0.5 and 0.73.
OVERSHOOT = 0.1


class NetworkSaliency:
    """Apply a network. Photos are stretched to its input (bicubic), masks back to the photos (bilinear)."""

    def __init__(self, runner: Runner, settings: Preprocessing) -> None:
        self._runner = runner
        self._settings = settings
        self._size = settings.size or (DEFAULT_SIDE, DEFAULT_SIDE)
        self._mean = np.array(settings.mean, np.float32)
        self._std = np.array(settings.std, np.float32)

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Return the photos' masks, see `Saliency`. Raises RunError if the network fails or does not return masks."""
        check_photos(images)
        masks: list[NDArray[np.float32]] = []
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            raw = self._masks(np.stack([self._input(image) for image in batch]))
            masks += [self._resized(mask, image.shape[:2]) for mask, image in zip(raw, batch, strict=True)]
        return masks

    def _input(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return one photo as (3, h, w), normalised."""
        height, width = self._size
        small = resize_bicubic(image, width, height).astype(np.float32) / np.float32(255)
        normal: NDArray[np.float32] = (small - self._mean) / self._std
        return normal.transpose(2, 0, 1)

    def _masks(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the network's raw masks (B, h', w') of (B, 3, h, w)."""
        outputs = self._runner(batch)
        try:
            masks = np.asarray(outputs[self._settings.output], np.float32)
        except IndexError as error:
            raise RunError(
                f"the saliency network has {len(outputs)} outputs, not number {self._settings.output}; "
                "set `output` in the JSON file beside it"
            ) from error
        if masks.ndim == 4 and masks.shape[1] == 1:
            masks = masks[:, 0]
        if masks.ndim != 3 or len(masks) != len(batch) or masks.size == 0:
            raise RunError(
                f"the saliency network answers {masks.shape} to {batch.shape}; masks are (B, 1, h, w) or (B, h, w)"
            )
        return masks

    def _resized(self, mask: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
        """Return a raw mask (h', w') with values in [0, 1] at `size` (height, width)."""
        if not np.isfinite(mask).all():
            raise RunError("the saliency network's output is not finite; check `mean`, `std` and the export")
        logits = self._settings.sigmoid
        if logits is None:
            logits = bool(mask.min() < -OVERSHOOT or mask.max() > 1 + OVERSHOOT)
        if logits:
            mask = 0.5 + 0.5 * np.tanh(0.5 * mask)  # the sigmoid, which does not overflow in this form
        if mask.shape != size:
            height, width = size
            mask = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.BILINEAR))
        return np.clip(mask, 0, 1)


def brief(error: Exception) -> str:
    """Return the first 300 characters of what a runtime complains about, on one line."""
    return " ".join(str(error).split())[:300]
