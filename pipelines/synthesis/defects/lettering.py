"""Letters and words of marks, stickers and banners.

The typefaces come with the project's own libraries, not from the system, so that the same seed gives the same outlines
on every machine.
"""

from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

#: Typefaces by file name, of those that matplotlib ships; the empty name is Pillow's own. All have Latin letters.
LATIN_FACES = (
    "",
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-BoldOblique.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-BoldItalic.ttf",
    "DejaVuSansMono-Bold.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBolIta.ttf",
    "STIXGeneralItalic.ttf",
)
#: Those that also have Cyrillic, currency signs and ticks.
WIDE_FACES = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-BoldOblique.ttf", "DejaVuSerif-Bold.ttf")
#: Heavy ones, for prices and banners.
BOLD_FACES = ("DejaVuSans-Bold.ttf", "DejaVuSans-BoldOblique.ttf", "DejaVuSerif-Bold.ttf")
#: Smallest size of letters, pixels; smaller ones have no shape left.
MIN_SIZE = 6

FIRST_NAMES = (
    *("Luma", "Norden", "Casa", "Velvet", "Orchid", "Pico"),
    *("Tara", "Brisk", "Mellow", "Juno", "Kite", "Alba"),
)
LAST_NAMES = (
    *("Store", "Shop", "Outlet", "Trading", "Studio", "Home"),
    *("Fashion", "Market", "Deals", "& Co", "Direct"),
)
NOTICES = (
    *("SAMPLE", "PROOF", "COPYRIGHT", "DO NOT COPY", "PREVIEW", "ORIGINAL PHOTO", "NO RESALE", "STOCK PHOTO"),
    *("ОБРАЗЕЦ", "НЕ КОПИРОВАТЬ", "МУЛЯЖ"),
)
DOMAINS = ("com", "net", "shop", "store", "co", "eu")


def pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    """Return one of `options`, each with the same probability."""
    return options[int(rng.integers(len(options)))]


def shop_words(rng: np.random.Generator) -> str:
    """Return words that a seller writes across a photo; all names are invented."""
    first, last = pick(rng, FIRST_NAMES), pick(rng, LAST_NAMES)
    plain = last.strip("& ").lower()
    return pick(
        rng,
        (
            f"{first} {last}",
            f"{first} {last}".upper(),
            f"© {first} {last}",
            f"© {first} {int(rng.integers(2015, 2027))}",
            f"www.{first.lower()}{plain}.{pick(rng, DOMAINS)}",
            f"@{first.lower()}_{plain}",
            pick(rng, NOTICES),
            pick(rng, NOTICES),
        ),
    )


def initials(rng: np.random.Generator, count: int) -> str:
    """Return `count` capital letters."""
    return "".join(chr(ord("A") + int(letter)) for letter in rng.integers(0, 26, count))


def face_for(words: str, rng: np.random.Generator) -> str:
    """Return a typeface that has every letter of `words`."""
    latin = all(ord(letter) < 0x250 and letter not in "€£¥" for letter in words)
    return pick(rng, LATIN_FACES if latin else WIDE_FACES)


@lru_cache(maxsize=256)
def font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """Return the typeface at `size` pixels. Raises TypeError if Pillow was built without FreeType."""
    if face:
        return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / face, size)
    built_in = ImageFont.load_default(size)
    if not isinstance(built_in, ImageFont.FreeTypeFont):
        raise TypeError("Pillow was built without FreeType; install the wheel from the package index")
    return built_in


def fitting_size(words: str, face: str, width: float, height: float) -> int:
    """Return the size in pixels at which `words` fill `width` or `height`, whichever is smaller; at least MIN_SIZE."""
    reference = 64
    left, top, right, bottom = font(face, reference).getbbox(words)
    return max(MIN_SIZE, int(reference * min(width / (right - left), height / (bottom - top))))


def text_stamp(words: str, face: str, size: int, weight: float = 0.0, hollow: bool = False) -> Image.Image:
    """Return `words` as a picture of coverage (mode L), cut to their extent.

    weight: width of an additional stroke round the letters, as a share of `size`. hollow: keep only that stroke.
    """
    stroke = max(1, round(size * weight)) if hollow else round(size * weight)
    letters = font(face, size)
    left, top, right, bottom = (int(side) for side in letters.getbbox(words, stroke_width=stroke))
    stamp = Image.new("L", (right - left + 2, bottom - top + 2), 0)
    draw = ImageDraw.Draw(stamp)
    origin = (1 - left, 1 - top)
    draw.text(origin, words, fill=255, font=letters, stroke_width=stroke)
    if hollow:
        draw.text(origin, words, fill=0, font=letters)
    return stamp
