"""Makes image files as sellers send them: odd but valid ones with their expected pixels, and broken or hostile ones.

`odd_images()` maps a name to (bytes, pixels that a browser would show, tolerance); `hostile_images()` maps a name to
(bytes, error code). All are drawn here, a few kilobytes each, and the same in every run.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from tests.heif_files import AVIF, HEIC, colr, encode_avif, encode_heic, hostile_heif, nclx, odd_heif

WIDTH, HEIGHT = 64, 48


def drawing(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Draw uint8 (height,width,3): smooth, for JPEG, and different under every flip, turn and channel swap."""
    y, x = np.mgrid[0:height, 0:width]
    red = 40 + 200 * x / width
    green = 230 - 180 * y / height
    blue = 60 + 60 * (x / width) * (y / height)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def encode(pixels: np.ndarray, format: str = "JPEG", **options: Any) -> bytes:
    """Encode an array (or a Pillow image) with Pillow; JPEG at a quality that is high enough for comparisons."""
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    if format in ("HEIC", "AVIF"):
        return (encode_heic if format == "HEIC" else encode_avif)(image, **options)
    if format in ("JPEG", "MPO"):
        options = {"quality": 95, "subsampling": 0, **options}
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, color: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """Build a PNG by hand (PNG specification, 5), even of kinds that Pillow cannot write. extra: chunks before IDAT."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def with_orientation(orientation: int, format: str = "JPEG") -> tuple[bytes, np.ndarray]:
    """Return the drawing stored turned, with the EXIF tag (EXIF 2.3, 4.6.4) that turns it back; and the drawing."""
    upright = drawing()
    stored = {  # as stored by a camera held that way
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(np.ascontiguousarray(stored), format, exif=exif), upright


def swapped_profile() -> bytes:
    """Return a valid ICC profile: sRGB with red and blue exchanged, so that applying it swaps channels."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", profile[128:132])[0]
    for entry in range(132, 132 + 12 * count, 12):
        name = bytes(profile[entry : entry + 4])
        profile[entry : entry + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(name, name)
    return bytes(profile)


#: Chromaticities of red, green and blue of Display P3 (SMPTE EG 432-1), whose white and curve are sRGB's.
_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_SRGB = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
_D65 = np.array([0.95047, 1.0, 1.08883])
#: To the profile connection space's white, D50 (ICC.1:2010, annex E; Bradford).
_TO_D50 = np.array(
    [
        [1.0478112, 0.0228866, -0.0501270],
        [0.0295424, 0.9904844, -0.0170491],
        [-0.0092345, 0.0150436, 0.7521316],
    ]
)


def _to_xyz(primaries: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return the matrix from linear RGB with these primaries to XYZ under D65."""
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    return columns * np.linalg.solve(columns, _D65)


def p3_profile() -> bytes:
    """Return an ICC profile of Display P3, as phones embed it: sRGB's with other primaries."""
    profile = bytearray(_srgb_profile())
    matrix = _TO_D50 @ _to_xyz(_P3)
    count = struct.unpack(">I", profile[128:132])[0]
    for entry in range(132, 132 + 12 * count, 12):
        name, offset = (
            bytes(profile[entry : entry + 4]),
            struct.unpack(">I", profile[entry + 4 : entry + 8])[0],
        )
        if name in (b"rXYZ", b"gXYZ", b"bXYZ"):
            column = matrix[:, b"rgb".index(name[:1])]
            profile[offset + 8 : offset + 20] = b"".join(struct.pack(">i", round(65536 * v)) for v in column)
    return bytes(profile)


def p3_as_srgb(rgb: np.ndarray) -> np.ndarray:
    """Convert uint8 (H,W,3) from Display P3 to sRGB: IEC 61966-2-1's curve around a change of primaries."""
    value = rgb / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.linalg.solve(_to_xyz(_SRGB), _to_xyz(_P3)).T, 0, 1)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * encoded).astype(np.uint8)


def cmyk_profile() -> bytes:
    """Return the profile of a press that prints only greys, with black ink: L* = 100 - K percent (ICC.1:2010, 10.8)."""
    identity = bytes(range(256))
    grid = bytes(
        part
        for corner in range(16)
        for part in ((0 if corner & 1 else 255), 128, 128)  # black varies fastest
    )
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    lut += b"".join(struct.pack(">i", 65536 * (row == column)) for row in range(3) for column in range(3))
    lut += identity * 4 + grid + identity * 3
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78 + 8)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags, body = [], b""
    start = 128 + 4 + 12 * 3
    for name, data in ((b"A2B0", lut), (b"desc", text), (b"wtpt", white)):
        data += bytes(-len(data) % 4)
        tags.append(struct.pack(">4sII", name, start + len(body), len(data)))
        body += data
    head = struct.pack(
        ">I4sI4s4s4s12x4s", start + len(body), b"test", 0x02100000, b"prtr", b"CMYK", b"Lab ", b"acsp"
    )
    head = head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + b"".join(tags) + body


def black_ink_as_srgb(black: np.ndarray) -> np.ndarray:
    """Convert black ink uint8 (H,W) of `cmyk_profile` to sRGB uint8 (H,W,3). CIE 1976 L*, IEC 61966-2-1."""
    lightness = 100 * (1 - black / 255)
    linear = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.repeat(np.round(255 * encoded).astype(np.uint8)[..., None], 3, axis=-1)


def without_adobe_marker(jpeg: bytes) -> bytes:
    """Return `jpeg` without its Adobe APP14 segment."""
    at = jpeg.index(b"\xff\xee")
    return jpeg[:at] + jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big") :]


def ycck(rgb: np.ndarray) -> bytes:
    """Encode uint8 (H,W,3) as a JPEG of YCbCr and black ink, with the marker for this, as Photoshop does."""
    inks = np.array(Image.fromarray(255 - rgb).convert("YCbCr"))
    stored = np.dstack([inks, np.full(rgb.shape[:2], 255, np.uint8)])  # no black, inverted
    data = encode(Image.fromarray(255 - stored, "CMYK"))  # Pillow inverts what it writes
    at = data.index(b"\xff\xee") + 15  # Adobe's technical note 5116, 18: the transform
    return data[:at] + b"\2" + data[at + 1 :]


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Composite rgb uint8 (H,W,3) on white by alpha uint8 (H,W)."""
    share = alpha[..., None] / 255
    return np.round(rgb * share + 255 * (1 - share)).astype(np.uint8)


def odd_images() -> dict[str, tuple[bytes, np.ndarray, int]]:
    """Return valid files: name to (bytes, expected uint8 (H,W,3), largest allowed difference)."""
    rgb = drawing()
    grey = rgb[..., 0]
    grey3 = np.repeat(grey[..., None], 3, axis=-1)
    alpha = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
    image = Image.fromarray(rgb)
    cmyk = image.convert("CMYK")
    # Under this profile only black counts, so cyan reveals whether the profile was applied.
    inks = Image.fromarray(np.dstack([np.full_like(grey, 200), *[np.zeros_like(grey)] * 2, grey]), "CMYK")
    rgba = np.dstack([rgb, alpha])
    palette = image.quantize(16)
    shown = np.array(palette.convert("RGB"))
    holes = np.where(np.array(palette) == 3, 0, 255).astype(np.uint8)
    binary = Image.fromarray(grey).convert("1", dither=Image.Dither.NONE)
    pictures = encode(rgb, "MPO", save_all=True, append_images=[Image.new("RGB", (32, 32))])
    index = pictures.index(b"MPF\0") + 4
    nonsense = pictures[:index] + b"II*\0\xff\xff\xff\x7f" + pictures[index + 8 :]
    cases = {
        "jpeg": (encode(rgb), rgb, 6),
        "progressive jpeg": (encode(rgb, progressive=True), rgb, 6),
        "subsampled jpeg": (encode(rgb, subsampling=2), rgb, 12),
        "grey jpeg": (encode(grey), grey3, 4),
        "multi-picture jpeg": (pictures, rgb, 6),
        "jpeg, nonsense picture index": (nonsense, rgb, 6),
        "cmyk jpeg, adobe": (encode(cmyk), rgb, 8),
        # Browsers take the values of all of them as inverted, so amounts that are not inverted become black.
        "cmyk jpeg, no marker": (without_adobe_marker(encode(cmyk)), rgb, 8),
        "cmyk jpeg, no marker, plain amounts": (
            without_adobe_marker(encode(Image.fromarray(255 - np.array(cmyk), "CMYK"))),
            np.zeros_like(rgb),
            8,
        ),
        "ycck jpeg": (ycck(rgb), rgb, 8),
        "cmyk jpeg, adobe, profile": (encode(inks, icc_profile=cmyk_profile()), black_ink_as_srgb(grey), 6),
        "cmyk jpeg, no marker, profile": (
            without_adobe_marker(encode(inks, icc_profile=cmyk_profile())),
            black_ink_as_srgb(grey),
            6,
        ),
        "jpeg, missing end marker padded": (encode(rgb) + b"\0" * 100, rgb, 6),
        "jpeg, nonsense exif": (
            encode(rgb, exif=b"Exif\0\0" + b"MM\0*\xff\xff\xff\xff" + b"\x07" * 90),
            rgb,
            6,
        ),
        "jpeg, orientation 99": (encode(rgb, exif=_orientation_exif(99)), rgb, 6),
        "png": (encode(rgb, "PNG"), rgb, 0),
        "alpha png": (encode(rgba, "PNG"), on_white(rgb, alpha), 1),
        "grey alpha png": (
            encode(Image.fromarray(np.dstack([grey, alpha]), "LA"), "PNG"),
            on_white(grey3, alpha),
            1,
        ),
        "palette png": (encode(palette, "PNG"), shown, 0),
        "palette png, transparent": (encode(palette, "PNG", transparency=3), on_white(shown, holes), 0),
        "colour key png": (
            encode(rgb, "PNG", transparency=tuple(int(v) for v in rgb[5, 7])),
            on_white(rgb, np.where((rgb == rgb[5, 7]).all(axis=-1), 0, 255).astype(np.uint8)),
            0,
        ),
        "16-bit grey png": (encode(grey.astype(np.uint16) * 257, "PNG"), grey3, 0),
        "16-bit rgb png": (_deep_png(rgb), rgb, 1),
        "bilevel png": (encode(binary, "PNG"), np.array(binary.convert("RGB")), 0),
        "png, swapped profile": (encode(rgb, "PNG", icc_profile=swapped_profile()), rgb[..., ::-1], 2),
        "alpha png, swapped profile": (
            encode(rgba, "PNG", icc_profile=swapped_profile()),
            on_white(rgb[..., ::-1], alpha),
            2,
        ),
        "jpeg, swapped profile": (encode(rgb, icc_profile=swapped_profile()), rgb[..., ::-1], 8),
        "jpeg, broken profile": (encode(rgb, icc_profile=b"\x07" * 300), rgb, 6),
        "grey jpeg, rgb profile": (encode(grey, icc_profile=_srgb_profile()), grey3, 5),
        "cmyk jpeg, rgb profile": (encode(cmyk, icc_profile=swapped_profile()), rgb, 8),
        "png, wide gamut": (encode(rgb, "PNG", icc_profile=p3_profile()), p3_as_srgb(rgb), 3),
        "jpeg, wide gamut": (encode(rgb, icc_profile=p3_profile()), p3_as_srgb(rgb), 24),
        # Files of two formats at once are the image that their signature names; the rest is ignored.
        "jpeg and zip": (encode(rgb) + _zip(), rgb, 6),
        "png and html": (encode(rgb, "PNG") + b"<html><script>alert(1)</script></html>", rgb, 0),
        "gif and javascript": (_script_gif(palette), shown, 0),
        "jpeg with html in a comment": (encode(rgb, comment=b"<script>alert(1)</script>"), rgb, 6),
        "webp": (encode(rgb, "WEBP", quality=95), rgb, 14),
        "lossless webp, alpha": (encode(rgba, "WEBP", lossless=True, exact=True), on_white(rgb, alpha), 1),
        "gif": (encode(palette, "GIF"), shown, 0),
        "gif, transparent": (encode(palette, "GIF", transparency=3), on_white(shown, holes), 0),
        "bmp": (encode(rgb, "BMP"), rgb, 0),
    }
    square = drawing(64, 64)
    cases |= odd_heif(square)
    for format, family in (("avif", AVIF), ("heic", HEIC)):
        cases[format] = (encode(rgb, family.name), rgb, 8)
        cases[f"alpha {format}"] = (encode(rgba, family.name), on_white(rgb, alpha), 8)
        cases[f"grey {format}"] = (encode(grey, family.name), grey3, 8)
        # Colours by a profile, by number, and by both, where the profile counts.
        p3, swapped = nclx(12, 13, 6), colr(swapped_profile())
        for name, properties, shown in (
            ("swapped profile", [swapped], square[..., ::-1]),
            ("broken profile", [colr(b"\7" * 300)], square),
            ("wide gamut", [p3], p3_as_srgb(square)),
            ("swapped profile, wide gamut", [p3, swapped], square[..., ::-1]),
            ("profile and pq", [nclx(9, 16, 6), swapped], square[..., ::-1]),
            ("untold colours", [nclx(2, 2, 6)], square),
        ):
            item = family.picture(square, *properties, colours=False)
            cases[f"{format}, {name}"] = (family.file(item), shown, 24 if properties == [p3] else 8)
    for orientation in range(1, 9):
        cases[f"jpeg, orientation {orientation}"] = (*with_orientation(orientation), 6)
    cases["png, orientation 6"] = (*with_orientation(6, "PNG"), 0)
    cases["webp, orientation 8"] = (*with_orientation(8, "WEBP"), 14)
    return cases


def hostile_images() -> dict[str, tuple[bytes, str]]:
    """Return files that must be refused: name to (bytes, error code)."""
    rgb = drawing()
    frames = [Image.fromarray(rgb), Image.fromarray(255 - rgb)]
    moving = {"save_all": True, "append_images": frames[1:], "duration": 100}
    jpeg, whole_png, webp = encode(rgb), encode(rgb, "PNG"), encode(rgb, "WEBP", lossless=True)
    progressive = encode(rgb, progressive=True)
    gif, bmp = encode(rgb, "GIF"), encode(rgb, "BMP")
    scan = jpeg[jpeg.index(b"\xff\xda") : -2]
    return {
        "empty": (b"", "empty"),
        "html": (b"<!doctype html><title>404</title>", "unknown_format"),
        "zeros": (bytes(5000), "unknown_format"),
        "html named .jpg": (b"\r\n <HTML><img src=photo.jpg></HTML>" * 40, "unknown_format"),
        "pdf in front of a jpeg": (b"%PDF-1.4\n" + jpeg, "format_not_allowed"),
        "zip in front of a jpeg": (_zip() + jpeg, "unknown_format"),
        "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "format_not_allowed"),
        "tiff": (encode(rgb, "TIFF"), "format_not_allowed"),
        "jpeg 2000": (encode(rgb, "JPEG2000"), "format_not_allowed"),
        "half a jpeg": (jpeg[: len(jpeg) // 2], "truncated"),
        "half a progressive jpeg": (progressive[: len(progressive) // 2], "truncated"),
        "half a png": (whole_png[: len(whole_png) // 2], "truncated"),
        "half a webp": (webp[: len(webp) // 2], "truncated"),
        "webp, header only": (webp[:22], "truncated"),
        "half a gif": (gif[: len(gif) // 2], "truncated"),
        "half a bmp": (bmp[: len(bmp) // 2], "truncated"),
        "jpeg signature, then noise": (b"\xff\xd8\xff" + b"\x11\x22" * 400 + b"\xff\xd9", "corrupt"),
        "png with a wrong checksum": (_flipped(whole_png, whole_png.index(b"IDAT") + 9), "corrupt"),
        "webp without an image": (b"RIFF\x20\0\0\0WEBPEXIF" + bytes(20), "corrupt"),
        # These must be refused by their dimensions: they have no pixels.
        "png bomb": (png(60000, 60000, 8, 2, b""), "too_many_pixels"),
        "png, long side": (png(30000, 600, 8, 0, b""), "side_too_long"),
        "webp bomb": (
            b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff\xff\0\xff\xff\0",
            "too_many_pixels",
        ),
        "gif bomb": (gif[:6] + b"\xff\xff\xff\xff" + gif[10:], "too_many_pixels"),
        "bmp bomb": (bmp[:18] + struct.pack("<ii", 60000, 60000) + bmp[26:], "too_many_pixels"),
        "tracking pixel": (encode(rgb[:1, :1], "PNG"), "too_small"),
        "banner": (encode(drawing(1000, 20), "PNG"), "bad_aspect"),
        "jpeg of many scans": (jpeg[:-2] + scan * 200 + b"\xff\xd9", "too_complex"),
        "animated gif": (encode(frames[0], "GIF", **moving), "animated"),
        "animated png": (encode(frames[0], "PNG", **moving), "animated"),
        "animated webp": (encode(frames[0], "WEBP", **moving), "animated"),
        **hostile_heif(drawing(64, 64)),
    }


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("run.sh", "#!/bin/sh\n")
    return buffer.getvalue()


def _script_gif(palette: Image.Image) -> bytes:
    """Return a GIF that is also valid JavaScript, by opening and closing a comment of it."""
    return encode(palette, "GIF", comment=b"*/=1;alert(1);/*") + b"*/"


def _srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _orientation_exif(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def _deep_png(rgb: np.ndarray) -> bytes:
    """Encode `rgb` as a PNG of 16 bits per channel: each value in the high byte, another number in the low byte."""
    deep = (rgb.astype(np.uint16) << 8) + 90
    return png(
        rgb.shape[1], rgb.shape[0], 16, 2, b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    )


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
