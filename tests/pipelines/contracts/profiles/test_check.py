from dataclasses import replace

import numpy as np
import pytest

from pipelines.contracts.profiles.check import fill_share, profile_issues
from pipelines.contracts.profiles.profile import Bounds, Profile

SHOP = Profile("shop", "page", "today", ("jpeg", "png"))
WHITE = np.full((100, 200, 3), 255, np.uint8)


def on_white(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    image = WHITE.copy()
    image[top:bottom, left:right] = 40
    return image


@pytest.mark.parametrize(
    ("change", "issue"),
    [
        ({}, None),
        ({"formats": ("webp", "png")}, "format jpeg is not webp or png"),
        ({"longest_side": Bounds(minimum=201)}, "longest_side 200 < 201"),
        ({"longest_side": Bounds(200, 200, 200)}, None),
        ({"longest_side": Bounds(100, 1600)}, "longest_side 200 < 1600 (recommended)"),
        ({"longest_side": Bounds(300, 1600)}, "longest_side 200 < 300"),
        ({"longest_side": Bounds(maximum=199)}, "longest_side 200 > 199"),
        ({"shortest_side": Bounds(minimum=101)}, "shortest_side 100 < 101"),
        ({"max_pixels": 19_999}, "pixels 20000 > 19999"),
        ({"max_bytes": 999}, "bytes 1000 > 999"),
        ({"fill_share": Bounds(minimum=0.85)}, "fill_share 0.50 < 0.85"),
        ({"fill_share": Bounds(maximum=0.45)}, "fill_share 0.50 > 0.45"),
        ({"fill_share": Bounds(0.5, maximum=0.5)}, None),
        ({"white_background": True}, None),
    ],
)
def test_each_rule_has_its_figure_and_its_bound(change: dict[str, object], issue: str | None) -> None:
    issues = profile_issues(replace(SHOP, **change), on_white(30, 80, 50, 110), "jpeg", 1000, not_white=0.0)
    assert issues == ([] if issue is None else [issue])


def test_on_another_background_the_products_extent_is_not_guessed() -> None:
    rules = replace(SHOP, white_background=True, fill_share=Bounds(minimum=0.85))
    issues = profile_issues(rules, WHITE // 2, "jpeg", 1000, not_white=0.4)
    assert issues == ["background 0.40 of a corner or the border is not white"]


def test_fill_share_is_of_the_fuller_side_and_ignores_dirt() -> None:
    assert fill_share(on_white(10, 90, 80, 120)) == pytest.approx(0.8)
    assert fill_share(on_white(45, 55, 0, 200)) == 1.0
    dirty = on_white(40, 60, 90, 110)
    dirty[0:3, 0:3] = 0  # nine pixels of 20,000
    assert fill_share(dirty) == pytest.approx(0.2)
    pair = on_white(40, 60, 10, 30)
    pair[40:60, 160:190] = 90
    assert fill_share(pair) == pytest.approx(180 / 200)
    assert fill_share(WHITE) == 0
