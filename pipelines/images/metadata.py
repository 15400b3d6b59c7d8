"""Reads the metadata of an upload that its correction keeps, author and copyright, and writes it. Nothing else is kept.

A seller's photo may reveal place, time and camera, and hold a thumbnail of what was cropped away. So nothing is copied:
the texts about copyright and author are read, cleaned, and written anew. Pixels were converted to sRGB and turned
upright, so the upload's colour profile and orientation must go. If the upload had a profile, the output gets that of
sRGB.
"""

import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from html import unescape
from typing import Any
from xml.sax.saxutils import escape

from PIL import Image, ImageCms, IptcImagePlugin, JpegImagePlugin, PngImagePlugin

from pipelines.images.exif import ARTIST, COPYRIGHT, read_exif, write_exif
from pipelines.images.heif import Heif, HeifError

#: Characters of a text that are kept.
MAX_TEXT = 500
#: IPTC's term for a camera's picture that a trained model has changed in parts
#: (http://cv.iptc.org/newscodes/digitalsourcetype/).
AI_EDITED = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"

_MOST_XMP = 1 << 20
_XMP_PNG = "XML:com.adobe.xmp"


@dataclass(frozen=True)
class Metadata:
    """Hold the metadata for an output. The default writes nothing."""

    copyright: str | None = None
    artist: str | None = None
    has_profile: bool = False  # the upload was tagged with a colour profile
    ai_edited: bool = False  # state that a model has changed the picture


def read_metadata(image: Image.Image, heif: Heif | None = None) -> Metadata:
    """Return the metadata to keep of a loaded upload. Raises nothing: damaged metadata counts as absent.

    Reads EXIF's Copyright and Artist, XMP's dc:rights and dc:creator, IPTC's copyright notice and by-line (IIM 4.2,
    2:116 and 2:80), and PNG's texts Copyright and Author. If several are present, the first in this order counts.

    heif: the contents of an HEIC or AVIF file. Call this only in the decoding process, because Pillow's readers of
    metadata have no bounds of their own.
    """
    exif, xmp = image.info.get("exif"), image.info.get("xmp")
    if heif is not None:
        exif, xmp = _heif_items(heif)
    tags = read_exif(exif or b"")
    packet = xmp[:_MOST_XMP].decode("utf-8", "replace") if isinstance(xmp, bytes) else ""
    iptc = _iptc(image)
    rights, creators = _xmp_items(packet, "dc:rights")[:1], _xmp_items(packet, "dc:creator")
    return Metadata(
        _first(tags.get(COPYRIGHT), rights, iptc.get((2, 116)), image.info.get("Copyright")),
        _first(tags.get(ARTIST), creators, iptc.get((2, 80)), image.info.get("Author")),
        "icc_profile" in image.info,
    )


def save_options(metadata: Metadata, format: str) -> dict[str, Any]:
    """Return arguments for Pillow's `save` that write `metadata` into 'jpeg', 'png' or 'webp'."""
    texts = {COPYRIGHT: metadata.copyright, ARTIST: metadata.artist}
    encoded = {tag: text.encode() for tag, text in texts.items() if text}
    options: dict[str, Any] = {}
    if encoded:
        options["exif"] = write_exif(encoded)
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
    """Return an ICC profile of sRGB, always the same bytes."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)  # ICC.1:2010, 7.2: the time of its creation
    profile[84:100] = bytes(16)  # and its hash, which may be zero
    return bytes(profile)


def _first(*texts: object) -> str | None:
    """Return the first text that is not empty after cleaning. Each is None, text, bytes or a list of these."""
    return next(filter(None, map(_cleaned, texts)), None)


def _cleaned(text: object) -> str:
    """Return one line, without characters that XML or readers reject. In bytes, zeros separate several names."""
    if isinstance(text, list):
        return "; ".join(filter(None, map(_cleaned, text)))[:MAX_TEXT].strip()
    if isinstance(text, bytes):
        try:
            decoded = text.decode("utf-8")
        except UnicodeDecodeError:
            decoded = text.decode("latin-1")
        return _cleaned(list(decoded.split("\0")))
    if not isinstance(text, str):
        return ""
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]+", " ", text).strip()[:MAX_TEXT].strip()


def _iptc(image: Image.Image) -> dict[tuple[int, int], Any]:
    """Return a JPEG's data sets by record and number; empty for other formats."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return {}
    try:
        return IptcImagePlugin.getiptcinfo(image) or {}
    except Exception:  # noqa: BLE001 (hostile bytes can make Pillow raise anything)
        return {}


def _heif_items(heif: Heif) -> tuple[bytes, bytes]:
    """Return EXIF and XMP of an HEIC or AVIF file (ISO/IEC 23008-12, annex A); empty if there is none.

    Pillow never reads these items, because damage in them would make its decoders fail (`Heif.without_metadata`).
    """
    exif = xmp = b""
    for item in heif.items.values():
        try:
            if item.kind == b"Exif" and not exif:
                body = bytes(heif.payload(item, _MOST_XMP))
                exif = body[4 + int.from_bytes(body[:4], "big") :]  # from the TIFF header on
            elif item.kind == b"mime" and item.content_type == b"application/rdf+xml" and not xmp:
                xmp = bytes(heif.payload(item, _MOST_XMP))
        except HeifError:  # the item is outside the file
            continue
    return exif, xmp


def _xmp_items(packet: str, name: str) -> list[str]:
    """Return the items of a property's list, unescaped. Searches plain text: no XML parser gets untrusted text."""
    items: list[str] = []
    inner = _between(packet, f"<{name}", f"</{name}>")
    while inner and len(items) < 5:
        item = _between(inner, "<rdf:li", "</rdf:li>")
        if item is None:
            break
        items.append(unescape(item))
        inner = inner[inner.find("</rdf:li>") + 9 :]
    return items


def _between(text: str, opening: str, closing: str) -> str | None:
    """Return the text between an opening tag, with any attributes, and its closing tag."""
    start = text.find(opening)
    start = text.find(">", start) + 1 if start >= 0 else 0
    end = text.find(closing, start)
    return text[start:end] if start > 0 and end >= 0 else None


def _xmp(metadata: Metadata) -> str:
    """Return the XMP packet (XMP specification, part 1, 7; IPTC photo metadata standard)."""
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
