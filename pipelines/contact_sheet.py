"""One picture of uploads above their corrections, to look at or to send: `report/before_after.png`."""

import io
from collections.abc import Mapping, Sequence

from PIL import Image, ImageOps

from pipelines.report import Strip

#: Side of a cell and the space between cells, pixels.
CELL, GAP = 200, 8
#: Around the cells: the corrections are white themselves.
GROUND = (226, 228, 232)


def contact_sheet(strips: Mapping[str, Sequence[Strip]], columns: int = 6) -> bytes | None:
    """A PNG with one column per strip, the upload above the correction: of every defect as many as share `columns`, and
    two at least.

    Pictures keep their aspect ratio on white cells. None where there is no strip.
    """
    per_defect = max(2, columns // max(1, len(strips)))
    chosen = [strip for found in strips.values() for strip in found[:per_defect]]
    if not chosen:
        return None
    step = CELL + GAP
    sheet = Image.new("RGB", (GAP + step * len(chosen), GAP + step * 2), GROUND)
    for column, strip in enumerate(chosen):
        for line, picture in enumerate((strip.before, strip.after)):
            with Image.open(io.BytesIO(picture)) as image:
                cell = ImageOps.pad(
                    image.convert("RGB"), (CELL, CELL), Image.Resampling.BICUBIC, color="white"
                )
            sheet.paste(cell, (GAP + step * column, GAP + step * line))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
