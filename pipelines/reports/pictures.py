"""Draws contact sheets: pictures below one another in columns, such as uploads above their corrections."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps


@dataclass(frozen=True)
class Strip:
    """Hold an upload and its correction for a report, both as JPEG bytes.

    rejected: why a gate kept the original, or None. current, current_rejected: the same of the current bundle, if
    another one made `after`.
    """

    image_id: str
    product_type: str | None
    before: bytes
    after: bytes
    rejected: str | None = None
    current: bytes | None = None
    current_rejected: str | None = None


#: Side of a cell and the space between cells, pixels.
CELL, GAP = 200, 8
#: Colour around the cells; not white, because the corrections are white.
BACKDROP = (226, 228, 232)
#: Height of a column's caption, pixels, and the colour of its text.
CAPTION, INK = 20, (28, 35, 41)


def contact_sheet(strips: Mapping[str, Sequence[Strip]], columns: int = 6) -> bytes | None:
    """Draw a PNG with one column per strip, the upload above the correction.

    `columns` is divided equally among the defects; each gets at least two. Pictures keep their aspect ratio on white
    cells. None if there are no strips.
    """
    per_defect = max(2, columns // max(1, len(strips)))
    chosen = [strip for of_defect in strips.values() for strip in of_defect[:per_defect]]
    if not chosen:
        return None
    return picture_columns([(strip.before, strip.after) for strip in chosen])


def picture_columns(
    columns: Sequence[Sequence[bytes]], captions: Sequence[str] | None = None
) -> bytes | None:
    """Draw a PNG with one column per group of encoded pictures, and a caption below each if given.

    All groups must have the same number of pictures. These keep their aspect ratio on white cells. None if there are no
    groups.
    """
    if not columns:
        return None
    step, below = CELL + GAP, CAPTION if captions is not None else 0
    size = (GAP + step * len(columns), GAP + step * len(columns[0]) + below)
    sheet = Image.new("RGB", size, BACKDROP)
    for column, pictures in enumerate(columns):
        for line, picture in enumerate(pictures):
            with Image.open(io.BytesIO(picture)) as image:
                cell = ImageOps.pad(
                    image.convert("RGB"), (CELL, CELL), Image.Resampling.BICUBIC, color="white"
                )
            sheet.paste(cell, (GAP + step * column, GAP + step * line))
    draw = ImageDraw.Draw(sheet)
    for column, caption in enumerate(captions or ()):
        centre = (GAP + step * column + CELL // 2, size[1] - CAPTION // 2 - 4)
        draw.text(centre, caption, INK, ImageFont.load_default(13), anchor="mm")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
