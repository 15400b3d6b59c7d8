"""Pictures below one another in columns, to look at or to send: uploads above their corrections, photos above masks."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps


@dataclass(frozen=True)
class Strip:
    """One corrected image, as the report shows it: the upload beside the correction, both JPEG bytes.

    rejected: why a gate kept the original, or None.
    """

    image_id: str
    product_type: str | None
    before: bytes
    after: bytes
    rejected: str | None = None


#: Side of a cell and the space between cells, pixels.
CELL, GAP = 200, 8
#: Around the cells: the corrections are white themselves.
GROUND = (226, 228, 232)
#: Height of a column's caption, pixels, and the colour of its text.
CAPTION, INK = 20, (28, 35, 41)


def contact_sheet(strips: Mapping[str, Sequence[Strip]], columns: int = 6) -> bytes | None:
    """A PNG with one column per strip, the upload above the correction: of every defect as many as share `columns`, and
    two at least.

    Pictures keep their aspect ratio on white cells. None where there is no strip.
    """
    per_defect = max(2, columns // max(1, len(strips)))
    chosen = [strip for found in strips.values() for strip in found[:per_defect]]
    if not chosen:
        return None
    return picture_columns([(strip.before, strip.after) for strip in chosen])


def picture_columns(
    columns: Sequence[Sequence[bytes]], captions: Sequence[str] | None = None
) -> bytes | None:
    """A PNG with one column per group of encoded pictures, all of the same number, and a line of text below each.

    Pictures keep their aspect ratio on white cells. None where there is no column.
    """
    if not columns:
        return None
    step, below = CELL + GAP, CAPTION if captions is not None else 0
    size = (GAP + step * len(columns), GAP + step * len(columns[0]) + below)
    sheet = Image.new("RGB", size, GROUND)
    for column, pictures in enumerate(columns):
        for line, picture in enumerate(pictures):
            with Image.open(io.BytesIO(picture)) as image:
                cell = ImageOps.pad(
                    image.convert("RGB"), (CELL, CELL), Image.Resampling.BICUBIC, color="white"
                )
            sheet.paste(cell, (GAP + step * column, GAP + step * line))
    draw = ImageDraw.Draw(sheet)
    for column, caption in enumerate(captions or ()):
        place = (GAP + step * column + CELL // 2, size[1] - CAPTION // 2 - 4)
        draw.text(place, caption, INK, ImageFont.load_default(13), anchor="mm")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
