"""Decodes untrusted bytes to sRGB pixels, or raises an error with a code; never another exception.

The order of the checks matters: the length, the signature, the header's dimensions, and only then pixels. Only the
plugin of the recognised format reads the bytes.
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

#: Code of an image for which there was not enough memory, here or in a separate process.
OUT_OF_MEMORY = "decoder_out_of_memory"

#: How libheif reports a lack of memory (as opposed to a size beyond its own limits).
_HEIF_OUT_OF_MEMORY = "Memory allocation error: Unspecified"

#: Command that installs the decoder of HEIC.
HEIC_EXTRA = "pip install 'catalog-repair[heic]'"

#: Embedded colour profiles above this size are ignored. Press profiles (CMYK) have up to 2 MB; phones' have
#: 0.5 KB.
MAX_PROFILE_BYTES = 4 << 20

#: A progressive JPEG stores the picture in about ten scans. A few bytes are enough for another scan, and each costs a
#: pass over all pixels: without a limit, a 1 MB file keeps a core busy for minutes.
MAX_JPEG_SCANS = 100

#: How to undo EXIF's orientation (EXIF 2.3, tag 0x0112). The value 1 and invalid ones need nothing.
_UNDO_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # width and height are swapped

# Silence Pillow's warnings about odd metadata: the image is fine without it. One filter is safe with threads;
# `warnings.catch_warnings` around each call is not.
warnings.filterwarnings("ignore", module=r"PIL\.")
# At DEBUG, Pillow's PNG and TIFF code logs every chunk and tag.
logging.getLogger("PIL").setLevel(logging.INFO)


class ImageError(CatalogRepairError):
    """Signal an image that cannot be used. `code` is short and stable (a manifest column); the text is for people.

    `pipelines.contracts.error_codes` lists all codes.
    """

    def __init__(self, code: str, message: str) -> None:
        # File names may contain bytes that are not valid text, which text columns cannot store.
        message = message.encode(errors="backslashreplace").decode()
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class DecodeLimits:
    """Limit what an upload may be. Raises ConfigurationError at construction for limits that no image can meet."""

    #: Encoded size. Raise it if sellers send large PNG files.
    max_bytes: int = 32 << 20
    #: Enough for a phone's 48-megapixel photo. A decoded pixel takes 3 bytes, and more during conversion.
    max_pixels: int = 50_000_000
    #: The longer side. WebP output can have at most 16,383.
    max_dimension: int = 16_000
    #: The shorter side. A smaller image is a tracking pixel, not a product.
    min_dimension: int = 16
    #: Longer over shorter side. A more extreme image is a banner, of which the model's square input keeps too little.
    max_aspect: float = 20.0
    #: CPU time, enforced by `pipelines.images.decode_apart`. With 49 megapixels no format took more than 2.5 s, except
    #: AVIF and HEIC: 4 s, and 8 s with alpha.
    max_seconds: float = 20.0

    @property
    def memory_bytes(self) -> int:
        """Return the memory that decoding may take besides the code: for the file, and several copies of the pixels.

        Measured at 49 megapixels, in bytes per pixel: 30 for 12-bit AVIF and 23 for 10-bit HEIC with alpha and a
        profile, 25 for WebP with alpha, 17 for PNG with alpha and a profile, 17 for AVIF and HEIC without, 14 for the
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
    """Hold a decoded upload. pixels: uint8 (H,W,3). size: its own (width, height), upright, before any shrinking."""

    pixels: np.ndarray
    size: tuple[int, int]
    metadata: Metadata


def decode_image(
    data: bytes, limits: DecodeLimits = DecodeLimits(), max_side: int | None = None
) -> np.ndarray:
    """Decode an upload to uint8 (H,W,3), RGB in 0..255, contiguous and writable.

    EXIF orientation is applied; in HEIC and AVIF the properties `irot` and `imir` replace it, as in their standard and
    in browsers. Colours are converted to sRGB by a valid embedded ICC profile; a broken one is ignored. Without a
    profile, the colours that HEIC and AVIF name by number (CICP) count. Alpha (also of a palette or a colour key) is
    composited on white. 16-bit grey is scaled to 8 bits. From a file with several pictures (a camera's JPEG, a burst in
    HEIC) the main one is taken, without gain map, depth or thumbnail. An animation is an error, because its correction
    would silently be a still image.

    limits: what to refuse; checked on the header before pixels are decoded.
    max_side: shrink until the longer side is at most this, antialiased bicubic; never enlarge. A JPEG is then
        decoded at 1/2, 1/4 or 1/8 size if that is still large enough, which is much faster.

    Raises ImageError and nothing else.
    """
    return decode_with_size(data, limits, max_side)[0]


def decode_with_size(
    data: bytes, limits: DecodeLimits = DecodeLimits(), max_side: int | None = None
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the result of `decode_image`, and the upload's own (width, height), upright, before any shrinking."""
    pixels, size, _ = _decode_or_explain(data, limits, max_side, with_metadata=False)
    return pixels, size


def decode_upload(data: bytes, limits: DecodeLimits = DecodeLimits(), max_side: int | None = None) -> Decoded:
    """Return the result of `decode_image`, the upload's size, and the metadata to keep.

    Call this only in the decoding process; see `metadata.read_metadata`.
    """
    return _decode_or_explain(data, limits, max_side, with_metadata=True)


def _decode_or_explain(
    data: bytes, limits: DecodeLimits, max_side: int | None, with_metadata: bool
) -> Decoded:
    try:
        return _decode(data, limits, max_side, with_metadata)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:  # a GIF frame larger than its screen, detected on opening
        raise ImageError("too_many_pixels", str(error)) from error
    except MemoryError as error:
        raise ImageError(OUT_OF_MEMORY, "not enough memory to decode the image") from error
    except Exception as error:  # hostile bytes can make a decoder raise anything: this row fails
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        if _HEIF_OUT_OF_MEMORY in reason:
            raise ImageError(OUT_OF_MEMORY, f"not enough memory to decode the image ({reason})") from error
        if _lacks_end(data):
            raise ImageError("truncated", f"the file ends before the image does ({reason})") from error
        raise ImageError("corrupt", f"the image cannot be decoded ({reason})") from error


def check_length(data: bytes, limits: DecodeLimits) -> None:
    """Raise ImageError if `data` is empty or longer than allowed."""
    if not data:
        raise ImageError("empty", "the image has no bytes")
    if len(data) > limits.max_bytes:
        raise ImageError("too_many_bytes", f"{len(data)} bytes; at most {limits.max_bytes} are allowed")


def _decode(data: bytes, limits: DecodeLimits, max_side: int | None, with_metadata: bool) -> Decoded:
    check_length(data, limits)
    kind = _recognise(data)
    heif = read_heif(data) if kind in _HEIF else None
    _check_before_opening(kind, data, heif, limits)
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # another library may have set it, and half a product would pass
    with _PLUGINS[kind](io.BytesIO(data if heif is None else heif.without_metadata())) as image:
        # HEIC's decoder crops by itself.
        size = heif.cropped(image.size) if heif is not None and kind == "AVIF" else image.size
        _check_size(*size, limits)
        # A HEIC with several pictures, such as a burst, counts as animated, but only its main picture is used.
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
    """Decode an opened image; a JPEG possibly at a smaller size, but not below `target`."""
    size = image.size
    if kind == "JPEG":
        # Skips detail that would be averaged away. (A HEIC would give its thumbnail instead.)
        image.draft(None, target)
        size = image.size
    image.load()
    if image.size != size:
        raise ImageError("corrupt", "the picture's size differs from its header's")


def _check_before_opening(kind: str, data: bytes, heif: Heif | None, limits: DecodeLimits) -> None:
    """Raise ImageError for files that no plugin should open."""
    if kind == "WEBP":
        _check_size(*_webp_size(data), limits)  # Pillow allocates the canvas when it opens a WebP
    if kind == "JPEG" and has_more_scans(data, MAX_JPEG_SCANS):
        raise ImageError(
            "too_complex", f"a JPEG with more than {MAX_JPEG_SCANS} scans, or thousands of segments"
        )
    if heif is not None:
        if heif.is_sequence:
            raise ImageError("animated", f"a sequence of pictures in {kind}; upload a still image")
        for size in heif.sizes():
            _check_not_larger(*size, limits)
        colours = heif.colours()
        if colours is not None and colours[1] in HDR_TRANSFERS and not heif.has_profile():
            name = HDR_TRANSFERS[colours[1]]
            raise ImageError("hdr", f"HDR colours ({name}) in {kind}; upload it in sRGB or Display P3")


def _open_avif(file: io.BytesIO) -> ImageFile.ImageFile:
    if not AvifImagePlugin.SUPPORTED:
        raise ImageError("decoder_missing", "this Pillow is built without AVIF; install Pillow with pip")
    # By default it has a thread for each core. They would share the one core that an image may use, and each takes
    # address space. Another library may have changed the choice of decoder, so it is reset.
    AvifImagePlugin.DEFAULT_MAX_THREADS, AvifImagePlugin.DECODE_CODEC_CHOICE = 1, "auto"
    return AvifImagePlugin.AvifImageFile(file)


def _open_heic(file: io.BytesIO) -> ImageFile.ImageFile:
    """Open the main picture of a HEIC. Raises ImageError if its decoder is not installed."""
    try:
        from pillow_heif import options  # here, because it is an optional extra
        from pillow_heif.as_plugin import HeifImageFile
    except ModuleNotFoundError as error:
        raise ImageError("decoder_missing", f"HEIC needs pillow-heif: {HEIC_EXTRA}") from error
    options.DECODE_THREADS = 0  # as for AVIF; 0 means the calling thread
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = options.DISABLE_SECURITY_LIMITS = False
    image = HeifImageFile(file)
    if not image.info.get("primary"):  # it would then show any other picture
        raise ImageError("corrupt", "the main picture is missing, or its coding is unknown to HEIC")
    return image


#: Formats that are decoded, by name. TIFF, JPEG 2000, PSD, … are left out: each would expose another large decoder to
#: untrusted bytes. The classes are used directly: `Image.open` would also read a JPEG's multi-picture index, and warn
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
    """Return Pillow's name of the format by its signature. Raises ImageError if it is unknown or not accepted."""
    for name, matches in _SIGNATURES.items():
        if matches(data):
            if name not in FORMATS:
                raise ImageError(
                    "format_not_allowed", f"{name} images are not accepted; use {', '.join(FORMATS)}"
                )
            return name
    raise ImageError("unknown_format", f"no image format recognised; use {', '.join(FORMATS)}")


#: Signatures. Those of formats that are not in FORMATS only serve a helpful message.
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
    """Return the width and height that the first chunk of a WebP declares (RFC 9649, sections 2.5 to 2.7)."""
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
    """Return True if the format's end marker is missing: the upload was cut off rather than damaged."""
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
    """Convert a loaded image of any mode to RGB: apply its profile, composite alpha on white.

    colours: colours by number, used if there is no profile (`pipelines.images.cicp`).
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
    """Return the image as L, RGB or CMYK, and its alpha as L, or None if it is opaque."""
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion to 8 bits clips
        grey = np.asarray(image).astype(np.int32)  # 65535 * 255 fits
        eight = Image.fromarray(((np.clip(grey, 0, 65535) * 255 + 32767) // 65535).astype(np.uint8))
        key = image.info.get("transparency")
        return eight, None if key is None else Image.fromarray(np.where(grey == key, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return rgba.convert("RGB"), rgba.getchannel("A")
    # CMYK occurs only in JPEG here. Pillow reads the values as inverted (0 is full ink), as Photoshop writes them. It
    # does so even without Adobe's marker, for which the standards define no polarity. Chromium 156 and Firefox 153 do
    # the same, with and without the marker and a profile, so this is what a seller has seen.
    if image.mode in ("L", "RGB", "CMYK"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _apply_profile(color: Image.Image, profile: bytes) -> Image.Image | None:
    """Convert `color` (L, RGB or CMYK) from the embedded ICC profile to sRGB; None if the profile is unusable."""
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
    """Return the conversion from `profile` to sRGB. Cached, because a catalog's photos share few profiles."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")


def _fitted(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """Return `size` scaled down so that the longer side is at most `max_side`; each side at least one pixel."""
    if max_side is None or max(size) <= max_side:
        return size
    return scaled_size(*size, max_side)


def _orientation(image: Image.Image) -> int:
    """Return EXIF's orientation; 1 if there is none or the EXIF data is damaged."""
    value = read_exif(image.info.get("exif") or b"").get(ORIENTATION, 1)
    return value if isinstance(value, int) else 1
