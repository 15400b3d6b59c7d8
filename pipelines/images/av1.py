"""Reads the frame size of an AV1 picture from its sequence header (AV1 Bitstream & Decoding Process Specification)."""

#: Units that are read at most. The sequence header comes first, after at most a temporal delimiter.
_MOST_UNITS = 500
_SEQUENCE_HEADER = 1


def largest_frame(data: bytes | memoryview) -> tuple[int, int] | None:
    """Return the largest (width, height) that any sequence header in `data` allows a frame; None without a header.

    data: open bitstream units (5.3), as in an item of AVIF. Raises ValueError if the data ends within a unit, or has
    more than _MOST_UNITS of them.
    """
    largest: tuple[int, int] | None = None
    at, end = 0, len(data)
    for _ in range(_MOST_UNITS):
        if at >= end:
            return largest
        head = data[at]
        at += 2 if head & 4 else 1  # an extension
        if head & 2:
            size, at = _leb128(data, at)
        else:
            size = end - at
        if at + size > end:
            raise ValueError("a unit of AV1 extends beyond the end")
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            width, height = _frame_size(bytes(data[at : at + min(size, 1024)]))
            largest = (
                (width, height) if largest is None else (max(width, largest[0]), max(height, largest[1]))
            )
        at += size
    raise ValueError(f"a picture of more than {_MOST_UNITS} units of AV1")


def _leb128(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Return the number at `at`, and the position after it (4.10.5)."""
    value = 0
    for index in range(8):
        if at + index >= len(data):
            break
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return value, at + index + 1
    raise ValueError("a unit of AV1 without a size")


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        """Return the next `count` bits as a number, the most significant first."""
        self._left -= count
        if self._left < 0:
            raise ValueError("a sequence header of AV1 ends too early")
        return self._value >> self._left & ((1 << count) - 1)

    def skip_uvlc(self) -> None:
        """Skip a number of variable length (4.10.3)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        if zeros < 32:
            self.take(zeros)


def _frame_size(header: bytes) -> tuple[int, int]:
    """Return (max_frame_width, max_frame_height) of a sequence header (5.5.1)."""
    bits = _Bits(header)
    bits.take(4)  # seq_profile, still_picture
    if bits.take(1):  # reduced_still_picture_header
        bits.take(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.take(1):  # timing_info
        bits.take(64)
        if bits.take(1):
            bits.skip_uvlc()
        if bits.take(1):  # decoder_model_info
            delay_bits = bits.take(5) + 1
            bits.take(42)
    display_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:  # seq_level_idx
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if display_delay and bits.take(1):
            bits.take(4)
