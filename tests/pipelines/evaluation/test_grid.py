import io

import numpy as np
import pyarrow as pa
from PIL import Image

from pipelines.evaluation.collect import Collection
from pipelines.evaluation.grid import comparison_grid
from pipelines.evaluation.measure import ANSWER, MEASURES, TARGET, UPLOAD
from pipelines.images.encode import encode_image
from pipelines.reports.pictures import BACKDROP, CELL, GAP
from tests.evaluation_data import contestant, measure

BUNDLES = (
    contestant("first"),
    contestant("blind", "wrong_angle"),
    contestant("a name much too long for one column"),
)


def picture_row(row: int, kind: str, value: int, bundle: int = -1) -> dict:
    picture = encode_image(np.full((256, 256, 3), value, np.uint8), "png")
    return measure(row, kind, bundle=bundle, picture=picture, width=80, height=160)


def test_columns_are_upload_bundles_and_target_with_names_above() -> None:
    collection = Collection()
    rows = [
        *(
            picture_row(2, UPLOAD, 20),
            picture_row(2, ANSWER, 40, 0),
            picture_row(2, ANSWER, 60, 2),
            picture_row(2, TARGET, 80),
        ),
        *(
            picture_row(1, UPLOAD, 120),
            picture_row(1, ANSWER, 140, 0),
            picture_row(1, ANSWER, 160, 2),
        ),  # without a target
        picture_row(3, TARGET, 200),  # without an upload, so no row of the picture
    ]
    collection.add(pa.Table.from_pylist(rows, MEASURES))
    data = comparison_grid(collection, BUNDLES, "watermark")
    assert data is not None
    pixels = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    head = pixels.shape[0] - 2 * (CELL + GAP)
    assert pixels.shape[1] == GAP + 5 * (CELL + GAP)
    centres = [GAP + (CELL + GAP) * column + CELL // 2 for column in range(5)]

    def at(line: int, column: int, aside: int = 0) -> list[int]:
        return pixels[head + line * (CELL + GAP) + 20, centres[column] + aside].tolist()

    for line, values in enumerate(([120, 140, None, 160, None], [20, 40, None, 60, 80])):
        assert [at(line, column) for column in range(5)] == [
            list(BACKDROP) if value is None else [value] * 3 for value in values
        ]
    assert at(0, 0, aside=CELL // 2 - 10) == [255] * 3  # the stored aspect ratio: 80 by 160
    names = np.abs(pixels[:head] - BACKDROP).sum(axis=(0, 2))
    for centre in centres:  # each name is within its own column
        assert names[centre - CELL // 2 : centre + CELL // 2].any()
        assert not names[centre + CELL // 2 : centre + CELL // 2 + GAP].any()


def test_without_pictures_there_is_no_grid() -> None:
    assert comparison_grid(Collection(), BUNDLES, "watermark") is None
