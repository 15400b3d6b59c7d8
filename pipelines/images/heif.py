"""Reads the structure of an HEIC or AVIF file: its brands, its items, and the sizes that it declares.

Both are HEIF (ISO/IEC 23008-12): boxes of ISO/IEC 14496-12, in which a box `meta` lists items (coded pictures, tiles,
thumbnails, gain maps, EXIF, …), their properties and the positions of their bytes. Nothing is decoded here, and no file
can make it read without bounds.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from pipelines.images.av1 import largest_frame

#: Brands of files with a coded picture, and of those with a video (ISO/IEC 23008-12, annex B; AV1 in HEIF, 6).
_AVIF_STILL, _AVIF_SEQUENCE = (b"avif",), (b"avis",)
_HEIC_STILL = (b"heic", b"heix", b"heim", b"heis")
_HEIC_SEQUENCE = (b"hevc", b"hevx", b"hevm", b"hevs")
#: Brands of HEIF with any coding. A file may have one as its major brand, and name the coding in a compatible brand.
_HEIF_STILL, _HEIF_SEQUENCE = (b"mif1", b"mif2"), (b"msf1",)

#: Bounds. A phone's 50-megapixel picture in tiles of 512 pixels has some 200 items, with one extent each.
_MOST_BRANDS, _MOST_BOXES, _MOST_ITEMS, _MOST_EXTENTS = 256, 2000, 5000, 32
_MOST_ASSOCIATIONS = 50_000
#: Bytes of an item that are read at most.
_MOST_PAYLOAD = 64 << 20
#: Difference below which a coded frame's size agrees with its picture's: encoders pad frames to whole blocks.
_PADDING = 128
#: Replaces the kind of items that decoders need not see. No decoder knows this kind, so all skip such items.
_UNKNOWN_KIND = b"skip"
_METADATA = (b"Exif", b"mime")


class HeifError(ValueError):
    """Signal a file that breaks the format's rules, or exceeds the bounds of this module."""


@dataclass(frozen=True)
class Item:
    """Hold one item. properties: (kind, body) in order; a body has version and flags, but not the box's header."""

    kind: bytes
    kind_at: int  # position of the kind in the file
    content_type: bytes  # of an item of kind mime
    extents: tuple[tuple[int, int], ...] | None  # (start, length) in the file; None: outside the file
    properties: tuple[tuple[bytes, memoryview], ...] = ()

    def find(self, kind: bytes) -> memoryview | None:
        """Return the first property of a kind, or None."""
        return next((body for name, body in self.properties if name == kind), None)


@dataclass(frozen=True)
class Heif:
    """Hold a file's contents."""

    data: bytes
    major: bytes
    has_tracks: bool  # videos and bursts are tracks
    items: Mapping[int, Item]
    primary: Item | None
    properties: tuple[tuple[bytes, memoryview], ...] = field(default=())

    @property
    def is_sequence(self) -> bool:
        """Return True if the file is a video, or has one that readers may show instead of its still picture."""
        sequences = (*_AVIF_SEQUENCE, *_HEIC_SEQUENCE, *_HEIF_SEQUENCE)
        return self.major in sequences or (self.has_tracks and self.major not in (*_AVIF_STILL, *_HEIC_STILL))

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Yield the (width, height) of every picture that the file has or composes, as declared and as coded.

        Raises HeifError if a picture is coded much larger or smaller than declared: some decoders would scale it
        silently. (For HEVC, the decoder itself checks this.)
        """
        for kind, body in self.properties:
            if kind == b"ispe":
                yield _size(body)
        for item in self.items.values():
            if item.kind == b"av01":
                yield _coded_size(item, self.payload(item))
            elif item.kind in (b"grid", b"iovl"):
                yield _canvas(item.kind, self.payload(item, 64))

    def payload(self, item: Item, most: int = _MOST_PAYLOAD) -> bytes | memoryview:
        """Return the first `most` bytes of an item. Raises HeifError if they are not inside the file."""
        if item.extents is None:
            raise HeifError(f"an item {item.kind!r} whose bytes are not in the file")
        view, parts = memoryview(self.data), []
        for start, length in item.extents:
            length = min(length, most)
            if start + length > len(view):
                raise HeifError(f"an item {item.kind!r} extends beyond the end of the file")
            parts.append(view[start : start + length])
            most -= length
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def colours(self) -> tuple[int, int] | None:
        """Return primaries and transfer of the primary picture by number (ISO/IEC 23091-2); None if not given."""
        properties = () if self.primary is None else self.primary.properties
        for kind, body in properties:
            if kind == b"colr" and body[:4] == b"nclx" and len(body) >= 8:
                primaries, transfer = struct.unpack_from(">HH", body, 4)
                return primaries, transfer
        return None

    def has_profile(self) -> bool:
        """Return True if the primary picture has an ICC profile."""
        properties = () if self.primary is None else self.primary.properties
        return any(kind == b"colr" and body[:4] in (b"prof", b"rICC") for kind, body in properties)

    def cropped(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the primary picture's (width, height) after the crop `clap` (ISO/IEC 14496-12, 12.1.4) of its `size`.

        Only a crop that keeps the upper left corner is applied, as in Chromium: it removes an encoder's padding.
        """
        clap = None if self.primary is None else self.primary.find(b"clap")
        if clap is None:
            return size
        fractions = struct.unpack(">IIIIiIiI", clap[:32])
        if not all(fractions[1::2]):
            return size
        width, height, right, down = (Fraction(*fractions[at : at + 2]) for at in range(0, 8, 2))
        # Offsets are of the crop's centre from the picture's centre.
        whole = (
            width.denominator == height.denominator == 1 and 0 < width <= size[0] and 0 < height <= size[1]
        )
        if whole and 2 * right == width - size[0] and 2 * down == height - size[1]:
            return int(width), int(height)
        return size

    def without_metadata(self) -> bytes:
        """Return the file with EXIF and XMP made unrecognisable, so that damage in them cannot make a decoder fail.

        Pixels do not depend on them: as in browsers, only the properties `irot` and `imir` turn a picture.
        """
        positions = [item.kind_at for item in self.items.values() if item.kind in _METADATA]
        if not positions:
            return self.data
        changed = bytearray(self.data)
        for at in positions:
            changed[at : at + 4] = _UNKNOWN_KIND
        return bytes(changed)


def format_of(data: bytes) -> str | None:
    """Return 'AVIF' or 'HEIC' by a file's brands; None if it is neither.

    The major brand decides if it names a coding, else the first compatible brand that does. HEIF that names no coding
    is called HEIC, because HEIC's decoder may be able to read it.
    """
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), len(data), 16 + 4 * _MOST_BRANDS)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))]
    for brand in brands:
        if brand in (*_AVIF_STILL, *_AVIF_SEQUENCE):
            return "AVIF"
        if brand in (*_HEIC_STILL, *_HEIC_SEQUENCE):
            return "HEIC"
    return "HEIC" if {*_HEIF_STILL, *_HEIF_SEQUENCE} & {*brands} else None


def lacks_end(data: bytes) -> bool:
    """Return True if the last box, or the bytes of an item, extend beyond the end of the file."""
    try:
        if _read_top(memoryview(data))[1]:
            return True
        extents = [extent for item in read_heif(data).items.values() for extent in item.extents or ()]
        return any(start + length > len(data) for start, length in extents)
    except (HeifError, struct.error, IndexError):
        return False


def read_heif(data: bytes) -> Heif:
    """Return the contents of a file. Raises HeifError or struct.error if it breaks the rules."""
    view = memoryview(data)
    top, cut = _read_top(view)
    if cut:
        raise HeifError("the last box extends beyond the end of the file")
    meta = _one(top, b"meta")
    has_tracks = any(kind == b"moov" for kind, _, _ in top)
    if meta is None:
        return Heif(data, data[8:12], has_tracks, {}, None)
    boxes = list(_boxes(view, meta[0] + 4, meta[1]))
    known = {kind: _one(boxes, kind) for kind in (b"iinf", b"iloc", b"pitm", b"iprp", b"idat")}
    extents = _extents(view, known[b"iloc"], known[b"idat"])
    properties, uses = _properties(view, known[b"iprp"])
    items = {
        number: Item(
            kind,
            at,
            content,
            extents.get(number, ()),
            tuple(properties[index - 1] for index in uses.get(number, ()) if 0 < index <= len(properties)),
        )
        for number, (kind, at, content) in _infos(view, known[b"iinf"]).items()
    }
    primary = None
    if known[b"pitm"] is not None:
        start = known[b"pitm"][0]
        (number,) = struct.unpack_from(">H" if view[start] == 0 else ">I", view, start + 4)
        primary = items.get(number)
    return Heif(data, data[8:12], has_tracks, items, primary, tuple(properties))


_Box = tuple[bytes, int, int]  # kind, start and end of the body
_Span = tuple[int, int]


def _read_top(view: memoryview) -> tuple[list[_Box], bool]:
    """Return a file's boxes, and whether the last one is cut off. Reading ends at bytes that are not a box.

    Some phones append data of their own.
    """
    boxes: list[_Box] = []
    at = 0
    while len(view) - at >= 8:
        size, head, kind = _head(view, at, len(view))
        if not all(0x20 <= letter < 0x7F for letter in kind):
            break
        if size < head or len(boxes) >= _MOST_BOXES:
            raise HeifError("a box without a size, or too many boxes")
        if at + size > len(view):
            return boxes, True
        boxes.append((kind, at + head, at + size))
        at += size
    return boxes, False


def _boxes(view: memoryview, at: int, end: int) -> Iterator[_Box]:
    """Yield the boxes that fill view[at:end]."""
    for _ in range(_MOST_BOXES):
        if at == end:
            return
        size, head, kind = _head(view, at, end)
        if size < head or at + size > end:
            raise HeifError(f"a box {kind!r} does not fit into the one around it")
        yield kind, at + head, at + size
        at += size
    raise HeifError("too many boxes")


def _head(view: memoryview, at: int, end: int) -> tuple[int, int, bytes]:
    """Return the size of the box at `at` with its header, the header's size, and the kind (ISO/IEC 14496-12, 4.2)."""
    size, kind = struct.unpack_from(">I4s", view, at)
    if size == 1:
        return struct.unpack_from(">Q", view, at + 8)[0], 16, kind
    return end - at if size == 0 else size, 8, kind


def _one(boxes: list[_Box], kind: bytes) -> _Span | None:
    """Return the body's span of the only box of a kind, or None. Refuses two: decoders may take either."""
    spans = [(start, end) for name, start, end in boxes if name == kind]
    if len(spans) > 1:
        raise HeifError(f"two boxes {kind!r}")
    return spans[0] if spans else None


def _infos(view: memoryview, iinf: _Span | None) -> dict[int, tuple[bytes, int, bytes]]:
    """Return each item's kind, the position of the kind, and the content type (ISO/IEC 14496-12, 8.11.6)."""
    infos: dict[int, tuple[bytes, int, bytes]] = {}
    if iinf is None:
        return infos
    start, end = iinf
    for name, at, stop in _boxes(view, start + (6 if view[start] == 0 else 8), end):
        version = view[at] if name == b"infe" else 0
        if version < 2:  # not an item of HEIF
            continue
        wide = version > 2
        (number,) = struct.unpack_from(">I" if wide else ">H", view, at + 4)
        kind_at = at + (10 if wide else 8)
        (kind,) = struct.unpack_from("4s", view, kind_at)
        texts = bytes(view[kind_at + 4 : min(stop, kind_at + 4 + 512)]).split(b"\0")
        if number in infos:
            raise HeifError(f"two items of number {number}")
        infos[number] = kind, kind_at, texts[1] if kind == b"mime" and len(texts) > 1 else b""
    return infos


def _extents(
    view: memoryview, iloc: _Span | None, idat: _Span | None
) -> dict[int, tuple[tuple[int, int], ...] | None]:
    """Return the extents of each item's bytes (ISO/IEC 14496-12, 8.11.3)."""
    by_item: dict[int, tuple[tuple[int, int], ...] | None] = {}
    if iloc is None:
        return by_item
    read = _Reader(view[iloc[0] : iloc[1]])
    version = read.number(4) >> 24
    sizes = read.number(2)
    for _ in range(_bounded(read.number(4 if version == 2 else 2), _MOST_ITEMS, "items")):
        number = read.number(4 if version == 2 else 2)
        method = read.number(2) & 15 if version else 0
        read.number(2)  # number of another file; decoders take it to be this one
        base = read.number(sizes >> 4 & 15)
        extents = []
        for _ in range(_bounded(read.number(2), _MOST_EXTENTS, "extents of an item")):
            read.number(sizes & 15 if version else 0)
            extents.append((base + read.number(sizes >> 12), read.number(sizes >> 8 & 15)))
        if number in by_item:
            raise HeifError(f"two locations of item {number}")
        if method == 1 and idat is not None:
            extents = [(idat[0] + start, length) for start, length in extents]
        by_item[number] = tuple(extents) if method == 0 or (method == 1 and idat is not None) else None
    return by_item


def _properties(
    view: memoryview, iprp: _Span | None
) -> tuple[list[tuple[bytes, memoryview]], dict[int, list[int]]]:
    """Return all properties, and each item's property numbers, counted from 1 (ISO/IEC 14496-12, 8.11.14)."""
    uses: dict[int, list[int]] = {}
    if iprp is None:
        return [], uses
    boxes = list(_boxes(view, *iprp))
    ipco = _one(boxes, b"ipco")
    properties = [] if ipco is None else [(kind, view[start:end]) for kind, start, end in _boxes(view, *ipco)]
    count = 0
    for start, end in ((start, end) for kind, start, end in boxes if kind == b"ipma"):
        read = _Reader(view[start:end])
        head = read.number(4)
        wide = head & 1
        for _ in range(_bounded(read.number(4), _MOST_ITEMS, "items")):
            number = read.number(4 if head >> 24 else 2)
            some = [read.number(2) & 0x7FFF if wide else read.number(1) & 0x7F for _ in range(read.number(1))]
            count = _bounded(count + len(some), _MOST_ASSOCIATIONS, "properties of items")
            uses.setdefault(number, []).extend(some)
    return properties, uses


class _Reader:
    """Read numbers of a box one after the other. Raises struct.error at its end."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 0

    def number(self, width: int) -> int:
        """Return the next `width` bytes as a number; 0 if `width` is 0."""
        part = self._view[self._at : self._at + width]
        if len(part) != width:
            raise struct.error("a box ends too early")
        self._at += width
        return int.from_bytes(part, "big")


def _bounded(count: int, most: int, what: str) -> int:
    if count > most:
        raise HeifError(f"{count} {what}; at most {most} are allowed")
    return count


def _size(ispe: memoryview) -> tuple[int, int]:
    """Return the declared (width, height) (ISO/IEC 23008-12, 6.5.3)."""
    width, height = struct.unpack_from(">II", ispe, 4)
    return width, height


def _coded_size(item: Item, payload: bytes | memoryview) -> tuple[int, int]:
    """Return the (width, height) of an AV1 item's frames. Raises HeifError if it differs by more than padding."""
    size = largest_frame(payload)
    if size is None:
        raise HeifError("a picture of AV1 without a sequence header")
    ispe = item.find(b"ispe")
    if ispe is not None and any(abs(a - b) >= _PADDING for a, b in zip(_size(ispe), size, strict=True)):
        raise HeifError("a picture of {}x{} is coded as {}x{}".format(*_size(ispe), *size))
    return size


def _canvas(kind: bytes, payload: bytes | memoryview) -> tuple[int, int]:
    """Return the (width, height) of a grid of tiles or an overlay (ISO/IEC 23008-12, 6.6.2)."""
    width, height = struct.unpack_from(
        ">II" if payload[1] & 1 else ">HH", payload, 4 if kind == b"grid" else 10
    )
    return width, height
