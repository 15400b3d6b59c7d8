import io
import struct
import time
import xml.etree.ElementTree as ElementTree
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from pipelines.images.decode import ImageError, decode_image, decode_upload
from pipelines.images.decode_apart import decode_apart
from pipelines.images.encode import EXTENSIONS, encode_image
from pipelines.images.exif import ARTIST, COPYRIGHT, ORIENTATION, read_exif, write_exif
from pipelines.images.heif import read_heif
from pipelines.images.metadata import AI_EDITED, MAX_TEXT, Metadata, read_metadata, save_options, srgb_profile
from tests.heif_files import AVIF, xmp_item
from tests.hostile_images import drawing, encode, hostile_images, odd_images, swapped_profile

NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "ext": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
}
FULL = Metadata("© 2026 Müller & <Söhne>", "Ann; Bob", has_profile=True, ai_edited=True)


def metadata_of(upload: bytes) -> Metadata:
    return decode_upload(upload).metadata


def camera_exif() -> Image.Exif:
    """Return EXIF data as a phone writes it, with a location, a serial number, author and copyright."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010F], exif[0x0110] = "Maker", "Phone"
    exif[ARTIST], exif[COPYRIGHT] = b"Ann\0", "© Ann's Shop".encode() + b"\0"
    exif[0x8769] = {0x9003: "2024:05:01 12:00:00", 0xA431: "SERIAL-1234"}
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 30.5), 3: "E", 4: (11.0, 34.0, 1.0)}
    return exif


def xmp(rights: str = "", creators: tuple[str, ...] = ()) -> str:
    items = "".join(f"<rdf:li>{creator}</rdf:li>" for creator in creators)
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description xmlns:exif="http://ns.adobe.com/exif/1.0/">'
        f'<dc:rights>\n <rdf:Alt> <rdf:li xml:lang="x-default">{rights}</rdf:li></rdf:Alt></dc:rights>'
        f"<dc:creator><rdf:Seq>{items}</rdf:Seq></dc:creator><exif:GPSLatitude>48,8.5N</exif:GPSLatitude>"
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def iptc(**texts: str) -> bytes:
    numbers = {"by_line": 80, "copyright": 116, "city": 90}
    sets = b"".join(
        struct.pack(">BBBH", 0x1C, 2, numbers[name], len(text)) + text.encode()
        for name, text in texts.items()
    )
    return b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(sets)) + sets


def with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "HEIC"])
def test_copyright_and_author_are_found_in_exif(format: str) -> None:
    exif = camera_exif()
    if format == "AVIF":
        del exif[ORIENTATION]  # Pillow would turn it into a property, and write the texts anew, in ASCII
    data = encode(drawing(), format, exif=exif.tobytes())
    assert metadata_of(data) == Metadata("© Ann's Shop", "Ann")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "HEIC"])
def test_copyright_and_author_are_found_in_xmp(format: str) -> None:
    packet = xmp("A &amp; B &lt;shop&gt;", ("Ann", "Bob"))
    if format == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", packet)
        data = encode(drawing(), format, pnginfo=text)
    else:
        data = encode(drawing(), format, xmp=packet.encode())
    assert metadata_of(data) == Metadata("A & B <shop>", "Ann; Bob")


def test_copyright_and_author_are_found_in_iptc_and_png_texts() -> None:
    jpeg = with_segment(encode(drawing()), 0xED, iptc(city="Paris", by_line="Ann", copyright="Ann's"))
    assert metadata_of(jpeg) == Metadata("Ann's", "Ann")
    text = PngImagePlugin.PngInfo()
    text.add_text("Copyright", "Ann's")
    text.add_text("Comment", "made in Paris")
    assert metadata_of(encode(drawing(), "PNG", pnginfo=text)) == Metadata("Ann's")


def test_exif_counts_before_xmp_before_iptc() -> None:
    data = with_segment(
        encode(drawing(), xmp=xmp("of xmp", ("Xmp",)).encode()), 0xED, iptc(copyright="of iptc")
    )
    assert metadata_of(data) == Metadata("of xmp", "Xmp")
    exif = Image.Exif()
    exif[COPYRIGHT] = "of exif"
    assert metadata_of(with_segment(data, 0xE1, exif.tobytes())) == Metadata("of exif", "Xmp")


def test_a_profile_is_noticed() -> None:
    for format in ("JPEG", "PNG", "WEBP", "AVIF", "HEIC"):
        assert metadata_of(encode(drawing(), format, icc_profile=swapped_profile())).has_profile
        assert not metadata_of(encode(drawing(), format)).has_profile


@pytest.mark.parametrize("format", EXTENSIONS)
def test_written_metadata_is_read_by_others_and_is_complete(format: str) -> None:
    data = encode_image(drawing(), format, metadata=FULL)
    assert encode_image(drawing(), format, metadata=FULL) == data
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        exif = image.getexif()
        assert set(exif) == {ARTIST, COPYRIGHT}
        assert bytes(str(exif[COPYRIGHT]), "latin-1").decode() == FULL.copyright
        assert image.info["icc_profile"] == srgb_profile()
        packet = image.info["xmp"]
    root = ElementTree.fromstring(packet)
    (rights,) = root.iterfind(".//dc:rights/rdf:Alt/rdf:li", NAMESPACES)
    (creator,) = root.iterfind(".//dc:creator/rdf:Seq/rdf:li", NAMESPACES)
    (source,) = root.iterfind(".//ext:DigitalSourceType", NAMESPACES)
    assert (rights.text, creator.text, source.text) == (FULL.copyright, FULL.artist, AI_EDITED)
    # The pixels do not depend on the metadata, and a second correction keeps it.
    np.testing.assert_array_equal(decode_image(data), decode_image(encode_image(drawing(), format)))
    again = metadata_of(data)
    assert (again.copyright, again.artist, again.has_profile) == (FULL.copyright, FULL.artist, True)


@pytest.mark.parametrize("format", EXTENSIONS)
def test_nothing_private_of_an_upload_is_kept(format: str) -> None:
    upload = with_segment(
        encode(drawing(), exif=camera_exif(), xmp=xmp("Ann").encode(), comment=b"my garden"),
        0xED,
        iptc(city="Paris", by_line="Ann"),
    )
    output = encode_image(decode_image(upload), format, metadata=metadata_of(upload))
    with Image.open(io.BytesIO(output)) as image:
        assert ORIENTATION not in image.getexif()
    chunks = output + b"".join(_inflated(output))
    for secret in (b"SERIAL", b"Phone", b"Maker", b"2024:05", b"GPS", b"48,8", b"Paris", b"garden"):
        assert secret not in chunks
    assert b"Ann's Shop" in output


@pytest.mark.parametrize("format", ["AVIF", "HEIC"])
def test_nothing_private_of_a_phones_picture_is_kept(format: str) -> None:
    upload = encode(drawing(), format, exif=camera_exif().tobytes(), xmp=xmp("Ann").encode())
    output = encode_image(decode_image(upload), "jpeg", metadata=metadata_of(upload))
    for secret in (b"SERIAL", b"Phone", b"Maker", b"2024:05", b"GPS", b"48,8"):
        assert secret in upload or secret == b"GPS"
        assert secret not in output
    assert b"Ann's Shop" in output


def test_overlapping_metadata_items_are_read_in_bounded_time() -> None:
    """Each of a thousand items is the whole file."""
    item = xmp_item(b"")
    data = bytearray(AVIF.file(*[item] * 1000)) + bytes(4 << 20)
    start = data.index(b"iloc") + 12
    for number in range(1000):
        data[start + 14 * number + 6 : start + 14 * number + 14] = struct.pack(">II", 0, len(data))
    started = time.process_time()
    assert read_metadata(Image.new("RGB", (1, 1)), read_heif(bytes(data))) == Metadata()
    assert time.process_time() - started < 5


@pytest.mark.parametrize("format", EXTENSIONS)
def test_empty_metadata_adds_no_bytes(format: str) -> None:
    assert save_options(Metadata(), format) == {}
    assert encode_image(drawing(), format, metadata=Metadata()) == encode_image(drawing(), format)


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=1000), st.text(max_size=50))
@example("\ud800", "\0")
@example("]]><x:y>", "</rdf:li>")
@example("x" * 5000, "é" * 5000)
def test_any_text_of_a_seller_is_written_as_well_formed_xml_and_read_back(one: str, other: str) -> None:
    exif = write_exif(
        {COPYRIGHT: one.encode("utf-8", "surrogatepass"), ARTIST: other.encode("utf-8", "surrogatepass")}
    )
    upload = with_segment(encode(drawing(16, 16)), 0xE1, b"Exif\0\0" + exif)
    metadata = metadata_of(upload)
    for text in (metadata.copyright, metadata.artist):
        assert text is None or (0 < len(text) <= MAX_TEXT and text == text.strip())
    for format in EXTENSIONS:
        if (packet := save_options(metadata, format).get("xmp")) is not None:
            ElementTree.fromstring(packet)
    output = encode_image(drawing(16, 16), "jpeg", metadata=metadata)
    assert metadata_of(output) == metadata


FILES = [data for data, *_ in (*odd_images().values(), *hostile_images().values())] + [
    encode_image(drawing(), format, metadata=FULL) for format in EXTENSIONS
]


@settings(deadline=None, phases=[Phase.explicit, Phase.generate])
@given(
    st.sampled_from(FILES),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=6),
    st.integers(0, 2000),
)
def test_damaged_metadata_is_not_an_error(data: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    damaged = bytearray(data)
    for at, value in changes:
        if at < len(damaged):
            damaged[at] = value
    with suppress(ImageError):
        assert isinstance(metadata_of(bytes(damaged[:cut] if cut < 1000 else damaged)), Metadata)


def directory(count: int, entry: bytes, following: int = 0) -> bytes:
    """Return a TIFF structure of `count` entries, equal except for their tags, and the offset of the next directory."""
    entries = b"".join(struct.pack(">H", tag) + entry for tag in range(COPYRIGHT - count + 1, COPYRIGHT + 1))
    return b"MM\0*" + struct.pack(">IH", 8, count) + entries + struct.pack(">I", following)


EVERYTHING = struct.pack(">HII", 2, 0xFFFF, 0)  # an ASCII text: the first 65,535 bytes
HOSTILE_EXIF = {
    "every entry points at everything": directory(COPYRIGHT, EVERYTHING) + bytes(4 << 20),
    "it follows itself": directory(1, EVERYTHING, following=8) + bytes(1 << 16),
    "more entries than bytes": b"MM\0*" + struct.pack(">IH", 8, 0xFFFF),
    "entries before the start": b"MM\0*" + struct.pack(">IH", 0, 0xFFFF) + bytes(100),
    "prefix upon prefix": b"Exif\0\0" * 100_000,
}


@pytest.mark.parametrize("kind", HOSTILE_EXIF)
def test_hostile_exif_at_worst_loses_the_metadata(kind: str) -> None:
    picture = encode(drawing(), "PNG")
    end_of_header = 8 + 25
    hostile = picture[:end_of_header] + chunk(b"eXIf", HOSTILE_EXIF[kind]) + picture[end_of_header:]
    started = time.perf_counter()
    decoded = decode_apart(hostile)
    assert time.perf_counter() - started < 30  # the start of a process included, on a busy machine
    np.testing.assert_array_equal(decoded.pixels, drawing())
    assert len(decoded.metadata.copyright or "") <= MAX_TEXT


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_texts_named_like_other_metadata_are_texts() -> None:
    """Pillow puts PNG's texts and all other metadata into one dictionary."""
    texts = PngImagePlugin.PngInfo()
    for key in ("xmp", "exif", "icc_profile", "photoshop"):
        texts.add_text(key, "nonsense")
        texts.add_itxt(key, "nonsense")
    texts.add_text("Copyright", "Ann's")
    decoded = decode_upload(encode(drawing(), "PNG", pnginfo=texts))
    np.testing.assert_array_equal(decoded.pixels, drawing())
    assert decoded.metadata.copyright == "Ann's"


def test_broken_iptc_and_exif_do_not_hide_xmp() -> None:
    broken = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x06\x1c\x02\x74\xff\xff\xff"
    upload = with_segment(encode(drawing(), xmp=xmp("Ann's").encode()), 0xED, broken)
    assert metadata_of(with_segment(upload, 0xE1, b"Exif\0\0MM\0*\xff")).copyright == "Ann's"


@settings(deadline=None, max_examples=30)
@given(
    st.dictionaries(
        st.sampled_from([ARTIST, COPYRIGHT]), st.binary(min_size=1, max_size=300).filter(lambda b: 0 not in b)
    )
)
def test_exif_texts_survive_writing(texts: dict[int, bytes]) -> None:
    assert read_exif(write_exif(texts)) == texts


def _inflated(data: bytes) -> list[bytes]:
    """Return the decompressed content of a PNG's compressed chunks."""
    contents, at = [], 8
    while data.startswith(b"\x89PNG") and at < len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if name in (b"iCCP", b"zTXt"):
            contents.append(zlib.decompress(data[at + 8 : at + 8 + length].split(b"\0", 1)[1][1:]))
        at += 12 + length
    return contents
