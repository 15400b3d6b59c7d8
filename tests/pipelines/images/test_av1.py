from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.images.av1 import largest_frame
from tests.heif_files import AVIF, encode_avif


class _Writer:
    """Write numbers as bits, the most significant first."""

    def __init__(self) -> None:
        self.bits = ""

    def put(self, value: int, count: int) -> None:
        self.bits += f"{value:0{int(count)}b}" if count else ""

    def data(self) -> bytes:
        whole = self.bits + "0" * (-len(self.bits) % 8)
        return bytes(int(whole[at : at + 8], 2) for at in range(0, len(whole), 8))


def unit(kind: int, body: bytes, sized: bool = True, extended: bool = False) -> bytes:
    """Return an open bitstream unit (AV1, 5.3)."""
    head = bytes([kind << 3 | extended << 2 | sized << 1]) + bytes(extended)
    size, length = b"", len(body)
    while sized:
        size += bytes([length & 0x7F | (length > 0x7F) << 7])
        length >>= 7
        if not length:
            break
    return head + size + body


def sequence_header(draw: Any, width: int, height: int) -> bytes:
    """Return a sequence header of this size, with random values of the fields before it (5.5.1)."""
    put = (writer := _Writer()).put
    flag = lambda: draw(st.integers(0, 1))  # noqa: E731
    put(draw(st.integers(0, 2)) << 1 | flag(), 4)
    reduced = flag()
    put(reduced, 1)
    if reduced:
        put(draw(st.integers(0, 31)), 5)
    else:
        timing, model, delay = flag(), 0, draw(st.integers(0, 31))
        put(timing, 1)
        if timing:
            put(draw(st.integers(0, 2**64 - 1)), 64)
            equal = flag()
            put(equal, 1)
            if equal:  # uvlc, 4.10.3
                zeros = draw(st.integers(0, 31))
                put(0, zeros)
                put(1, 1)
                put(draw(st.integers(0, 2**zeros - 1)), zeros)
            model = flag()
            put(model, 1)
            if model:
                put(delay, 5)
                put(draw(st.integers(0, 2**42 - 1)), 42)
        display = flag()
        put(display, 1)
        points = draw(st.integers(0, 3))
        put(points, 5)
        for _ in range(points + 1):
            put(draw(st.integers(0, 4095)), 12)
            level = draw(st.integers(0, 31))
            put(level, 5)
            put(flag(), level > 7)
            if model:
                present = flag()
                put(present, 1)
                put(draw(st.integers(0, 2 ** (2 * delay + 3) - 1)), (2 * (delay + 1) + 1) * present)
            if display:
                present = flag()
                put(present, 1)
                put(draw(st.integers(0, 15)), 4 * present)
    bits = [draw(st.integers(max(1, (side - 1).bit_length()), 16)) for side in (width, height)]
    put(bits[0] - 1, 4)
    put(bits[1] - 1, 4)
    put(width - 1, bits[0])
    put(height - 1, bits[1])
    put(flag(), 7)
    return writer.data()


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 65536), st.integers(1, 65536), st.booleans(), st.booleans())
def test_sizes_are_read_after_any_other_fields(
    data: st.DataObject, width: int, height: int, sized: bool, extended: bool
) -> None:
    header = sequence_header(data.draw, width, height)
    before = unit(2, b"") + unit(15, data.draw(st.binary(max_size=300)))
    assert largest_frame(before + unit(1, header, sized, extended)) == (width, height)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (100, 33), (1, 1), (1030, 16)])
def test_sizes_agree_with_an_encoder(width: int, height: int) -> None:
    pixels = np.full((height, width, 3), 90, np.uint8)
    assert largest_frame(AVIF.picture(pixels).payload) == (width, height)


def test_of_several_headers_the_largest_counts() -> None:
    small, wide, high = (
        AVIF.picture(np.zeros((height, width, 3), np.uint8)).payload
        for width, height in ((16, 16), (200, 16), (16, 300))
    )
    assert largest_frame(small + wide + high) == (200, 300)
    assert largest_frame(high + small) == (16, 300)


def test_no_header_gives_none_and_damaged_data_an_error() -> None:
    assert largest_frame(b"") is None
    assert largest_frame(unit(2, b"") + unit(6, b"frame")) is None
    for wrong in (b"\x0a", b"\x0a\xff", b"\x0a\x05ab", unit(1, b""), unit(1, b"\0\0\0"), unit(2, b"") * 501):
        with pytest.raises(ValueError, match="AV1"):
            largest_frame(wrong)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_a_size_or_a_value_error(data: bytes) -> None:
    try:
        size = largest_frame(data)
    except ValueError:
        return
    assert size is None or min(size) >= 1


def test_the_size_is_read_from_an_encoders_whole_file() -> None:
    data = encode_avif(Image.new("RGB", (70, 50)))
    assert largest_frame(data[data.index(b"mdat") + 4 :]) == (70, 50)
