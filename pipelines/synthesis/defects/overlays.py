"""Additions that sellers make on purpose: frames round the picture, and stickers, ribbons, banners and captions on it.

Severity. Frames are 2.5 to 8 % of the shorter side wide: thinner ones look like the picture's edge. Bars take 6 to 14 %
of the side that they shorten, at either end. Text is opaque, unlike a watermark, because it is meant to be read; what
is beneath is lost. Telephone numbers are in ranges reserved for fiction (555-01xx in North America, 07700 900xxx in the
United Kingdom), and names are invented.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipelines.synthesis.defects.lettering import BOLD_FACES, fitting_size, pick, shop_words, text_stamp
from pipelines.synthesis.defects.marks import OVERSAMPLING, star_points

#: Width of a frame as a share of the picture's shorter side; of bars, as a share of the side that they shorten.
FRAME, BARS = (0.025, 0.08), (0.06, 0.14)
#: Loud colours of stickers and frames; text on them is black or white, whichever stands out.
LOUD = (
    *((214, 24, 31), (250, 204, 21), (245, 124, 0), (22, 140, 64), (20, 92, 200)),
    *((225, 35, 120), (90, 40, 150), (15, 15, 15), (255, 255, 255), (0, 160, 170)),
)
#: Muted colours, which are only for frames.
MUTED = ((120, 90, 60), (60, 60, 60), (190, 160, 90), (150, 160, 175), (235, 215, 200), (40, 55, 80))
#: Least mean difference of a frame from what it covers, in levels of 255.
VISIBLE_LEVELS = 40.0
#: Shorter side, in pixels, below which only plain frames fit.
LEAST_INSIDE = 8

CLAIMS = (
    "NEW",
    "SALE",
    "HOT",
    "TOP",
    "BEST",
    "NEW IN",
    "-50%",
    "-30%",
    "1+1",
    "100%",
    "ХИТ",
    "НОВИНКА",
    "OFFER",
    "SOLDE",
)
PROMISES = (
    *(
        "FREE SHIPPING",
        "Fast delivery",
        "BUY 2 GET 1 FREE",
        "Best price!",
        "ORIGINAL 100%",
        "In stock",
        "LIMITED OFFER",
    ),
    *("Free returns", "Wholesale available", "БЕСПЛАТНАЯ ДОСТАВКА", "Высокое качество", "Order today!"),
)
FEATURES = (
    *(
        "100% cotton",
        "Soft touch",
        "All sizes",
        "S M L XL",
        "Handmade",
        "Washable",
        "Slim fit",
        "Unisex",
        "Waterproof",
    ),
    *("Top quality", "5 colours", "2 pieces", "Gift box"),
)

Colour = tuple[int, int, int]


def border_frame(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a frame over the picture's edge: plain, double, inset, rounded, an instant photo's, or bars.

    Maps uint8 (H, W, 3) to a new uint8 (H, W, 3); pixels inside the frame stay unchanged.
    """
    height, width = image.shape[:2]
    painters = (_plain, _plain, _double, _inset, _rounded, _instant, _bars)
    painter = painters[int(rng.integers(len(painters)))]
    if min(height, width) < LEAST_INSIDE:
        painter = _plain
    where = Image.new("L", (width, height), 0)
    painter(ImageDraw.Draw(where), width, height, rng)
    framed = Image.fromarray(image)
    framed.paste(_standing_out(image, np.asarray(where) > 0, rng), (0, 0), where)
    return np.array(framed)


def added_text(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add one to three of: a sticker or ribbon with a price or a claim, a banner, a caption, a list of features.

    Maps uint8 (H, W, 3) to a new uint8 (H, W, 3).
    """
    picture = Image.fromarray(image)
    painters: tuple[Callable[[Image.Image, np.random.Generator], None], ...]
    painters = (_features, _caption, _banner, _ribbon, _sticker)  # later ones are drawn above earlier ones
    shares = (0.12, 0.2, 0.26, 0.12, 0.3)
    count = 1 + int(rng.choice(3, p=(0.5, 0.35, 0.15)))
    for index in sorted(rng.choice(len(painters), count, replace=False, p=shares)):
        painters[int(index)](picture, rng)
    return np.array(picture)


def _thickness(width: int, height: int, rng: np.random.Generator, shares: tuple[float, float]) -> int:
    return max(1, round(min(width, height) * float(rng.uniform(*shares))))


def _outlined(draw: ImageDraw.ImageDraw, width: int, height: int, inset: int, thick: int) -> None:
    """Draw a rectangular line `inset` pixels from the edge."""
    draw.rectangle((inset, inset, width - 1 - inset, height - 1 - inset), outline=255, width=thick)


def _plain(draw: ImageDraw.ImageDraw, width: int, height: int, rng: np.random.Generator) -> None:
    _outlined(draw, width, height, 0, _thickness(width, height, rng, FRAME))


def _double(draw: ImageDraw.ImageDraw, width: int, height: int, rng: np.random.Generator) -> None:
    thick = _thickness(width, height, rng, FRAME)
    fine = max(1, thick // 4)
    _outlined(draw, width, height, 0, max(1, thick // 2))
    _outlined(draw, width, height, min(thick, min(width, height) // 4), fine)


def _inset(draw: ImageDraw.ImageDraw, width: int, height: int, rng: np.random.Generator) -> None:
    """Draw a line at a distance from the edge, with square or inset corners."""
    inset = _thickness(width, height, rng, (0.02, 0.06))
    thick = _thickness(width, height, rng, (0.008, 0.02))
    _outlined(draw, width, height, inset, thick)
    if rng.random() < 0.5:
        side = max(2, 3 * inset)
        for x in (0, width - side):
            for y in (0, height - side):
                draw.rectangle((x, y, x + side - 1, y + side - 1), outline=255, width=thick)


def _rounded(draw: ImageDraw.ImageDraw, width: int, height: int, rng: np.random.Generator) -> None:
    thick = _thickness(width, height, rng, FRAME)
    draw.rectangle((0, 0, width, height), fill=255)
    corner = min(width, height) * float(rng.uniform(0.06, 0.2))
    draw.rounded_rectangle((thick, thick, width - 1 - thick, height - 1 - thick), corner, fill=0)


def _instant(draw: ImageDraw.ImageDraw, width: int, height: int, rng: np.random.Generator) -> None:
    """Draw a frame that is wider at the bottom."""
    thick = _thickness(width, height, rng, (0.03, 0.06))
    draw.rectangle((0, 0, width, height), fill=255)
    draw.rectangle((thick, thick, width - 1 - thick, height - 1 - 3 * thick), fill=0)


def _bars(draw: ImageDraw.ImageDraw, width: int, height: int, rng: np.random.Generator) -> None:
    """Draw bars above and below, or at both sides, as if a picture of another shape was made to fit."""
    share = float(rng.uniform(*BARS))
    right, bottom = (width, round(share * height)) if rng.random() < 0.5 else (round(share * width), height)
    draw.rectangle((0, 0, right - 1, bottom - 1), fill=255)
    draw.rectangle((width - right, height - bottom, width, height), fill=255)


def _standing_out(image: NDArray[np.uint8], where: NDArray[np.bool_], rng: np.random.Generator) -> Colour:
    """Return a frame's colour: a random one that differs enough from what it covers, else black or white."""
    covered = image[where].astype(np.int16)
    colours = LOUD + MUTED
    for index in rng.permutation(len(colours)):
        colour = colours[int(index)]
        if np.abs(covered - np.array(colour, dtype=np.int16)).mean() >= VISIBLE_LEVELS:
            return colour
    return (0, 0, 0) if covered.mean() > 127 else (255, 255, 255)


def _loud(rng: np.random.Generator) -> Colour:
    return LOUD[int(rng.integers(len(LOUD)))]


def _readable_on(background: Colour, rng: np.random.Generator) -> Colour:
    """Return an ink for text on `background`: white or yellow on dark colours, black or red on light ones."""
    red, green, blue = background
    if 0.299 * red + 0.587 * green + 0.114 * blue < 150:
        return (255, 235, 60) if rng.random() < 0.2 else (255, 255, 255)
    return (200, 16, 24) if rng.random() < 0.4 else (10, 10, 10)


def _price(rng: np.random.Generator) -> str:
    whole, sign = (
        int(rng.choice([5, 9, 12, 15, 19, 24, 29, 35, 49, 79, 99, 149])),
        pick(rng, ("$", "€", "£", "₹", "₽")),
    )
    cents = pick(rng, ("", ".99", ".90", ".50"))
    return f"{whole}{cents} {sign}" if sign in "€₽" else f"{sign}{whole}{cents}"


def _telephone(rng: np.random.Generator) -> str:
    last = int(rng.integers(100))
    if rng.random() < 0.5:
        return (
            pick(rng, ("", "Call ", "WhatsApp ", "Tel. "))
            + f"+1 {int(rng.integers(201, 990))} 555-01{last:02d}"
        )
    return pick(rng, ("", "WhatsApp: ", "Order: ")) + f"07700 900{int(rng.integers(10))}{last:02d}"


def _claim(rng: np.random.Generator) -> str:
    return _price(rng) if rng.random() < 0.55 else pick(rng, CLAIMS)


def _announcement(rng: np.random.Generator) -> str:
    kind = float(rng.random())
    if kind < 0.35:
        return _telephone(rng)
    if kind < 0.5:
        return shop_words(rng)
    if kind < 0.6:
        return f"{pick(rng, PROMISES)} {_price(rng)}"
    return pick(rng, PROMISES)


def _words(words: str, width: float, height: float, rng: np.random.Generator) -> Image.Image:
    """Return `words` in heavy letters as large as `width` by `height` pixels allow: coverage (mode L)."""
    face = pick(rng, BOLD_FACES)
    return text_stamp(words, face, fitting_size(words, face, width, height))


def _paste(picture: Image.Image, ink: Colour, middle: tuple[float, float], stamp: Image.Image) -> None:
    picture.paste(ink, (round(middle[0] - stamp.width / 2), round(middle[1] - stamp.height / 2)), stamp)


def _corner(width: int, height: int, inset: float, rng: np.random.Generator) -> tuple[float, float]:
    """Return a point `inset` pixels from both sides of a corner, more often an upper one."""
    x = inset if rng.random() < 0.5 else width - inset
    return x, inset if rng.random() < 0.65 else height - inset


def _sticker(picture: Image.Image, rng: np.random.Generator) -> None:
    """Draw a burst, a disc or a plate with a claim or a price, in a corner."""
    width, height = picture.size
    side = max(10, round(min(width, height) * float(rng.uniform(0.22, 0.4))))
    full = side * OVERSAMPLING
    shape = Image.new("L", (full, full), 0)
    draw, kind = ImageDraw.Draw(shape), int(rng.integers(3))
    if kind == 0:
        draw.polygon(star_points(full, int(rng.integers(12, 22)), float(rng.uniform(0.78, 0.9))), fill=255)
    elif kind == 1:
        draw.ellipse((0, 0, full - 1, full - 1), fill=255)
    else:
        draw.rounded_rectangle((0, full * 0.28, full - 1, full * 0.72), full * 0.08, fill=255)
    colour, lean = _loud(rng), float(rng.choice([0.0, 0.0, 12.0, -12.0]))
    middle = _corner(width, height, side * float(rng.uniform(0.5, 0.62)), rng)
    words = _words(_claim(rng), side * (0.86 if kind == 2 else 0.7), side * (0.34 if kind == 2 else 0.4), rng)
    _paste(
        picture,
        _readable_on(colour, rng) if rng.random() < 0.3 else _rim_of(colour),
        middle,
        shape.resize((side + 2, side + 2), Image.Resampling.BOX),
    )
    _paste(picture, colour, middle, shape.reduce(OVERSAMPLING))
    _paste(
        picture, _readable_on(colour, rng), middle, words.rotate(lean, Image.Resampling.BICUBIC, expand=True)
    )


def _rim_of(colour: Colour) -> Colour:
    """Return a darker shade, for the rim of a shape that would vanish on white."""
    return (colour[0] * 2 // 3, colour[1] * 2 // 3, colour[2] * 2 // 3)


def _ribbon(picture: Image.Image, rng: np.random.Generator) -> None:
    """Draw a band across an upper corner."""
    width, height = picture.size
    reach = min(width, height) * float(rng.uniform(0.32, 0.5))  # distance from the corner along the sides
    thick = max(6, round(0.36 * reach))
    band = Image.new("L", (round(reach * 2), thick), 255)
    words = Image.new("L", band.size, 0)
    text = _words(_claim(rng), 0.8 * reach, 0.66 * thick, rng)
    words.paste(text, ((words.width - text.width) // 2, (words.height - text.height) // 2))
    left, colour = bool(rng.random() < 0.6), _loud(rng)
    if colour == (255, 255, 255):
        colour = LOUD[0]
    middle = (reach * 0.42 if left else width - reach * 0.42, reach * 0.42)
    for stamp, ink in ((band, colour), (words, _readable_on(colour, rng))):
        turned = stamp.rotate(45 if left else -45, Image.Resampling.BICUBIC, expand=True)
        _paste(picture, ink, middle, turned)


def _banner(picture: Image.Image, rng: np.random.Generator) -> None:
    """Draw a strip with an announcement along the bottom or top, sometimes slightly transparent."""
    width, height = picture.size
    thick = max(6, round(height * float(rng.uniform(0.08, 0.16))))
    top = 0 if rng.random() < 0.35 else height - thick
    colour = _loud(rng)
    opacity = 255 if rng.random() < 0.7 else round(255 * float(rng.uniform(0.7, 0.95)))
    picture.paste(colour, (0, top), Image.new("L", (width, thick), opacity))
    words = _words(_announcement(rng), width * float(rng.uniform(0.7, 0.94)), 0.6 * thick, rng)
    _paste(picture, _readable_on(colour, rng), (width / 2, top + thick / 2), words)


def _caption(picture: Image.Image, rng: np.random.Generator) -> None:
    """Draw words directly on the picture, in loud letters with a rim of the opposite tone."""
    width, height = picture.size
    words, face = (_announcement(rng) if rng.random() < 0.5 else _claim(rng)), pick(rng, BOLD_FACES)
    size = fitting_size(words, face, width * float(rng.uniform(0.5, 0.9)), height * 0.14)
    colour = _loud(rng)
    dark = sum(colour) < 384
    middle = (width * float(rng.uniform(0.45, 0.55)), height * float(rng.choice([0.24, 0.36, 0.64, 0.76])))
    _paste(picture, (255, 255, 255) if dark else (10, 10, 10), middle, text_stamp(words, face, size, 0.07))
    _paste(picture, colour, middle, text_stamp(words, face, size))


def _features(picture: Image.Image, rng: np.random.Generator) -> None:
    """Draw short lines below one another at one side, each after a tick or a dot."""
    width, height = picture.size
    face, colour, tick = pick(rng, BOLD_FACES[:2]), _loud(rng), pick(rng, ("✓ ", "• ", ""))
    lines = [
        tick + FEATURES[int(index)]
        for index in rng.choice(len(FEATURES), int(rng.integers(2, 5)), replace=False)
    ]
    size = fitting_size(max(lines, key=len), face, width * float(rng.uniform(0.26, 0.4)), height * 0.08)
    right, y = bool(rng.random() < 0.5), height * float(rng.uniform(0.2, 0.45))
    for line in lines:
        rim, stamp = text_stamp(line, face, size, 0.07), text_stamp(line, face, size)
        x = width * 0.97 - rim.width / 2 if right else width * 0.03 + rim.width / 2
        _paste(picture, (255, 255, 255) if sum(colour) < 384 else (10, 10, 10), (x, y), rim)
        _paste(picture, colour, (x, y), stamp)
        y += 1.6 * size
