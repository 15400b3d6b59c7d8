"""How large the frames of an AV1 picture are, by its own header (AV1 Bitstream & Decoding Process Specification)."""

#: Units that are looked at: the sequence header comes first, behind at most a temporal delimiter.
_MOST_UNITS = 500
_SEQUENCE_HEADER = 1


def largest_frame(data: bytes | memoryview) -> tuple[int, int] | None:
    """Largest (width, height) that a frame may have by any sequence header in `data`; None where there is none.

    data: open bitstream units (5.3), as an item of AVIF has them. Raises ValueError where they end within one, or are
    more than some hundred.
    """
    found: tuple[int, int] | None = None
    at, end = 0, len(data)
    for _ in range(_MOST_UNITS):
        if at >= end:
            return found
        head = data[at]
        at += 2 if head & 4 else 1  # an extension
        if head & 2:
            size, at = _leb128(data, at)
        else:
            size = end - at
        if at + size > end:
            raise ValueError("a unit of AV1 goes beyond the end")
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            width, height = _frame_size(bytes(data[at : at + min(size, 1024)]))
            found = (width, height) if found is None else (max(width, found[0]), max(height, found[1]))
        at += size
    raise ValueError(f"a picture of more than {_MOST_UNITS} units of AV1")


def _leb128(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """The number at `at` and where it ends (4.10.5)."""
    value = 0
    for place in range(8):
        if at + place >= len(data):
            break
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return value, at + place + 1
    raise ValueError("a unit of AV1 without a size")


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        """The next `count` bits, the most significant first."""
        self._left -= count
        if self._left < 0:
            raise ValueError("a sequence header of AV1 ends too early")
        return self._value >> self._left & ((1 << count) - 1)

    def skip_uvlc(self) -> None:
        """A number of variable length (4.10.3)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        if zeros < 32:
            self.take(zeros)


def _frame_size(header: bytes) -> tuple[int, int]:
    """(max_frame_width, max_frame_height) of a sequence header (5.5.1)."""
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
