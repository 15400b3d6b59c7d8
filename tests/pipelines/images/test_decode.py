import contextlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import AvifImagePlugin, ImageFile
from pillow_heif import options

from model.errors import CatalogRepairError, ConfigurationError
from pipelines.images.decode import FORMATS, DecodeLimits, ImageError, decode_image, decode_with_size
from tests.heif_files import AVIF, HEIC, Family
from tests.hostile_images import drawing, encode, hostile_images, odd_images, png

# Test runners restore the warning filters after import; test_decoding_is_silent runs without a test runner.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

ODD = odd_images()
HOSTILE = hostile_images()
WHOLE = {
    "JPEG": "jpeg",
    "PNG": "alpha png",
    "WEBP": "lossless webp, alpha",
    "GIF": "gif",
    "BMP": "bmp",
    "AVIF": "alpha avif",
    "HEIC": "alpha heic",
}


@pytest.mark.parametrize("name", ODD)
def test_odd_files_show_what_a_browser_shows(name: str) -> None:
    data, expected, tolerance = ODD[name]
    pixels = decode_image(data)
    assert pixels.dtype == np.uint8
    assert pixels.shape == expected.shape
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("name", ODD)
def test_the_returned_size_is_the_uploads_own_after_any_shrinking(name: str) -> None:
    data, expected, _ = ODD[name]
    small, size = decode_with_size(data, max_side=20)
    assert size == (expected.shape[1], expected.shape[0])
    assert max(small.shape) <= 20


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_a_code(name: str) -> None:
    data, code = HOSTILE[name]
    with pytest.raises(ImageError) as caught:
        decode_image(data)
    assert caught.value.code == code
    assert str(caught.value)


def test_every_listed_format_is_decoded() -> None:
    assert set(WHOLE) == set(FORMATS)


def test_limits_refuse_what_the_defaults_accept() -> None:
    data = encode(drawing(200, 100), "PNG")
    for limits, code in [
        (DecodeLimits(max_bytes=100), "too_many_bytes"),
        (DecodeLimits(max_pixels=19_999), "too_many_pixels"),
        (DecodeLimits(max_dimension=199), "side_too_long"),
        (DecodeLimits(min_dimension=101), "too_small"),
        (DecodeLimits(max_aspect=1.9), "bad_aspect"),
    ]:
        with pytest.raises(ImageError) as caught:
            decode_image(data, limits)
        assert caught.value.code == code
    exact = DecodeLimits(len(data), max_pixels=20_000, max_dimension=200, min_dimension=100, max_aspect=2)
    assert decode_image(data, exact).shape == (100, 200, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_bytes": 0},
        {"min_dimension": 0},
        {"max_dimension": 5},
        {"max_aspect": 0.5},
        {"max_aspect": np.nan},
    ],
)
def test_impossible_limits_are_a_configuration_error(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        DecodeLimits(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("format", WHOLE)
@pytest.mark.parametrize(
    ("width", "height", "max_side", "shape"), [(401, 533, 256, (256, 193)), (120, 40, 30, (10, 30))]
)
def test_max_side_shrinks_to_it_in_every_format(
    format: str, width: int, height: int, max_side: int, shape: tuple
) -> None:
    whole = drawing(width, height)
    small = decode_image(encode(whole, format), max_side=max_side)
    assert small.shape == (*shape, 3)
    # The drawing is smooth, so the small picture is the large one sampled at the centres of its pixels.
    y, x = [
        ((np.arange(n) + 0.5) * f).astype(int)
        for n, f in zip(shape, (height / shape[0], width / shape[1]), strict=True)
    ]
    tolerance = 40 if format == "GIF" else 12  # a palette's bands
    assert np.abs(small.astype(int) - whole[np.ix_(y, x)])[1:-1, 1:-1].max() <= tolerance


def test_max_side_counts_after_a_turn_and_never_enlarges() -> None:
    data, expected, tolerance = ODD["jpeg, orientation 6"]
    assert decode_image(data, max_side=32).shape == (24, 32, 3)
    assert np.abs(decode_image(data, max_side=1000).astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("family", [AVIF, HEIC])
def test_a_smaller_picture_is_the_main_one_and_not_its_thumbnail(family: Family) -> None:
    main = drawing(256, 256)
    thumbnail = family.picture(255 - drawing(64, 64), references=[(b"thmb", [1])])
    small = decode_image(family.file(family.picture(main), thumbnail), max_side=64)
    assert np.abs(small.astype(int) - main[2::4, 2::4]).max() <= 12


def test_without_its_extra_heic_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(
        ImageError, match=r"HEIC needs pillow-heif: pip install 'catalog-repair\[heic\]'"
    ) as caught:
        decode_image(ODD["heic"][0])
    assert caught.value.code == "decoder_missing"
    assert decode_image(ODD["avif"][0]).shape == ODD["avif"][1].shape


def test_options_that_another_library_has_set_are_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "DISABLE_SECURITY_LIMITS", True)
    monkeypatch.setattr(options, "DECODE_THREADS", 64)
    monkeypatch.setattr(AvifImagePlugin, "DEFAULT_MAX_THREADS", 64)
    with pytest.raises(ImageError):
        decode_image(HOSTILE["heic, coded larger than it says"][0])
    decode_image(ODD["avif"][0])
    assert not options.DISABLE_SECURITY_LIMITS
    assert (options.DECODE_THREADS, AvifImagePlugin.DEFAULT_MAX_THREADS) == (0, 1)


@pytest.mark.parametrize("data", [b"\0\0\0\x18ftypmp42" + bytes(20), b"\0\0\0\x14ftypqt  " + bytes(20)])
def test_a_video_is_not_an_image(data: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(data)
    assert caught.value.code == "unknown_format"


def test_truncated_files_stay_errors_when_a_library_asks_pillow_for_leniency(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ImageError, match="ends before the image does"):
        decode_image(HOSTILE["half a jpeg"][0])


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 0.9))
def test_a_cut_file_never_passes(format: str, share: float) -> None:
    # The last tenth of a BMP or GIF may be padding; a cut before it loses pixels.
    data = ODD[WHOLE[format]][0]
    with pytest.raises(ImageError):
        decode_image(data[: int(share * len(data))])


@pytest.mark.parametrize(
    "name",
    sorted(
        {
            *WHOLE.values(),
            "progressive jpeg",
            "cmyk jpeg, adobe",
            "jpeg, swapped profile",
            "16-bit grey png",
            "jpeg, orientation 6",
            "gif, transparent",
            "animated webp",
            "avif, tiles",
            "heic, tiles",
            "heic, tone map",
            "avif, turned 3, mirrored 1",
            "heic, turned 3, mirrored 1",
            "animated avif",
        }
    ),
)
@settings(max_examples=40, deadline=None)
@given(
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    head=st.lists(st.tuples(st.integers(8, 120), st.integers(0, 255)), max_size=4),
    cut=st.floats(0, 1),
)
def test_damage_gives_pixels_or_an_image_error(name: str, flips: list, head: list, cut: float) -> None:
    data = bytearray((HOSTILE if name in HOSTILE else ODD)[name][0])
    for at, value in [(int(share * len(data)), value) for share, value in flips] + head:
        data[min(at, len(data) - 1)] = value
    damaged = bytes(data[: int(cut * len(data))] if cut < 0.5 else data)
    with contextlib.suppress(ImageError):  # any other exception fails the test
        pixels = decode_image(damaged, DecodeLimits(max_pixels=10**6))
        assert pixels.dtype == np.uint8
        assert pixels.shape[2:] == (3,)


def test_decoding_is_silent_on_odd_and_hostile_files() -> None:
    script = (
        "import warnings; from pipelines.images.decode import decode_image, ImageError\n"
        "from tests.hostile_images import *\n"
        "files = [v[0] for v in odd_images().values()] + [v[0] for v in hostile_images().values()]\n"
        "files += [png(10000, 10000, 8, 0, b'')]\n"  # Pillow warns from 89 megapixels on
        "for data in files + [file[: len(file) * 2 // 3] for file in files]:\n"
        "    try: decode_image(data)\n"
        "    except ImageError: pass\n"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == ""


def test_image_errors_survive_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(ImageError("corrupt", "no picture")))
    assert isinstance(error, CatalogRepairError)
    assert (error.code, str(error)) == ("corrupt", "no picture")


def test_a_16_bit_grey_colour_key_is_transparent() -> None:
    rows = b"".join(b"\0" + b"\x12\x34" * 10 + b"\x80\x00" * 10 for _ in range(20))
    pixels = decode_image(png(20, 20, 16, 0, rows, (b"tRNS", b"\x12\x34")))
    assert (pixels[:, :10] == 255).all()
    assert (pixels[:, 10:] == 128).all()
