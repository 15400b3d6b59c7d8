import numpy as np
import pytest

from pipelines.images.jpeg_scans import has_more_scans
from tests.hostile_images import drawing, encode

JPEG = encode(drawing(200, 120))
SCAN = JPEG[JPEG.index(b"\xff\xda") : -2]
END = b"\xff\xd9"
MARKERS = b"\xff\xda\xff\xd9" * 200
COMMENT = b"\xff\xfe" + (2 + len(MARKERS)).to_bytes(2, "big") + MARKERS


@pytest.mark.parametrize(
    ("data", "scans"),
    [
        (JPEG, 1),
        (JPEG[:-2] + SCAN * 4 + END, 5),
        (JPEG + MARKERS, 1),  # after the end, as a video's bytes
        (JPEG[:2] + COMMENT + JPEG[2:], 1),  # within a segment, as a thumbnail's
        (JPEG[:-2] + COMMENT + SCAN + END, 2),  # a segment does not hide the scans after it
        (JPEG[:-2] + b"\xff\xff\xff" + SCAN + END, 2),  # fill bytes
        (JPEG[:40], 0),
        (b"", 0),
        (b"\xff\xd8\xff", 0),
    ],
)
def test_only_the_pictures_own_scans_count(data: bytes, scans: int) -> None:
    assert [has_more_scans(data, most) for most in range(7)] == [scans > most for most in range(7)]


def test_noise_in_a_picture_does_not_count_as_scans() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    assert not has_more_scans(encode(noise, quality=100), 1)
    assert has_more_scans(encode(drawing(200, 120), progressive=True), 5)


def test_a_file_of_too_many_segments_counts_as_having_more_scans() -> None:
    assert has_more_scans(b"\xff\xd8" + b"\xff\xe0\0\2" * 20_000, 100)
