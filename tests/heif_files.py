"""Builds HEIC and AVIF files by hand, so that tests decide about every part of them (ISO/IEC 14496-12 and 23008-12).

An encoder supplies the coded picture and the box that describes it; everything around these is written here.
"""

import dataclasses
import io
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image


def box(kind: bytes, *body: bytes) -> bytes:
    """Return a box (ISO/IEC 14496-12, 4.2)."""
    content = b"".join(body)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def full_box(kind: bytes, version: int, flags: int, *body: bytes) -> bytes:
    """Return a box with version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *body)


@dataclass(frozen=True)
class Item:
    """Describe one item of a file; its id is its position in the list, from 1. properties: (box, is essential)."""

    kind: bytes
    payload: bytes
    properties: Sequence[tuple[bytes, bool]] = ()
    references: Sequence[tuple[bytes, Sequence[int]]] = ()
    content_type: bytes = b""
    hidden: bool = False


def heif(
    major: bytes,
    compatible: Sequence[bytes],
    items: Sequence[Item],
    *extra: bytes,
    primary: int = 1,
) -> bytes:
    """Return a file of these items, with their payloads one after the other in `mdat`. extra: boxes before `mdat`."""
    properties: list[bytes] = []
    association, infos, references = b"", b"", b""
    for number, item in enumerate(items, 1):
        name = item.content_type + b"\0" if item.content_type else b""
        infos += full_box(b"infe", 2, item.hidden, struct.pack(">HH4s", number, 0, item.kind), b"\0", name)
        uses = b""
        for one, essential in item.properties:
            if one not in properties:
                properties.append(one)
            uses += bytes([essential << 7 | properties.index(one) + 1])
        association += struct.pack(">HB", number, len(item.properties)) + uses
        for kind, targets in item.references:
            references += box(kind, struct.pack(f">HH{len(targets)}H", number, len(targets), *targets))
    head = box(b"ftyp", major, bytes(4), *compatible)

    def meta(start: int) -> bytes:
        extents = b""
        for number, item in enumerate(items, 1):
            extents += struct.pack(">HHHII", number, 0, 1, start, len(item.payload))
            start += len(item.payload)
        return full_box(
            b"meta",
            0,
            0,
            full_box(b"hdlr", 0, 0, bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", 0, 0, struct.pack(">H", primary)),
            full_box(b"iloc", 0, 0, b"\x44\0", struct.pack(">H", len(items)), extents),
            full_box(b"iinf", 0, 0, struct.pack(">H", len(items)), infos),
            full_box(b"iref", 0, 0, references) if references else b"",
            box(
                b"iprp",
                box(b"ipco", *properties),
                full_box(b"ipma", 0, 0, struct.pack(">I", len(items)), association),
            ),
        )

    start = len(head) + len(meta(0)) + sum(map(len, extra)) + 8
    return head + meta(start) + b"".join(extra) + box(b"mdat", *(item.payload for item in items))


def ispe(width: int, height: int) -> tuple[bytes, bool]:
    """Return the property of an item's size (ISO/IEC 23008-12, 6.5.3)."""
    return full_box(b"ispe", 0, 0, struct.pack(">II", width, height)), False


def irot(turns: int) -> tuple[bytes, bool]:
    """Return the property of anticlockwise quarter turns (6.5.10)."""
    return box(b"irot", bytes([turns])), True


def imir(axis: int) -> tuple[bytes, bool]:
    """Return the property of mirroring; 0 swaps top and bottom, 1 left and right (6.5.12)."""
    return box(b"imir", bytes([axis])), True


def colr(profile: bytes) -> tuple[bytes, bool]:
    """Return the property of an ICC profile (ISO/IEC 14496-12, 12.1.5)."""
    return box(b"colr", b"prof", profile), False


def nclx(primaries: int, transfer: int, matrix: int, full_range: bool = True) -> tuple[bytes, bool]:
    """Return the property of colours by number (ISO/IEC 23091-2)."""
    return box(b"colr", b"nclx", struct.pack(">HHHB", primaries, transfer, matrix, full_range << 7)), False


def auxc(kind: bytes) -> tuple[bytes, bool]:
    """Return the property of an auxiliary image's kind (ISO/IEC 23008-12, 6.5.8)."""
    return full_box(b"auxC", 0, 0, kind + b"\0"), True


def clap(width: int, height: int, right: int, down: int) -> tuple[bytes, bool]:
    """Return the property of a crop, with its centre's offset in half pixels (ISO/IEC 14496-12, 12.1.4)."""
    return box(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, right, 2, down, 2)), True


def xmp_item(packet: bytes, of: int = 1) -> Item:
    """Return an item with the XMP of item `of`."""
    return Item(b"mime", packet, references=[(b"cdsc", [of])], content_type=b"application/rdf+xml")


def exif_item(exif: bytes, of: int = 1) -> Item:
    """Return an item with the EXIF, a TIFF structure, of item `of`; the offset of its header comes first (A.2.1)."""
    return Item(b"Exif", struct.pack(">I", 6) + b"Exif\0\0" + exif, references=[(b"cdsc", [of])])


def orientation(value: int) -> bytes:
    """Return a TIFF structure with EXIF's orientation."""
    return struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, value, 0, 0)


def encode_heic(image: Image.Image, **options: Any) -> bytes:
    """Encode a HEIC with pillow-heif, at a quality that is high enough for comparisons."""
    import pillow_heif  # an extra

    buffer = io.BytesIO()
    # Not as a plugin of Pillow: a test must not enable `Image.open` to read HEIC elsewhere.
    pillow_heif.from_pillow(image).save(buffer, **{"quality": 95, "chroma": 444, **options})
    return buffer.getvalue()


def encode_avif(image: Image.Image, **options: Any) -> bytes:
    """Encode an AVIF with Pillow, at a quality that is high enough for comparisons."""
    buffer = io.BytesIO()
    image.save(buffer, "AVIF", **{"quality": 95, "subsampling": "4:4:4", "speed": 9, **options})
    return buffer.getvalue()


class Family(NamedTuple):
    """Describe one of the two formats, for tests that are the same for both."""

    name: str  # as in pipelines.images.decode
    brand: bytes
    coding: bytes  # kind of its items
    configuration: bytes  # kind of the property with the decoder's configuration
    encode: Callable[..., bytes]

    def picture(
        self, pixels: np.ndarray, *properties: tuple[bytes, bool], colours: bool = True, **changes: Any
    ) -> Item:
        """Return an item that shows uint8 (H,W,3), with `properties` after those that every picture has."""
        height, width = pixels.shape[:2]
        data = self.encode(Image.fromarray(pixels))
        at = data.index(self.configuration) - 4
        configuration = data[at : at + int.from_bytes(data[at : at + 4], "big")]
        usual = [ispe(width, height), (full_box(b"pixi", 0, 0, b"\3\x08\x08\x08"), False)]
        usual += [(configuration, True), *([nclx(1, 13, 6)] if colours else [])]
        payload = data[data.index(b"mdat") + 4 :]
        return Item(self.coding, payload, **{"properties": [*usual, *properties], **changes})

    def file(self, *items: Item, major: bytes | None = None, primary: int = 1, extra: bytes = b"") -> bytes:
        """Return a file of these items."""
        return heif(major or self.brand, (b"mif1", self.brand, b"miaf"), items, extra, primary=primary)


AVIF = Family("AVIF", b"avif", b"av01", b"av1C", encode_avif)
HEIC = Family("HEIC", b"heic", b"hvc1", b"hvcC", encode_heic)


def grid(width: int, height: int, tiles: Sequence[int], rows: int = 1) -> Item:
    """Return a picture of tiles, given by their numbers (ISO/IEC 23008-12, 6.6.2.3.2)."""
    payload = struct.pack(">BBBBII", 0, 1, rows - 1, len(tiles) // rows - 1, width, height)
    return Item(b"grid", payload, [ispe(width, height), nclx(1, 13, 6)], [(b"dimg", tiles)])


def overlay(width: int, height: int, of: int, claimed: tuple[int, int]) -> Item:
    """Return a picture laid on a canvas of that size (6.6.2.2)."""
    payload = struct.pack(">BB4HIIii", 0, 1, 0, 0, 0, 0xFFFF, width, height, 0, 0)
    return Item(b"iovl", payload, [ispe(*claimed)], [(b"dimg", [of])])


def odd_heif(rgb: np.ndarray) -> dict[str, tuple[bytes, np.ndarray, int]]:
    """Return valid files that show uint8 `rgb` (64,64,3), or a part of it: name to (bytes, pixels, tolerance)."""
    cases: dict[str, tuple[bytes, np.ndarray, int]] = {}
    for family in (AVIF, HEIC):
        for name, (data, pixels) in _odd(family, rgb).items():
            cases[f"{family.name.lower()}{name}"] = data, pixels, 8
    deep = rgb[..., 0].astype(np.uint16) * 257
    cases["16-bit grey heic"] = (
        encode_heic(Image.fromarray(deep), quality=-1),
        np.repeat(rgb[..., :1], 3, axis=-1),
        1,
    )
    cases["heic, crop in the middle"] = HEIC.file(HEIC.picture(rgb, clap(32, 24, 0, 0))), rgb[20:44, 16:48], 8
    return cases


def _odd(family: Family, rgb: np.ndarray) -> dict[str, tuple[bytes, np.ndarray]]:
    picture, file = family.picture, family.file
    plain, other = picture(rgb), picture(255 - rgb)
    hidden = {"hidden": True}
    aside = {
        "gain map": auxc(b"urn:com:apple:photo:2020:aux:hdrgainmap"),
        "depth": auxc(b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth"),
    }
    cases = {
        ", plain": (file(plain), rgb),
        ", major brand mif1": (file(plain, major=b"mif1"), rgb),
        ", exif 6 alone": (file(plain, exif_item(orientation(6))), rgb),
        ", nonsense exif": (file(plain, Item(b"Exif", b"\xff" * 40, references=[(b"cdsc", [1])])), rgb),
        ", crop at the corner": (file(picture(rgb, clap(40, 30, -24, -34))), rgb[:30, :40]),
        ", thumbnail": (file(plain, dataclasses.replace(other, references=[(b"thmb", [1])])), rgb),
        ", second picture": (file(plain, other), rgb),
        ", second picture is the main one": (file(other, plain, primary=2), rgb),
        ", tone map": (
            file(
                plain,
                dataclasses.replace(other, hidden=True),
                Item(b"tmap", bytes(20), [ispe(64, 64)], [(b"dimg", [1, 2])], **hidden),
            ),
            rgb,
        ),
        ", tiles": (
            file(*(picture(tile, **hidden) for tile in (rgb, rgb[::-1])), grid(128, 64, [1, 2]), primary=3),
            np.concatenate([rgb, rgb[::-1]], axis=1),
        ),
        ", something of a telephone behind it": (file(plain) + bytes(3) + b"\x0a\x0e\0\0\0SEFT", rgb),
    }
    for name, kind in aside.items():
        one = picture(255 - rgb, kind, references=[(b"auxl", [1])], **hidden)
        cases[f", {name}"] = file(plain, one), rgb
    for turns in range(4):
        for axis in (None, 0, 1):
            stored = rgb if axis is None else np.flip(rgb, axis)
            stored = np.ascontiguousarray(np.rot90(stored, -turns))
            properties = [*([irot(turns)] if turns else []), *([] if axis is None else [imir(axis)])]
            if properties:
                item = picture(stored, *properties)
                name = f", turned {turns}" + ("" if axis is None else f", mirrored {axis}")
                cases[name] = file(item), rgb
                if turns == 3 and axis is None:
                    for value in (6, 8):  # the same turn again in EXIF, and a different one
                        cases[f"{name}, exif {value}"] = file(item, exif_item(orientation(value))), rgb
    return cases


def hostile_heif(rgb: np.ndarray) -> dict[str, tuple[bytes, str]]:
    """Return files that must be refused, of uint8 `rgb` (64,64,3): name to (bytes, error code)."""
    cases: dict[str, tuple[bytes, str]] = {}
    for family in (AVIF, HEIC):
        for name, (data, code) in _hostile(family, rgb).items():
            cases[f"{family.name.lower()}, {name}"] = data, code
    # For these, pillow-heif would show another picture of the file.
    plain, other = HEIC.picture(255 - rgb), HEIC.picture(rgb)
    auxiliary = HEIC.picture(rgb, auxc(b"urn:mpeg:hevc:2015:auxid:2"), references=[(b"auxl", [1])])
    cases |= {
        "heic, main picture is av1": (HEIC.file(plain, AVIF.picture(rgb), primary=2), "corrupt"),
        "heic, main picture is of no coding": (
            HEIC.file(plain, dataclasses.replace(other, kind=b"unci"), primary=2),
            "corrupt",
        ),
        "heic, main picture is a depth map": (HEIC.file(plain, auxiliary, primary=2), "corrupt"),
        "heic, main picture is a thumbnail": (
            HEIC.file(plain, dataclasses.replace(other, references=[(b"thmb", [1])]), primary=2),
            "corrupt",
        ),
        "heic, main picture is itself": (
            HEIC.file(plain, Item(b"iden", b"", [ispe(64, 64)], [(b"dimg", [2])]), primary=2),
            "corrupt",
        ),
        "heic bomb, overlay": (
            HEIC.file(plain, overlay(20000, 20000, 1, (64, 64)), primary=2),
            "too_many_pixels",
        ),
    }
    frames = [Image.fromarray(rgb), Image.fromarray(255 - rgb)]
    moving = encode_avif(frames[0], save_all=True, append_images=frames[1:], duration=100)
    cases["animated avif"] = moving, "animated"
    cases["animated avif, major brand mif1"] = moving[:8] + b"mif1" + moving[12:], "animated"
    cases["animated heic"] = moving.replace(b"avis", b"hevc").replace(b"avif", b"heic"), "animated"
    return cases


def _hostile(family: Family, rgb: np.ndarray) -> dict[str, tuple[bytes, str]]:
    picture, file = family.picture, family.file
    plain = picture(rgb)
    whole = file(plain)
    large = picture(np.full((400, 400, 3), 90, np.uint8)).payload

    def of_size(width: int, height: int, payload: bytes = plain.payload) -> bytes:
        return file(
            dataclasses.replace(
                plain, payload=payload, properties=[ispe(width, height), *plain.properties[1:]]
            )
        )

    def in_tiles(width: int, height: int, claimed: tuple[int, int]) -> bytes:
        tiled = dataclasses.replace(grid(width, height, [1]), properties=[ispe(*claimed)])
        return file(plain, tiled, primary=2)

    configuration = picture(np.full((400, 400, 3), 90, np.uint8)).properties[2]
    lying = dataclasses.replace(
        plain, payload=large, properties=[*plain.properties[:2], configuration, *plain.properties[3:]]
    )
    return {
        "half": (whole[: len(whole) // 2], "truncated"),
        "header only": (whole[: whole.index(b"mdat")], "truncated"),
        "no header": (whole[:24] + box(b"mdat", plain.payload), "corrupt"),
        "bomb": (of_size(60000, 60000), "too_many_pixels"),
        "long side": (of_size(30000, 600), "side_too_long"),
        "bomb of tiles": (in_tiles(60000, 60000, (60000, 60000)), "too_many_pixels"),
        "bomb of tiles that says it is small": (in_tiles(60000, 60000, (64, 64)), "too_many_pixels"),
        "coded larger than it says": (file(lying), "corrupt"),
        "coded smaller than it says": (of_size(640, 480), "corrupt"),
        "tiny": (file(picture(rgb[:64, :64], clap(8, 8, -56, -56))), "too_small"),
        "two headers": (whole.replace(b"mdat", b"meta"), "corrupt"),
        "no main picture": (file(plain, primary=7), "corrupt"),
        "items beyond the end": (_beyond(whole, plain.payload), "truncated"),
        "in pq": (file(picture(rgb, nclx(9, 16, 9), colours=False)), "hdr"),
        "in hlg": (file(picture(rgb, nclx(9, 18, 9), colours=False)), "hdr"),
    }


def _beyond(whole: bytes, payload: bytes) -> bytes:
    """Return the file with a declared length of its picture's bytes that is too large."""
    length = struct.pack(">I", len(payload))
    at = whole.index(length, whole.index(b"iloc"))
    return whole[:at] + struct.pack(">I", len(payload) + 1) + whole[at + 4 :]
