"""What an HEIC or AVIF file says of itself: its brands, its items, and the sizes that it claims.

Both are HEIF (ISO/IEC 23008-12): boxes of ISO/IEC 14496-12, in which a box `meta` lists items (coded pictures, tiles,
thumbnails, gain maps, EXIF, …), their properties and where their bytes lie. Nothing is decoded here, and what is read
is bounded, whatever the file says.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from pipelines.images.av1 import largest_frame

#: Brands of files with a coded picture, and of those with a film (ISO/IEC 23008-12, annex B; AV1 in HEIF, 6).
_AVIF_STILL, _AVIF_SEQUENCE = (b"avif",), (b"avis",)
_HEIC_STILL = (b"heic", b"heix", b"heim", b"heis")
_HEIC_SEQUENCE = (b"hevc", b"hevx", b"hevm", b"hevs")
#: HEIF of whatever coding. A file may have these as its major brand, and tell the coding among the compatible ones.
_HEIF_STILL, _HEIF_SEQUENCE = (b"mif1", b"mif2"), (b"msf1",)

#: Bounds. A telephone's picture of 50 megapixels in tiles of 512 pixels has some 200 items, and one extent for each.
_MOST_BRANDS, _MOST_BOXES, _MOST_ITEMS, _MOST_EXTENTS = 256, 2000, 5000, 32
_MOST_ASSOCIATIONS = 50_000
#: Of a profile or text that is read.
_MOST_PAYLOAD = 64 << 20
#: A coded frame may be larger than its picture by what encoders fill up to whole blocks.
_PADDING = 128
#: Takes the place of a kind of item that decoders need not see; nobody knows such items, so all pass over them.
_NOBODYS = b"skip"
_METADATA = (b"Exif", b"mime")


class HeifError(ValueError):
    """A file that breaks the format's rules, or the bounds of this module."""


@dataclass(frozen=True)
class Item:
    """One item. properties: (kind, body) in their order; body: without the box's header, but with version and flags."""

    kind: bytes
    kind_at: int  # where in the file the kind stands
    content_type: bytes  # of kind mime
    extents: tuple[tuple[int, int], ...] | None  # (start, length) in the file; None: where we do not look
    properties: tuple[tuple[bytes, memoryview], ...] = ()

    def find(self, kind: bytes) -> memoryview | None:
        """The first property of a kind."""
        return next((body for name, body in self.properties if name == kind), None)


@dataclass(frozen=True)
class Heif:
    """A file's contents."""

    data: bytes
    major: bytes
    has_tracks: bool  # films and bursts are tracks
    items: Mapping[int, Item]
    primary: Item | None
    properties: tuple[tuple[bytes, memoryview], ...] = field(default=())

    @property
    def is_sequence(self) -> bool:
        """Whether the file is a film, or one that readers may show instead of its still picture."""
        sequences = (*_AVIF_SEQUENCE, *_HEIC_SEQUENCE, *_HEIF_SEQUENCE)
        return self.major in sequences or (self.has_tracks and self.major not in (*_AVIF_STILL, *_HEIC_STILL))

    def sizes(self) -> Iterator[tuple[int, int]]:
        """(width, height) of every picture that the file has or makes, as declared and as coded.

        Raises HeifError where a picture is coded much larger or smaller than declared: some decoders would scale it
        without a word. (Of HEVC's own header the decoder sees to that.)
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
        """The first `most` bytes of an item. Raises HeifError where they lie outside the file, or are not found."""
        if item.extents is None:
            raise HeifError(f"an item {item.kind!r} whose bytes are not in the file")
        view, parts = memoryview(self.data), []
        for start, length in item.extents:
            length = min(length, most)
            if start + length > len(view):
                raise HeifError(f"an item {item.kind!r} reaches beyond the end of the file")
            parts.append(view[start : start + length])
            most -= length
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def colours(self) -> tuple[int, int] | None:
        """Primaries and transfer characteristics of the primary picture by number (ISO/IEC 23091-2); None: untold."""
        properties = () if self.primary is None else self.primary.properties
        for kind, body in properties:
            if kind == b"colr" and body[:4] == b"nclx" and len(body) >= 8:
                primaries, transfer = struct.unpack_from(">HH", body, 4)
                return primaries, transfer
        return None

    def has_profile(self) -> bool:
        """Whether the primary picture has an ICC profile."""
        properties = () if self.primary is None else self.primary.properties
        return any(kind == b"colr" and body[:4] in (b"prof", b"rICC") for kind, body in properties)

    def cropped(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) that the property `clap` leaves of the primary picture's `size` (ISO/IEC 14496-12, 12.1.4).

        Only a crop that keeps the upper left corner counts, as in Chromium: it takes off what an encoder filled up.
        """
        clap = None if self.primary is None else self.primary.find(b"clap")
        if clap is None:
            return size
        fractions = struct.unpack(">IIIIiIiI", clap[:32])
        if not all(fractions[1::2]):
            return size
        width, height, right, down = (Fraction(*fractions[at : at + 2]) for at in range(0, 8, 2))
        # Offsets are of the middle, from the middle.
        whole = (
            width.denominator == height.denominator == 1 and 0 < width <= size[0] and 0 < height <= size[1]
        )
        if whole and 2 * right == width - size[0] and 2 * down == height - size[1]:
            return int(width), int(height)
        return size

    def without_metadata(self) -> bytes:
        """The file with EXIF and XMP made unrecognisable: pixels depend on neither, and nonsense there is no harm.

        (Pictures are turned by the properties `irot` and `imir` alone, whatever EXIF says; so do browsers.)
        """
        found = [item.kind_at for item in self.items.values() if item.kind in _METADATA]
        if not found:
            return self.data
        changed = bytearray(self.data)
        for at in found:
            changed[at : at + 4] = _NOBODYS
        return bytes(changed)


def format_of(data: bytes) -> str | None:
    """'AVIF' or 'HEIC' by a file's brands; None where it is neither. The major brand decides, then the first that does.

    HEIF that names no coding is called HEIC, which is whose decoder may read it.
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
    """Whether the last box, or the bytes of an item, go beyond the end of the file."""
    try:
        if _read_top(memoryview(data))[1]:
            return True
        extents = [extent for item in read_heif(data).items.values() for extent in item.extents or ()]
        return any(start + length > len(data) for start, length in extents)
    except (HeifError, struct.error, IndexError):
        return False


def read_heif(data: bytes) -> Heif:
    """The contents of a file. Raises HeifError or struct.error where it breaks the rules."""
    view = memoryview(data)
    top, cut = _read_top(view)
    if cut:
        raise HeifError("the last box goes beyond the end of the file")
    meta = _one(top, b"meta")
    has_tracks = any(kind == b"moov" for kind, _, _ in top)
    if meta is None:
        return Heif(data, data[8:12], has_tracks, {}, None)
    boxes = list(_boxes(view, meta[0] + 4, meta[1]))
    known = {kind: _one(boxes, kind) for kind in (b"iinf", b"iloc", b"pitm", b"iprp", b"idat")}
    places = _places(view, known[b"iloc"], known[b"idat"])
    properties, uses = _properties(view, known[b"iprp"])
    items = {
        number: Item(
            kind,
            at,
            content,
            places.get(number, ()),
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


_Box = tuple[bytes, int, int]  # kind, and where the body starts and ends
_Span = tuple[int, int]


def _read_top(view: memoryview) -> tuple[list[_Box], bool]:
    """The boxes of a file, and whether the last one is cut. What is no box (some telephones add their own) ends it."""
    found: list[_Box] = []
    at = 0
    while len(view) - at >= 8:
        size, head, kind = _head(view, at, len(view))
        if not all(0x20 <= letter < 0x7F for letter in kind):
            break
        if size < head or len(found) >= _MOST_BOXES:
            raise HeifError("a box of no size, or too many boxes")
        if at + size > len(view):
            return found, True
        found.append((kind, at + head, at + size))
        at += size
    return found, False


def _boxes(view: memoryview, at: int, end: int) -> Iterator[_Box]:
    """The boxes that fill view[at:end]."""
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
    """Size of the box at `at` with its header, size of the header, and kind (ISO/IEC 14496-12, 4.2)."""
    size, kind = struct.unpack_from(">I4s", view, at)
    if size == 1:
        return struct.unpack_from(">Q", view, at + 8)[0], 16, kind
    return end - at if size == 0 else size, 8, kind


def _one(boxes: list[_Box], kind: bytes) -> _Span | None:
    """Where the body of the box of a kind lies. Of two, decoders may take either: refused."""
    found = [(start, end) for name, start, end in boxes if name == kind]
    if len(found) > 1:
        raise HeifError(f"two boxes {kind!r}")
    return found[0] if found else None


def _infos(view: memoryview, iinf: _Span | None) -> dict[int, tuple[bytes, int, bytes]]:
    """Kind, place of the kind, and content type by item (ISO/IEC 14496-12, 8.11.6)."""
    found: dict[int, tuple[bytes, int, bytes]] = {}
    if iinf is None:
        return found
    start, end = iinf
    for name, at, stop in _boxes(view, start + (6 if view[start] == 0 else 8), end):
        version = view[at] if name == b"infe" else 0
        if version < 2:  # no item of HEIF
            continue
        wide = version > 2
        (number,) = struct.unpack_from(">I" if wide else ">H", view, at + 4)
        kind_at = at + (10 if wide else 8)
        (kind,) = struct.unpack_from("4s", view, kind_at)
        texts = bytes(view[kind_at + 4 : min(stop, kind_at + 4 + 512)]).split(b"\0")
        if number in found:
            raise HeifError(f"two items of number {number}")
        found[number] = kind, kind_at, texts[1] if kind == b"mime" and len(texts) > 1 else b""
    return found


def _places(
    view: memoryview, iloc: _Span | None, idat: _Span | None
) -> dict[int, tuple[tuple[int, int], ...] | None]:
    """Where the bytes of items lie (ISO/IEC 14496-12, 8.11.3)."""
    found: dict[int, tuple[tuple[int, int], ...] | None] = {}
    if iloc is None:
        return found
    read = _Reader(view[iloc[0] : iloc[1]])
    version = read.number(4) >> 24
    sizes = read.number(2)
    for _ in range(_bounded(read.number(4 if version == 2 else 2), _MOST_ITEMS, "items")):
        number = read.number(4 if version == 2 else 2)
        method = read.number(2) & 15 if version else 0
        read.number(2)  # which file, where it is another; decoders take it to be this one
        base = read.number(sizes >> 4 & 15)
        extents = []
        for _ in range(_bounded(read.number(2), _MOST_EXTENTS, "extents of an item")):
            read.number(sizes & 15 if version else 0)
            extents.append((base + read.number(sizes >> 12), read.number(sizes >> 8 & 15)))
        if number in found:
            raise HeifError(f"two places of item {number}")
        if method == 1 and idat is not None:
            extents = [(idat[0] + start, length) for start, length in extents]
        found[number] = tuple(extents) if method == 0 or (method == 1 and idat is not None) else None
    return found


def _properties(
    view: memoryview, iprp: _Span | None
) -> tuple[list[tuple[bytes, memoryview]], dict[int, list[int]]]:
    """All properties, and which an item has, counted from 1 (ISO/IEC 14496-12, 8.11.14)."""
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
    """Numbers of a box, one after the other. Raises struct.error behind its end."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 0

    def number(self, width: int) -> int:
        """The next `width` bytes; 0 of none."""
        part = self._view[self._at : self._at + width]
        if len(part) != width:
            raise struct.error("a box ends too early")
        self._at += width
        return int.from_bytes(part, "big")


def _bounded(count: int, most: int, what: str) -> int:
    if count > most:
        raise HeifError(f"{count} {what}; at most {most} are read")
    return count


def _size(ispe: memoryview) -> tuple[int, int]:
    """(width, height) of ISO/IEC 23008-12, 6.5.3."""
    width, height = struct.unpack_from(">II", ispe, 4)
    return width, height


def _coded_size(item: Item, payload: bytes | memoryview) -> tuple[int, int]:
    """(width, height) of the frames of an item of AV1, which are those of its declared size but for padding."""
    size = largest_frame(payload)
    if size is None:
        raise HeifError("a picture of AV1 without a sequence header")
    ispe = item.find(b"ispe")
    if ispe is not None and any(abs(a - b) >= _PADDING for a, b in zip(_size(ispe), size, strict=True)):
        raise HeifError("a picture of {}x{} is coded as one of {}x{}".format(*_size(ispe), *size))
    return size


def _canvas(kind: bytes, payload: bytes | memoryview) -> tuple[int, int]:
    """(width, height) of what a grid of tiles or an overlay makes (ISO/IEC 23008-12, 6.6.2)."""
    width, height = struct.unpack_from(
        ">II" if payload[1] & 1 else ">HH", payload, 4 if kind == b"grid" else 10
    )
    return width, height
