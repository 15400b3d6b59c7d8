"""Watermarks: semi-transparent lettering or logos over product and background alike, as sellers add them.

Severity. Opacity 0.15 to 0.5 is that of the synthesis in Li et al. (2022): fainter marks are overlooked by buyers and
detectors alike, more opaque ones leave too little of what is beneath. A single mark is 0.4 to 1.0 of the picture's
width, tiled ones 0.2 to 0.45. Smaller ones can be cropped off or retouched in a minute, so sellers do not use them.
"""

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from pipelines.synthesis.defects.marks import lettering_mark, logo_mark, logo_with_name

#: Opacity of a watermark, as in the paper's synthesis.
MIN_OPACITY, MAX_OPACITY = 0.15, 0.5
#: Least opacity on a busy pattern, on which a fainter mark is invisible; and the mean difference of neighbouring
#: pixels, levels of 255 at about 128 pixels a side, on plain cloth and on busy patterns.
BUSY_OPACITY, PLAIN, BUSY = 0.32, 10.0, 30.0
#: A watermark is tilted by at most this many degrees to either side; from corner to corner it may be more.
MAX_LEAN_DEGREES = 45.0
#: Levels of 255 from which a change is visible on a textured product, and the share of the mark that must be visible.
VISIBLE_LEVELS, VISIBLE_SHARE = 24.0, 0.6
#: Weights of the channels in brightness (ITU-R BT.601).
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
#: A pixel with a channel below this is product or background, not the white of a product picture.
WHITE = 240
#: Least share of the picture that a mark covers; a smaller mark is drawn again.
MIN_COVERED = 0.006
ATTEMPTS = 8
#: Smallest side of pictures whose marks may be embossed: strokes of one pixel would be nothing but rim.
MIN_EMBOSSED = 128

Colour = tuple[int, int, int]


def add_watermark(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Overlay one large or many tiled marks, lettering or a drawn logo, over product and background alike.

    image: uint8 (H, W, 3). Returns a new uint8 (H, W, 3); each pixel moves towards the mark's colours by at most
    MAX_OPACITY. The tone is chosen so that the mark is visible on the product, too: no white on white products, no
    black on black ones. If no single tone is visible, letters get a rim of the opposite tone.
    """
    height, width = image.shape[:2]
    core = mark_coverage(width, height, rng)
    under = _Sampled.under(image, core)
    faintest = MIN_OPACITY + (BUSY_OPACITY - MIN_OPACITY) * under.busy
    opacity = float(rng.uniform(faintest, MAX_OPACITY))
    tone, is_visible = _visible_tone(under, opacity, rng)
    ink = Image.new("RGB", core.size, tone)
    covered = core
    style = float(rng.random())
    if not is_visible or style < 0.2:
        covered = _with_rim(core, rng)
        ink.paste(_opposite(tone), (0, 0), ImageChops.invert(core))
    elif style < 0.4 and min(height, width) >= MIN_EMBOSSED:
        _emboss(ink, core, tone)
    marked = Image.fromarray(image)
    marked.paste(ink, (0, 0), covered.point([round(level * opacity) for level in range(256)]))
    return np.array(marked)


def mark_coverage(width: int, height: int, rng: np.random.Generator, tiled: bool = True) -> Image.Image:
    """Return the mark's coverage: a picture of the photo's size (mode L) that reaches 255 and covers MIN_COVERED of it.

    tiled: include layouts with small marks all over the picture.
    """
    layouts: tuple[Callable[[Image.Image, np.random.Generator], None], ...]
    layouts = (_single, _single, _single, *((_tiles,) * 3 if tiled else ()), _diagonal, _band)
    for _ in range(ATTEMPTS):
        canvas = Image.new("L", (width, height), 0)
        layouts[int(rng.integers(len(layouts)))](canvas, rng)
        brightest = int(np.asarray(canvas).max())
        if 0 < brightest < 255:  # letters of one or two pixels
            gain = 255 / brightest
            canvas = canvas.point([round(level * gain) for level in range(256)])
        if (np.asarray(canvas) > 127).mean() >= MIN_COVERED:
            return canvas
    ImageDraw.Draw(canvas).ellipse(
        (width // 4, height // 4, width - width // 4, height - height // 4), fill=255
    )
    return canvas


def _lean(rng: np.random.Generator) -> float:
    """Return degrees, counter-clockwise; many sellers do not tilt their mark at all."""
    return 0.0 if rng.random() < 0.2 else float(rng.uniform(-MAX_LEAN_DEGREES, MAX_LEAN_DEGREES))


def _turned(stamp: Image.Image, degrees: float) -> Image.Image:
    return stamp.rotate(degrees, Image.Resampling.BICUBIC, expand=True)


def _single(canvas: Image.Image, rng: np.random.Generator) -> None:
    """Draw one large mark, usually near the centre, where it cannot be cropped off without the product."""
    width, height = canvas.size
    kind = float(rng.random())
    if kind < 0.5:
        stamp = lettering_mark(width * rng.uniform(0.5, 1.0), rng)
    elif kind < 0.75:
        stamp = logo_mark(min(width, height) * rng.uniform(0.35, 0.75), rng)
    else:
        stamp = logo_with_name(min(width, height) * rng.uniform(0.4, 0.8), rng)
    stamp = _turned(stamp, _lean(rng))
    x = width * float(np.clip(rng.normal(0.5, 0.08), 0.35, 0.65)) - stamp.width / 2
    y = height * float(np.clip(rng.normal(0.5, 0.13), 0.22, 0.78)) - stamp.height / 2
    canvas.paste(255, (round(x), round(y)), stamp)


def _tiles(canvas: Image.Image, rng: np.random.Generator) -> None:
    """Draw the same small mark in staggered rows over the whole picture, sometimes with lines between them."""
    width, height = canvas.size
    kind, lean = float(rng.random()), _lean(rng)
    if kind < 0.65:
        stamp = lettering_mark(width * rng.uniform(0.22, 0.45), rng)
    elif kind < 0.85:
        stamp = logo_mark(min(width, height) * rng.uniform(0.12, 0.24), rng)
    else:
        stamp = logo_with_name(min(width, height) * rng.uniform(0.2, 0.35), rng)
    stamp = _turned(stamp, lean)
    step_x = max(8, int(stamp.width * rng.uniform(1.05, 1.6)))
    step_y = max(8, int(stamp.height * rng.uniform(1.1, 2.2)))
    start_x, start_y = int(rng.integers(step_x)), int(rng.integers(step_y))
    for row in range(-1, height // step_y + 2):
        shift = (row % 2) * step_x // 2
        for column in range(-2, width // step_x + 2):
            canvas.paste(255, (column * step_x + shift - start_x, row * step_y - start_y), stamp)
    if rng.random() < 0.15:
        _lattice(canvas, max(step_x, step_y), lean)


def _lattice(canvas: Image.Image, step: int, lean: float) -> None:
    """Draw thin crossing lines, as in stock photos."""
    width, height = canvas.size
    draw = ImageDraw.Draw(canvas)
    thick = max(1, min(width, height) // 300)
    reach = width + height
    slope = math.tan(math.radians(45.0 if abs(lean) < 15 else abs(lean)))
    for start in range(-reach, reach, max(12, step)):
        draw.line((start, 0, start + reach, reach * slope), fill=255, width=thick)
        draw.line((start, height, start + reach, height - reach * slope), fill=255, width=thick)


def _diagonal(canvas: Image.Image, rng: np.random.Generator) -> None:
    """Draw lettering from corner to corner."""
    width, height = canvas.size
    lean = math.degrees(math.atan2(height, width)) * (1.0 if rng.random() < 0.7 else -1.0)
    stamp = _turned(lettering_mark(math.hypot(width, height) * rng.uniform(0.6, 0.85), rng), lean)
    canvas.paste(255, ((width - stamp.width) // 2, (height - stamp.height) // 2), stamp)


def _band(canvas: Image.Image, rng: np.random.Generator) -> None:
    """Draw a translucent stripe across the middle, with the lettering cut out of it."""
    width, height = canvas.size
    words = lettering_mark(width * rng.uniform(0.5, 0.85), rng)
    pad = max(1, round(words.height * rng.uniform(0.3, 0.7)))
    stripe = Image.new("L", (2 * (width + height), words.height + 2 * pad), 255)
    stripe.paste(0, ((stripe.width - words.width) // 2, pad), words)
    stripe = _turned(stripe, 0.0 if rng.random() < 0.6 else float(rng.uniform(-30, 30)))
    down = round(height * rng.uniform(0.35, 0.65)) - stripe.height // 2
    canvas.paste(255, ((width - stripe.width) // 2, down), stripe)


def _with_rim(core: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return the mark made wider by a rim, all round or, as a shadow, to the lower right."""
    reach = 1 + min(core.size) // 260
    if rng.random() < 0.5:
        return core.filter(ImageFilter.MaxFilter(2 * min(reach, 3) + 1))
    shadow = Image.new("L", core.size, 0)
    shadow.paste(core, (reach, reach))
    return ImageChops.lighter(core, shadow)


def _emboss(ink: Image.Image, core: Image.Image, tone: Colour) -> None:
    """Darken the lower right rim of the strokes."""
    offset = 1 + int(min(core.size) > 300)
    shade = Image.new("L", core.size, 0)
    shade.paste(core, (-offset, -offset))
    ink.paste(tuple(channel // 4 for channel in tone), (0, 0), ImageChops.invert(shade))


def _opposite(tone: Colour) -> Colour:
    """Return white for dark tones, nearly black for bright ones."""
    return (255, 255, 255) if sum(tone) < 384 else (20, 20, 20)


def _tones(rng: np.random.Generator) -> list[Colour]:
    """Return white, black, a grey and a colour, in random order."""
    hue = colorsys.hsv_to_rgb(
        float(rng.random()), float(rng.uniform(0.6, 1.0)), float(rng.uniform(0.35, 0.95))
    )
    grey = int(rng.integers(70, 170))
    coloured = (int(hue[0] * 255), int(hue[1] * 255), int(hue[2] * 255))
    tones: list[Colour] = [(255, 255, 255), (0, 0, 0), (grey, grey, grey), coloured]
    return [tones[int(index)] for index in rng.permutation(len(tones))]


@dataclass(frozen=True)
class _Sampled:
    """A sample of the pixels under a mark, large enough to choose its tone."""

    levels: NDArray[np.int16]  # (N, 3)
    goods: NDArray[np.bool_]  # (N,): not the white of a product picture
    busy: float  # busyness of their pattern, in [0, 1]

    @classmethod
    def under(cls, image: NDArray[np.uint8], core: Image.Image) -> "_Sampled":
        stride = max(1, min(image.shape[:2]) // 128)
        for step in (stride, 1):  # thin strokes may fall between the samples
            where = np.asarray(core)[::step, ::step] > 127
            if where.any():
                break
        pixels = image[::step, ::step].astype(np.int16)
        levels = pixels[where]
        goods = levels.min(axis=-1) < WHITE
        beside = np.abs(pixels - np.roll(pixels, 1, axis=1)).mean(axis=-1)[where]
        detail = float(beside[goods].mean()) if goods.any() else 0.0
        return cls(levels, goods, float(np.clip((detail - PLAIN) / (BUSY - PLAIN), 0, 1)))

    def visible_change(self, tone: Colour, opacity: float) -> float:
        """Return the change in levels that VISIBLE_SHARE of the pixels reach, on the product or beside it, whichever is
        less.

        A colour is visible by its brightness and by the channel that differs most: yellow is hardly visible on white.
        """
        difference = np.abs(self.levels - np.array(tone, dtype=np.int16))
        brightness = np.abs((self.levels - np.array(tone, dtype=np.int16)) @ LUMA)
        change = opacity * (difference.max(axis=-1) + brightness) / 2
        parts = [change[part] for part in (self.goods, ~self.goods) if part.mean() > 0.1]
        return min(float(np.quantile(part, 1.0 - VISIBLE_SHARE)) for part in parts)


def _visible_tone(under: _Sampled, opacity: float, rng: np.random.Generator) -> tuple[Colour, bool]:
    """Return a tone in which the mark is visible on this picture, or the most visible one; and whether it is."""
    best, most = (0, 0, 0), -1.0
    for tone in _tones(rng):
        change = under.visible_change(tone, opacity)
        if change >= VISIBLE_LEVELS:
            return tone, True
        if change > most:
            best, most = tone, change
    return best, False
