"""Draws one picture per defect: a row per photo, and columns for the upload, each bundle's answer and the target."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from pipelines.evaluation.collect import Collection, Picture, SetName
from pipelines.evaluation.contestants import Contestant
from pipelines.evaluation.measure import ANSWER, TARGET, UPLOAD
from pipelines.images.resize import scaled_size
from pipelines.reports.pictures import BACKDROP, CELL, GAP

#: Height of the line of names in pixels, and the size of its letters.
_HEAD, _LETTERS = 30, 16
_INK, _FAINT = (40, 44, 52), (150, 154, 162)


def comparison_grid(collection: Collection, contestants: Sequence[Contestant], defect: str) -> bytes | None:
    """Return a PNG of the defect's shown rows in the order of their names; None if there are no rows.

    Images have the stored aspect ratio. A dash stands for a missing image: the bundle does not know the defect, or the
    row has no target.
    """
    uploads = SetName(UPLOAD, -1, defect)
    rows = [row for _, row in sorted(collection.pictures.get(defect, {}).items()) if uploads in row]
    if not rows:
        return None
    columns = [("upload", uploads)]
    columns += [(one.name, SetName(ANSWER, index, defect)) for index, one in enumerate(contestants)]
    columns += [("target", SetName(TARGET, -1, defect))]
    step = CELL + GAP
    sheet = Image.new("RGB", (GAP + step * len(columns), _HEAD + step * len(rows)), BACKDROP)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_LETTERS)
    for column, (title, name) in enumerate(columns):
        left = GAP + step * column
        draw.text((left + CELL / 2, _HEAD / 2), _fitted(title, font), _INK, font, anchor="mm")
        for line, row in enumerate(rows):
            top = _HEAD + step * line
            picture = row.get(name)
            if picture is None:
                draw.text((left + CELL / 2, top + CELL / 2), "-", _FAINT, font, anchor="mm")
            else:
                sheet.paste(_cell(picture), (left, top))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _cell(picture: Picture) -> Image.Image:
    """Return the picture at its stored aspect ratio, as large as a cell allows, on white."""
    size = scaled_size(picture.width, picture.height, CELL)
    cell = Image.new("RGB", (CELL, CELL), "white")
    with Image.open(io.BytesIO(picture.png)) as image:
        cell.paste(
            image.resize(size, Image.Resampling.BICUBIC), ((CELL - size[0]) // 2, (CELL - size[1]) // 2)
        )
    return cell


def _fitted(title: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return the title, cut at its beginning to fit a column, because the end of a path says most."""
    if font.getlength(title) <= CELL:
        return title
    while len(title) > 1 and font.getlength("..." + title) > CELL:
        title = title[1:]
    return "..." + title
