"""Encoded bytes of a stranger to sRGB pixels, or an error with a code; never another exception.

The order matters: the length, then the signature, then the header's dimensions, and only then pixels. Only
the plugin of the recognised format gets to see the bytes.
"""

import io
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from model.errors import CatalogRepairError, ConfigurationError
from pipelines.images.cicp import HDR_TRANSFERS, profile_of
from pipelines.images.exif import ORIENTATION, read_exif
from pipelines.images.heif import Heif, format_of, lacks_end, read_heif
from pipelines.images.jpeg_scans import has_more_scans
from pipelines.images.metadata import Metadata, read_metadata
from pipelines.images.resize import scaled_size

#: Code of an image for which memory did not suffice, here or in a process of its own.
OUT_OF_MEMORY = "decoder_out_of_memory"

#: How libheif tells that memory did not suffice (and not that a size is beyond its own limits).
_HEIF_OUT_OF_MEMORY = "Memory allocation error: Unspecified"

#: Installs what decodes HEIC.
HEIC_EXTRA = "pip install 'catalog-repair[heic]'"

#: Embedded colour profiles above this size are ignored. Press profiles (CMYK) have up to 2 MB; phones' have
#: 0.5 KB.
MAX_PROFILE_BYTES = 4 << 20

#: A progressive JPEG stores the picture in about ten scans. A few bytes more make one scan more, and each
#: costs a pass over all pixels: unlimited, a 1 MB file keeps a core busy for minutes.
MAX_JPEG_SCANS = 100

#: How EXIF's orientation (EXIF 2.3, tag 0x0112) is undone; 1 and all that is not a valid value need nothing.
_UNDO_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # width and height change places

# Pillow warns about odd metadata. The image is fine without it, and logs stay readable. A filter set once is
# safe with threads, `warnings.catch_warnings` around each call is not.
warnings.filterwarnings("ignore", module=r"PIL\.")
# Pillow's PNG and TIFF code logs every chunk and tag at DEBUG.
logging.getLogger("PIL").setLevel(logging.INFO)


class ImageError(CatalogRepairError):
    """An image that cannot be used. `code` is short and stable (a manifest column), the text is for people.

    `pipelines.contracts.error_codes` lists all codes.
    """

    def __init__(self, code: str, message: str) -> None:
        # Names of files may be bytes that are no text, and then no column of text takes them.
        message = message.encode(errors="backslashreplace").decode()
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class DecodeLimits:
    """What an upload may be. Raises ConfigurationError at construction for limits that no image can meet."""

    #: Encoded size. Raise it where sellers send large PNG files.
    max_bytes: int = 32 << 20
    #: A phone's 48-megapixel photo passes. Decoded, a pixel takes 3 bytes, and more while it is converted.
    max_pixels: int = 50_000_000
    #: The longer side. WebP as output ends at 16,383.
    max_dimension: int = 16_000
    #: The shorter side. Below it is a tracking pixel, not a product.
    min_dimension: int = 16
    #: Longer over shorter side. Beyond it is a banner, which turns to mush at the model's square input.
    max_aspect: float = 20.0
    #: Time of one core, kept by `pipelines.images.decode_apart`. Of 49 megapixels, none took above 2.5 s, but
    #: for AVIF and HEIC: 4 s, and 8 s with alpha.
    max_seconds: float = 20.0

    @property
    def memory_bytes(self) -> int:
        """What decoding may take beside the code: the file, and the pixels in the few forms that conversion needs.

        Measured at 49 megapixels, in bytes a pixel: 30 for AVIF of 12 bits with alpha and a profile, 23 for HEIC of 10
        with them, 25 for WebP with alpha, 17 for PNG with alpha and a profile, 17 for AVIF and HEIC without, 14 for the
        others.
        """
        return (256 << 20) + 3 * self.max_bytes + 32 * self.max_pixels

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.max_pixels, self.min_dimension) < 1:
            raise ConfigurationError(
                "decode limits max_bytes, max_pixels and min_dimension must be at least 1"
            )
        if self.max_dimension < self.min_dimension:
            raise ConfigurationError("decode limit max_dimension must not be below min_dimension")
        if not self.max_aspect >= 1:
            raise ConfigurationError("decode limit max_aspect must be at least 1")
        if not 0 < self.max_seconds < float("inf"):
            raise ConfigurationError("decode limit max_seconds (--max-decode-seconds) must be above 0")


class Decoded(NamedTuple):
    """An upload. pixels: uint8 (H,W,3). size: its own (width, height), upright, whatever it was shrunk to."""

    pixels: np.ndarray
    size: tuple[int, int]
    metadata: Metadata


def decode_image(
    data: bytes, limits: DecodeLimits = DecodeLimits(), max_side: int | None = None
) -> np.ndarray:
    """Decode an upload to uint8 (H,W,3), RGB in 0..255, contiguous and writable.

    EXIF orientation is applied; in HEIC and AVIF the properties `irot` and `imir` take its place, as their standard
    and browsers have it. A valid embedded ICC profile is converted to sRGB, a broken one ignored, and so are colours
    by number (CICP) of HEIC and AVIF. Alpha (also a palette's or a colour key's) is composited on white. 16-bit grey
    is scaled to 8 bits. Of a file of several pictures (a camera's JPEG, a burst in HEIC) the main one is taken, without
    gain map, depth or thumbnail; an animation is an error, because its correction would silently be a still.

    limits: what to refuse, checked on the header before pixels are decoded.
    max_side: shrink until the longer side is at most this, antialiased bicubic; never enlarge. JPEG is then
        decoded at 1/2, 1/4 or 1/8 size where that leaves at least the asked size, which is much faster.

    Raises ImageError and nothing else.
    """
    return decode_with_size(data, limits, max_side)[0]


def decode_with_size(
    data: bytes, limits: DecodeLimits = DecodeLimits(), max_side: int | None = None
) -> tuple[np.ndarray, tuple[int, int]]:
    """`decode_image`, and the upload's own (width, height), upright, whatever it was shrunk to."""
    pixels, size, _ = _decode_or_explain(data, limits, max_side, with_metadata=False)
    return pixels, size


def decode_upload(data: bytes, limits: DecodeLimits = DecodeLimits(), max_side: int | None = None) -> Decoded:
    """`decode_image`, the upload's size, and what is kept of its metadata. For the decoding process: see
    `metadata.read_metadata`.
    """
    return _decode_or_explain(data, limits, max_side, with_metadata=True)


def _decode_or_explain(
    data: bytes, limits: DecodeLimits, max_side: int | None, with_metadata: bool
) -> Decoded:
    try:
        return _decode(data, limits, max_side, with_metadata)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:  # a GIF frame beyond its screen, found while opening
        raise ImageError("too_many_pixels", str(error)) from error
    except MemoryError as error:
        raise ImageError(OUT_OF_MEMORY, "not enough memory to decode the image") from error
    except Exception as error:  # whatever a decoder makes of hostile bytes is this row's failure
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        if _HEIF_OUT_OF_MEMORY in reason:
            raise ImageError(OUT_OF_MEMORY, f"not enough memory to decode the image ({reason})") from error
        if _lacks_end(data):
            raise ImageError("truncated", f"the file ends before the image does ({reason})") from error
        raise ImageError("corrupt", f"the image cannot be decoded ({reason})") from error


def check_length(data: bytes, limits: DecodeLimits) -> None:
    """Raise ImageError where `data` is empty or longer than allowed."""
    if not data:
        raise ImageError("empty", "the image has no bytes")
    if len(data) > limits.max_bytes:
        raise ImageError("too_many_bytes", f"{len(data)} bytes; at most {limits.max_bytes} are allowed")


def _decode(data: bytes, limits: DecodeLimits, max_side: int | None, with_metadata: bool) -> Decoded:
    check_length(data, limits)
    kind = _recognise(data)
    heif = read_heif(data) if kind in _HEIF else None
    _check_before_opening(kind, data, heif, limits)
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # some library may have set it: half a product would pass
    with _PLUGINS[kind](io.BytesIO(data if heif is None else heif.without_metadata())) as image:
        # The decoder of HEIC crops by itself.
        size = heif.cropped(image.size) if heif is not None and kind == "AVIF" else image.size
        _check_size(*size, limits)
        # A HEIC counts as animated where it has several pictures, such as a burst: the main one is meant.
        if kind != "HEIC" and getattr(image, "is_animated", False):
            raise ImageError("animated", f"an animated {kind}; upload a still image")
        target = _fitted(size, max_side)
        _load(image, kind, target)
        rgb = _to_srgb(image, None if heif is None else heif.colours())
        if kind == "AVIF" and rgb.size != size:
            rgb = rgb.crop((0, 0, *size))
        if rgb.size != target:
            rgb = rgb.resize(target, Image.Resampling.BICUBIC)
        orientation = _orientation(image)
        turn = _UNDO_ORIENTATION.get(orientation)
        upright = size if orientation not in _SIDEWAYS else (size[1], size[0])
        pixels = np.array(rgb if turn is None else rgb.transpose(turn))
        return Decoded(pixels, upright, read_metadata(image, heif) if with_metadata else Metadata())


def _load(image: ImageFile.ImageFile, kind: str, target: tuple[int, int]) -> None:
    """Decode an opened image, a JPEG perhaps smaller than it is, but not below `target`."""
    size = image.size
    if kind == "JPEG":
        image.draft(
            None, target
        )  # skips what would be averaged away. (A HEIC would show its thumbnail instead.)
        size = image.size
    image.load()
    if image.size != size:
        raise ImageError("corrupt", "the picture has another size than its header says")


def _check_before_opening(kind: str, data: bytes, heif: Heif | None, limits: DecodeLimits) -> None:
    """Raise ImageError for what no plugin should get to see."""
    if kind == "WEBP":
        _check_size(*_webp_size(data), limits)  # Pillow allocates the canvas when it opens a WebP
    if kind == "JPEG" and has_more_scans(data, MAX_JPEG_SCANS):
        raise ImageError(
            "too_complex", f"a JPEG of more than {MAX_JPEG_SCANS} scans, or of thousands of segments"
        )
    if heif is not None:
        if heif.is_sequence:
            raise ImageError("animated", f"a sequence of pictures in {kind}; upload a still image")
        for size in heif.sizes():
            _check_not_larger(*size, limits)
        colours = heif.colours()
        if colours is not None and colours[1] in HDR_TRANSFERS and not heif.has_profile():
            told = HDR_TRANSFERS[colours[1]]
            raise ImageError("hdr", f"HDR colours ({told}) in {kind}; upload it in sRGB or Display P3")


def _open_avif(file: io.BytesIO) -> ImageFile.ImageFile:
    if not AvifImagePlugin.SUPPORTED:
        raise ImageError("decoder_missing", "this Pillow is built without AVIF; install it as pip does")
    # As many threads as cores, which it has else, would share the one core that an image may have, and take address
    # space for each. The choice of decoder is reset: some library may have made one.
    AvifImagePlugin.DEFAULT_MAX_THREADS, AvifImagePlugin.DECODE_CODEC_CHOICE = 1, "auto"
    return AvifImagePlugin.AvifImageFile(file)


def _open_heic(file: io.BytesIO) -> ImageFile.ImageFile:
    """The main picture of a HEIC. Raises ImageError where its decoder is not installed."""
    try:
        from pillow_heif import options  # here: an extra, and of no use to who has no HEIC
        from pillow_heif.as_plugin import HeifImageFile
    except ModuleNotFoundError as error:
        raise ImageError("decoder_missing", f"HEIC needs pillow-heif: {HEIC_EXTRA}") from error
    options.DECODE_THREADS = 0  # as for AVIF; 0: the calling one
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = options.DISABLE_SECURITY_LIMITS = False
    image = HeifImageFile(file)
    if not image.info.get("primary"):  # it then shows any other
        raise ImageError("corrupt", "the main picture is missing, or of a coding that HEIC does not have")
    return image


#: Formats that are decoded, by name. TIFF, JPEG 2000, PSD, … stay off: each is a large decoder more that strangers'
#: bytes would reach. The classes are used directly: `Image.open` would also read a JPEG's multi-picture index, and warn
#: or fail by a limit of its own that any library can change.
_PLUGINS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "AVIF": _open_avif,
    "HEIC": _open_heic,
}
FORMATS = tuple(_PLUGINS)
_HEIF = ("AVIF", "HEIC")


def _recognise(data: bytes) -> str:
    """Pillow's name of the format by its signature. Raises ImageError where unknown or not on the list."""
    for name, matches in _SIGNATURES.items():
        if matches(data):
            if name not in FORMATS:
                raise ImageError(
                    "format_not_allowed", f"{name} images are not accepted; use {', '.join(FORMATS)}"
                )
            return name
    raise ImageError("unknown_format", f"no image format recognised; use {', '.join(FORMATS)}")


#: Signatures; those beyond FORMATS only make the message helpful.
_SIGNATURES: dict[str, Callable[[bytes], bool]] = {
    "JPEG": lambda data: data.startswith(b"\xff\xd8\xff"),
    "PNG": lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"),
    "WEBP": lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP",
    "GIF": lambda data: data.startswith((b"GIF87a", b"GIF89a")),
    "BMP": lambda data: data.startswith(b"BM"),
    "TIFF": lambda data: data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    "AVIF": lambda data: format_of(data) == "AVIF",
    "HEIC": lambda data: format_of(data) == "HEIC",
    "JPEG 2000": lambda data: data.startswith((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")),
    "PSD": lambda data: data.startswith(b"8BPS"),
    "ICO": lambda data: data.startswith(b"\0\0\1\0"),
    "PDF": lambda data: data.startswith(b"%PDF"),
    "SVG": lambda data: data.lstrip()[:5] == b"<?xml" or data.lstrip()[:4] == b"<svg",
}


def _check_not_larger(width: int, height: int, limits: DecodeLimits) -> None:
    size = f"{width}x{height} pixels"
    if width * height > limits.max_pixels:
        raise ImageError("too_many_pixels", f"{size}; at most {limits.max_pixels} in all are allowed")
    if max(width, height) > limits.max_dimension:
        raise ImageError("side_too_long", f"{size}; a side may have at most {limits.max_dimension}")


def _check_size(width: int, height: int, limits: DecodeLimits) -> None:
    _check_not_larger(width, height, limits)
    size = f"{width}x{height} pixels"
    if min(width, height) < limits.min_dimension:
        raise ImageError("too_small", f"{size}; each side needs at least {limits.min_dimension}")
    if max(width, height) > limits.max_aspect * min(width, height):
        raise ImageError(
            "bad_aspect", f"{size}; one side may be at most {limits.max_aspect:g} times the other"
        )


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height that the first chunk of a WebP declares (RFC 9649, sections 2.5 to 2.7)."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise ImageError("truncated", "the file ends inside its header")
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    raise ImageError("corrupt", "a WebP that does not begin with an image chunk")


def _lacks_end(data: bytes) -> bool:
    """True where the format's end marker is missing: the upload was cut rather than damaged."""
    if data.startswith(b"\xff\xd8"):
        return data.rfind(b"\xff\xd9") < max(data.rfind(b"\xff\xda"), 2)
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if data.startswith(b"RIFF"):
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if data.startswith(b"GIF8"):
        return not data.rstrip(b"\0").endswith(b";")
    if data[4:8] == b"ftyp":
        return lacks_end(data)
    return len(data) < int.from_bytes(data[2:6], "little")  # BMP: the header says how long the file is


def _to_srgb(image: Image.Image, colours: tuple[int, int] | None) -> Image.Image:
    """A loaded image of any mode as RGB: profile applied, alpha composited on white.

    colours: what counts where there is no profile, by number (`pipelines.images.cicp`).
    """
    profile = image.info.get("icc_profile") or (profile_of(*colours) if colours else None)
    color, alpha = _split_alpha(image)
    rgb = _apply_profile(color, profile) if profile else None
    rgb = color.convert("RGB") if rgb is None else rgb
    if alpha is None:
        return rgb
    white = Image.new("RGB", rgb.size, "white")
    white.paste(rgb, mask=alpha)
    return white


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The image as L, RGB or CMYK, and its alpha as L, or None where it is opaque."""
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion to 8 bits clips
        grey = np.asarray(image).astype(np.int32)  # 65535 * 255 fits
        eight = Image.fromarray(((np.clip(grey, 0, 65535) * 255 + 32767) // 65535).astype(np.uint8))
        key = image.info.get("transparency")
        return eight, None if key is None else Image.fromarray(np.where(grey == key, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return rgba.convert("RGB"), rgba.getchannel("A")
    # CMYK: only JPEG has it here. Pillow reads the values as inverted (0 is full ink), as Photoshop writes them, also
    # in files without Adobe's marker, of which the standards do not say which way they are. Chromium 156 and Firefox
    # 153 do the same, with and without the marker and a profile: what a seller has seen there is what is meant.
    if image.mode in ("L", "RGB", "CMYK"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _apply_profile(color: Image.Image, profile: bytes) -> Image.Image | None:
    """`color` (L, RGB or CMYK) from the embedded ICC profile to sRGB, or None where it is of no use."""
    if len(profile) > MAX_PROFILE_BYTES:
        return None
    if color.mode == "L" and profile[16:20] == b"RGB ":  # grey pixels in an RGB space
        color = color.convert("RGB")
    try:
        return _transform(profile, color.mode).apply(color)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    """The conversion from `profile` to sRGB. Kept: a catalog's photos share few profiles."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")


def _fitted(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """`size` scaled down so that the longer side is at most `max_side`; at least one pixel."""
    if max_side is None or max(size) <= max_side:
        return size
    return scaled_size(*size, max_side)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 where there is none or the EXIF data is nonsense."""
    value = read_exif(image.info.get("exif") or b"").get(ORIENTATION, 1)
    return value if isinstance(value, int) else 1
