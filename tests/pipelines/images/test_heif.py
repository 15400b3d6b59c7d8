import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.images.heif import HeifError, format_of, lacks_end, read_heif
from tests.heif_files import (
    AVIF,
    HEIC,
    Item,
    box,
    clap,
    exif_item,
    full_box,
    grid,
    heif,
    nclx,
    orientation,
    xmp_item,
)
from tests.hostile_images import drawing

SQUARE = drawing(64, 64)
WHOLE = AVIF.file(AVIF.picture(SQUARE), exif_item(orientation(6)), xmp_item(b"<x/>"))


def branded(major: bytes, *compatible: bytes) -> bytes:
    return box(b"ftyp", major, bytes(4), *compatible) + bytes(100)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (branded(b"avif"), "AVIF"),
        (branded(b"avis", b"msf1"), "AVIF"),
        (branded(b"mif1", b"miaf", b"avif"), "AVIF"),
        (branded(b"msf1", b"avis"), "AVIF"),
        (branded(b"heic", b"mif1"), "HEIC"),
        (branded(b"mif1", b"miaf", b"heix"), "HEIC"),
        (branded(b"msf1", b"hevc"), "HEIC"),
        (branded(b"mif1", b"miaf"), "HEIC"),  # of unknown coding
        (branded(b"heic", b"avif"), "HEIC"),  # the major brand decides,
        (branded(b"mif1", b"avif", b"heic"), "AVIF"),  # then the first that does
        (branded(b"mp42", b"isom"), None),
        (branded(b"qt  "), None),
        (box(b"moov", b"avif"), None),
        (branded(b"isom") + b"avif", None),  # after the box
        (b"\xff\xff\xff\xffftypmif1", "HEIC"),
        (b"", None),
    ],
)
def test_brands_decide_the_format(data: bytes, expected: str | None) -> None:
    assert format_of(data) == expected


def test_contents_are_read() -> None:
    file = read_heif(WHOLE)
    assert [item.kind for item in file.items.values()] == [b"av01", b"Exif", b"mime"]
    assert file.primary is file.items[1]
    assert bytes(file.payload(file.items[3])) == b"<x/>"
    assert bytes(file.payload(file.items[2], 4)) == struct.pack(">I", 6)
    assert file.items[3].content_type == b"application/rdf+xml"
    assert file.colours() == (1, 13)
    assert list(file.sizes()) == [(64, 64), (64, 64)]  # declared, and coded
    assert not file.is_sequence
    assert not lacks_end(WHOLE)


def test_decoders_get_the_whole_file_except_metadata() -> None:
    bare = read_heif(WHOLE).without_metadata()
    assert len(bare) == len(WHOLE)
    assert bare != WHOLE
    assert [item.kind for item in read_heif(bare).items.values()] == [b"av01", b"skip", b"skip"]
    assert read_heif(bare).without_metadata() is bare


@pytest.mark.parametrize(
    ("crop", "left"),
    [
        (clap(40, 30, -24, -34), (40, 30)),  # the crop's centre is (20, 15), the picture's (32, 32)
        (clap(64, 64, 0, 0), (64, 64)),
        (clap(40, 30, 0, 0), (64, 64)),  # in the middle
        (clap(80, 64, 16, 0), (64, 64)),  # larger than the picture
        (clap(0, 64, -64, 0), (64, 64)),
        ((box(b"clap", bytes(32)), True), (64, 64)),  # denominators of 0
    ],
)
def test_only_a_crop_at_the_corner_is_applied(crop: tuple[bytes, bool], left: tuple[int, int]) -> None:
    assert read_heif(AVIF.file(AVIF.picture(SQUARE, crop))).cropped((64, 64)) == left


def test_tracks_make_a_sequence_unless_the_major_brand_is_that_of_a_picture() -> None:
    picture, tracks = AVIF.picture(SQUARE), box(b"moov")
    for major, expected in (
        (b"avif", False),
        (b"mif1", True),
        (b"avis", True),
        (b"heic", False),
        (b"msf1", True),
    ):
        assert read_heif(AVIF.file(picture, major=major, extra=tracks)).is_sequence is expected
    assert not read_heif(AVIF.file(picture, major=b"mif1")).is_sequence


def test_ambiguous_files_are_refused() -> None:
    """One decoder would take the first, another the second."""
    at = WHOLE.index(b"infe") - 4
    length = int.from_bytes(WHOLE[at : at + 4], "big")
    same = bytearray(WHOLE)
    second = at + length
    same[second + 12 : second + 14] = same[at + 12 : at + 14]
    for data, reason in (
        (bytes(same), "two items"),
        (WHOLE.replace(b"mdat", b"meta"), "two boxes"),
        (WHOLE.replace(b"hdlr", b"pitm"), "two boxes"),
    ):
        with pytest.raises(HeifError, match=reason):
            read_heif(data)


def test_reading_an_item_beyond_the_end_is_an_error() -> None:
    moved = bytearray(heif(b"heic", (b"mif1",), [Item(b"grid", bytes(12))]))
    at = moved.index(struct.pack(">HHHI", 1, 0, 1, len(moved) - 12))
    moved[at + 6 : at + 10] = struct.pack(">I", len(moved))
    file = read_heif(bytes(moved))
    with pytest.raises(HeifError, match="beyond the end"):
        file.payload(file.items[1])
    assert lacks_end(bytes(moved))


def test_reading_is_bounded() -> None:
    many = b"".join(
        full_box(b"infe", 2, 0, struct.pack(">HH4s", n, 0, b"av01"), b"\0") for n in range(1, 3000)
    )
    meta = full_box(b"meta", 0, 0, full_box(b"iinf", 0, 0, bytes(2), many))
    with pytest.raises(HeifError, match="too many boxes"):
        read_heif(branded(b"avif")[:16] + meta)
    with pytest.raises(HeifError, match="too many boxes"):
        read_heif(box(b"ftyp", b"avif", bytes(4)) + box(b"free") * 5000)
    uses = b"".join(struct.pack(">HB", n, 255) + b"\1" * 255 for n in range(4000))
    iprp = box(b"iprp", full_box(b"ipma", 0, 0, struct.pack(">I", 4000), uses))
    with pytest.raises(HeifError, match="properties of items"):
        read_heif(box(b"ftyp", b"avif", bytes(4)) + full_box(b"meta", 0, 0, iprp))


FILES = [
    WHOLE,
    HEIC.file(HEIC.picture(SQUARE, clap(40, 30, -24, -34), nclx(12, 13, 6)), major=b"mif1"),
    AVIF.file(AVIF.picture(SQUARE), grid(64, 64, [1]), primary=2),
]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(FILES),
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=8),
    st.integers(0, 2000),
)
def test_damaged_files_raise_only_a_few_kinds_of_errors(
    data: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(data)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    damaged = damaged[:cut] if cut < 1000 else damaged
    format_of(bytes(damaged))
    lacks_end(bytes(damaged))
    try:
        file = read_heif(bytes(damaged))
        file.colours()
        file.has_profile()
        file.without_metadata()
        file.cropped((64, 64))
        for item in file.items.values():
            file.payload(item)
        list(file.sizes())
    except (ValueError, struct.error, IndexError):
        pass
