import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipelines.images.cicp import profile_of
from tests.hostile_images import drawing, p3_as_srgb

#: How Chromium 156 and Firefox 153 show these three values (to one level), by the colours of an AVIF.
STORED = np.array([[49, 218, 59], [225, 219, 64], [49, 65, 62]], np.uint8)
SHOWN = {
    (12, 13): [[0, 222, 0], [226, 219, 0], [45, 66, 62]],
    (9, 13): [[0, 230, 0], [235, 219, 0], [35, 67, 62]],
    (1, 5): [[25, 210, 35], [218, 211, 40], [25, 41, 38]],
    (1, 8): [[121, 238, 132], [241, 238, 137], [121, 138, 135]],
}


def converted(rgb: np.ndarray, primaries: int, transfer: int) -> np.ndarray:
    profile = profile_of(primaries, transfer)
    assert profile is not None
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "RGB", "RGB")
    return np.asarray(transform.apply(Image.fromarray(rgb)))


@pytest.mark.parametrize("colours", SHOWN)
def test_colours_are_those_of_browsers(colours: tuple[int, int]) -> None:
    result = converted(STORED[None], *colours)[0].astype(int)
    assert np.abs(result - SHOWN[colours]).max() <= 2


def test_display_p3_agrees_with_its_definition() -> None:
    rgb = drawing(64, 64)
    assert np.abs(converted(rgb, 12, 13).astype(int) - p3_as_srgb(rgb)).max() <= 3


@pytest.mark.parametrize(
    "colours", [(1, 13), (2, 2), (1, 1), (2, 13), (1, 14), (22, 13), (12, 99), (250, 250), (9, 16)]
)
def test_srgb_and_unknown_colours_need_no_profile(colours: tuple[int, int]) -> None:
    assert profile_of(*colours) is None


@pytest.mark.parametrize("primaries", [5, 6, 7, 9, 12])
def test_grey_stays_grey(primaries: int) -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=-1)
    assert np.abs(converted(grey, primaries, 13).astype(int) - grey).max() <= 1
