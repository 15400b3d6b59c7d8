import io

import numpy as np
from PIL import Image

from pipelines.images.encode import encode_image
from pipelines.reports.pictures import CELL, GAP, Strip, contact_sheet


def strip(name: str, before: int, after: int) -> Strip:
    pictures = [encode_image(np.full((60, 40, 3), value, np.uint8)) for value in (before, after)]
    return Strip(name, "mug", *pictures)


def test_uploads_stand_above_their_corrections_and_each_defect_has_its_columns() -> None:
    strips = {
        "watermark": [strip(f"w{i}", 40 + i, 200) for i in range(5)],
        "wrong_angle": [strip("a", 90, 250)],
    }
    png = contact_sheet(strips, columns=4)
    assert png is not None
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    centres = [GAP + (CELL + GAP) * index + CELL // 2 for index in range(3)]
    assert pixels.shape == (GAP + 2 * (CELL + GAP), GAP + 3 * (CELL + GAP), 3)
    levels = [[int(pixels[line, column, 0]) for column in centres] for line in centres[:2]]
    np.testing.assert_allclose(levels, [[40, 41, 90], [200, 200, 250]], atol=2)


def test_a_single_defect_gets_all_columns() -> None:
    png = contact_sheet({"watermark": [strip(f"w{i}", 40, 200) for i in range(9)]})
    assert png is not None
    assert Image.open(io.BytesIO(png)).width == GAP + 6 * (CELL + GAP)


def test_without_strips_there_is_no_picture() -> None:
    assert contact_sheet({}) is None
