import numpy as np
import pytest

from pipelines.images.colour import rgb_to_lab


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [  # CIE 15 with D65, as computed by other tools
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0, 0)),
    ],
)
def test_lab_of_known_colours(rgb: tuple[int, int, int], lab: tuple[float, float, float]) -> None:
    assert rgb_to_lab(np.uint8([[rgb]]))[0, 0] == pytest.approx(lab, abs=0.05)
