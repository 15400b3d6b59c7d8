"""What a corrected image keeps of its upload's metadata: who made it, and whose it is. Nothing else.

A seller's photo may say where it was taken, when, with which camera, and hold a thumbnail of what was cropped away. So
nothing is copied: the texts about copyright and author are read, cleaned, and written anew. Pixels were converted to
sRGB and turned upright, so neither the upload's colour profile nor its orientation may stay; where the upload had a
profile the output has one too, that of sRGB.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from html import unescape
from typing import Any
from xml.sax.saxutils import escape

from PIL import ImageCms, PngImagePlugin

from pipelines.exif import ARTIST, COPYRIGHT, read_exif, write_exif
from pipelines.heif import HeifError, format_of, read_heif

#: Characters that are kept of a text.
MAX_TEXT = 500
#: IPTC's word for a picture of a camera that a trained model has changed in parts
#: (http://cv.iptc.org/newscodes/digitalsourcetype/).
AI_EDITED = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"

_MOST_PARTS = 5000  # segments or chunks that are looked at
_MOST_XMP = 1 << 20
_XMP_JPEG, _XMP_PNG = b"http://ns.adobe.com/xap/1.0/\0", "XML:com.adobe.xmp"


@dataclass(frozen=True)
class Metadata:
    """What is written into an output. The default writes nothing."""

    copyright: str | None = None
    artist: str | None = None
    has_profile: bool = False  # the upload was tagged with a colour profile
    ai_edited: bool = False  # say that a model has changed the picture


def metadata_of(upload: bytes) -> Metadata:
    """What is kept of an upload. Raises nothing: what is nonsense counts as absent.

    Read are EXIF's Copyright and Artist, XMP's dc:rights and dc:creator, IPTC's copyright notice and by-line (IIM 4.2,
    2:116 and 2:80), and PNG's texts Copyright and Author; of several the first in this order counts.
    """
    found = _Found()
    try:
        for kind, body in _parts(upload):
            found.add(kind, body)
    except (
        struct.error,
        IndexError,
        HeifError,
    ):  # cut within its header; decoding says what is wrong with it
        pass
    return Metadata(found.first("copyright"), found.first("artist"), found.has_profile)


def save_options(metadata: Metadata, format: str) -> dict[str, Any]:
    """Arguments of Pillow's `save` that write `metadata` into 'jpeg', 'png' or 'webp'."""
    texts = {COPYRIGHT: metadata.copyright, ARTIST: metadata.artist}
    encoded = {tag: text.encode() for tag, text in texts.items() if text}
    options: dict[str, Any] = {}
    if encoded:
        options["exif"] = b"Exif\0\0" + write_exif(encoded)
    if metadata.has_profile:
        options["icc_profile"] = srgb_profile()
    if encoded or metadata.ai_edited:
        packet = _xmp(metadata)
        if format == "png":
            options["pnginfo"] = PngImagePlugin.PngInfo()
            options["pnginfo"].add_itxt(_XMP_PNG, packet)
        else:
            options["xmp"] = packet.encode()
    return options


@lru_cache(maxsize=1)
def srgb_profile() -> bytes:
    """An ICC profile of sRGB, the same bytes at any time."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)  # ICC.1:2010, 7.2: when it was made
    profile[84:100] = bytes(16)  # and its hash, which may be zero
    return bytes(profile)


class _Found:
    """Texts by place, in the order in which they count."""

    _ORDER = ("exif", "xmp", "iptc", "png")

    def __init__(self) -> None:
        self.has_profile = False
        self._texts: dict[tuple[str, str], str] = {}

    def first(self, name: str) -> str | None:
        """The text that counts; None where there is none."""
        return next((self._texts[name, kind] for kind in self._ORDER if (name, kind) in self._texts), None)

    def add(self, kind: str, body: bytes) -> None:
        """Look into a part of the file."""
        if kind == "profile":
            self.has_profile = True
        elif kind == "exif":
            tags = read_exif(body)
            for name, tag in (("copyright", COPYRIGHT), ("artist", ARTIST)):
                text = tags.get(tag, b"")
                self._keep(name, kind, text if isinstance(text, bytes) else b"")
        elif kind == "xmp":
            packet = body[:_MOST_XMP].decode("utf-8", "replace")
            self._keep("copyright", kind, _xmp_items(packet, "dc:rights")[:1])
            self._keep("artist", kind, _xmp_items(packet, "dc:creator"))
        elif kind == "iptc":
            for number, text in _iptc(body):
                self._keep({116: "copyright", 80: "artist"}.get(number, ""), kind, text)
        elif kind == "text":
            key, _, text = body.partition(b"\0")
            name = {b"Copyright": "copyright", b"Author": "artist"}.get(key, "")
            self._keep(name, "png", [text.decode("latin-1")])

    def _keep(self, name: str, kind: str, text: bytes | list[str]) -> None:
        cleaned = _cleaned(text)
        if name and cleaned:
            self._texts.setdefault((name, kind), cleaned)


def _cleaned(text: bytes | list[str]) -> str:
    """One line, without what XML or a reader would choke on. Bytes: zeros separate photographer and editor."""
    if isinstance(text, bytes):
        try:
            decoded = text.decode("utf-8")
        except UnicodeDecodeError:
            decoded = text.decode("latin-1")
        text = decoded.split("\0")
    items = (re.sub(r"[\s\x00-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]+", " ", item).strip() for item in text)
    return "; ".join(item for item in items if item)[:MAX_TEXT].strip()


def _parts(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(kind, body) of the parts of a file that may hold metadata."""
    if data.startswith(b"\xff\xd8"):
        yield from _jpeg_parts(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        yield from _png_parts(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        yield from _webp_parts(data)
    elif format_of(data) is not None:
        yield from _heif_parts(data)


def _jpeg_parts(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Application segments before the first scan (ITU T.81, B.1.1)."""
    at = 2
    for _ in range(_MOST_PARTS):
        while data[at] == 0xFF and data[at + 1] == 0xFF:  # fill bytes
            at += 1
        marker = data[at + 1]
        if data[at] != 0xFF or marker in (0xD9, 0xDA):
            return
        (length,) = struct.unpack_from(">H", data, at + 2)
        body = data[at + 4 : at + 2 + length]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            yield "exif", body
        elif marker == 0xE1 and body.startswith(_XMP_JPEG):
            yield "xmp", body[len(_XMP_JPEG) :]
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
            yield "profile", b""
        elif marker == 0xED and body.startswith(b"Photoshop 3.0\0"):
            yield "iptc", body
        at += 2 + max(length, 2)


def _png_parts(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Chunks (PNG specification, 11.3). Compressed texts are left alone."""
    at = 8
    for _ in range(_MOST_PARTS):
        length, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + min(length, _MOST_XMP)]
        if name == b"IEND":
            return
        if name == b"eXIf":
            yield "exif", body
        elif name == b"iCCP":
            yield "profile", b""
        elif name == b"tEXt":
            yield "text", body
        elif name == b"iTXt" and body.startswith(_XMP_PNG.encode() + b"\0\0"):
            yield "xmp", body.split(b"\0", 5)[-1]  # behind compression, language and translated keyword
        at += 12 + length


def _webp_parts(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Chunks (RFC 9649, 2.7)."""
    at = 12
    kinds = {b"EXIF": "exif", b"XMP ": "xmp", b"ICCP": "profile"}
    for _ in range(_MOST_PARTS):
        name, length = struct.unpack_from("<4sI", data, at)
        if name in kinds:
            yield kinds[name], data[at + 8 : at + 8 + min(length, _MOST_XMP)]
        at += 8 + length + length % 2


def _heif_parts(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Items (ISO/IEC 23008-12, annex A)."""
    file = read_heif(data)
    if file.has_profile():
        yield "profile", b""
    left = 8 * _MOST_XMP  # items may lie over each other: the size of the file is no bound
    for item in file.items.values():
        if item.kind == b"Exif" or (item.kind == b"mime" and item.content_type == b"application/rdf+xml"):
            body = bytes(file.payload(item, min(left, _MOST_XMP)))
            left -= len(body)
            if item.kind == b"mime":
                yield "xmp", body
            elif len(body) > 4:
                yield "exif", body[4 + int.from_bytes(body[:4], "big") :]  # where its header is


def _xmp_items(packet: str, name: str) -> list[str]:
    """The items of a property's list, unescaped. Found by plain search: no XML parser gets to see strangers' text."""
    found: list[str] = []
    inner = _between(packet, f"<{name}", f"</{name}>")
    while inner and len(found) < 5:
        item = _between(inner, "<rdf:li", "</rdf:li>")
        if item is None:
            break
        found.append(unescape(item))
        inner = inner[inner.find("</rdf:li>") + 9 :]
    return found


def _between(text: str, opening: str, closing: str) -> str | None:
    """What stands between a tag, whatever its attributes, and its end."""
    start = text.find(opening)
    start = text.find(">", start) + 1 if start >= 0 else 0
    end = text.find(closing, start)
    return text[start:end] if start > 0 and end >= 0 else None


def _iptc(body: bytes) -> Iterator[tuple[int, bytes]]:
    """(data set, text) of record 2 (IIM 4.2, 1.5) in Photoshop's image resource 0x0404."""
    at = body.find(b"8BIM\x04\x04")
    at = body.find(b"\x1c\x02", at) if at >= 0 else -1
    for _ in range(_MOST_PARTS if at >= 0 else 0):
        if body[at : at + 1] != b"\x1c" or at + 5 > len(body):
            return
        record, number, length = struct.unpack_from(">BBH", body, at + 1)
        if length >= 0x8000:  # an extended length, of pictures
            return
        if record == 2:
            yield number, body[at + 5 : at + 5 + length]
        at += 5 + length


def _xmp(metadata: Metadata) -> str:
    """The packet (XMP specification, part 1, 7; IPTC photo metadata standard)."""
    properties = []
    if metadata.copyright:
        text = escape(metadata.copyright)
        properties.append(
            f'<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt></dc:rights>'
        )
    if metadata.artist:
        properties.append(
            f"<dc:creator><rdf:Seq><rdf:li>{escape(metadata.artist)}</rdf:li></rdf:Seq></dc:creator>"
        )
    if metadata.ai_edited:
        properties.append(f"<Iptc4xmpExt:DigitalSourceType>{AI_EDITED}</Iptc4xmpExt:DigitalSourceType>")
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        f"{''.join(properties)}</rdf:Description></rdf:RDF></x:xmpmeta>\n"
        '<?xpacket end="w"?>'
    )
