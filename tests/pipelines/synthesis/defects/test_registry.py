import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ConfigurationError, RunError
from pipelines.synthesis.defects import known_syntheses, synthesis
from tests.defect_images import change, checked, pictures, product_on_white

BUILT_IN = (
    "non_white_background",
    "watermark",
    "wrong_angle",
    "blur",
    "dark_exposure",
    "border_frame",
    "added_text",
    "low_resolution",
)

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that puts a distribution with entry points and a module on sys.path, as an installer does."""

    def put(distribution: str, points: dict[str, str], code: str = "") -> None:
        site = tmp_path / distribution
        information = site / f"{distribution.replace('-', '_')}-1.2.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        lines = "".join(f"{name} = {value}\n" for name, value in points.items())
        (information / "entry_points.txt").write_text(f"[catalog_repair.defects]\n{lines}")
        (site / f"{distribution.replace('-', '_')}.py").write_text(code)
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, distribution.replace("-", "_"), raising=False)  # another test's

    return put


@pytest.mark.parametrize("name", BUILT_IN)
@settings(deadline=None, max_examples=20)
@given(image=pictures(), seed=st.integers(0, 2**32))
def test_every_synthesis_changes_any_picture_and_keeps_its_shape(
    name: str, image: np.ndarray, seed: int
) -> None:
    made = checked(synthesis(name), image, seed)
    if name == "wrong_angle" and (image == 255).all():
        return  # a blank picture stays blank
    assert change(image, made).any()


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_synthesis_is_visible_on_a_product_picture_at_any_size(name: str) -> None:
    for height, width in ((16, 16), (16, 300), (300, 16), (384, 288), (260, 2000)):
        image = product_on_white(height, width)
        for seed in range(2 if height < 1000 else 1):
            made = synthesis(name)(image, np.random.default_rng(seed))
            assert made.shape == image.shape
            changed = change(image, made)
            assert changed.max() >= 15, f"{height}x{width}, seed {seed}"
            assert (changed >= 6).mean() >= 0.003, f"{height}x{width}, seed {seed}"


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("size", [(2, 32), (32, 2), (3, 48), (2, 2)])
def test_every_synthesis_accepts_very_thin_pictures(name: str, size: tuple[int, int]) -> None:
    # Such pictures come from the longest shape that is decoded (20:1) at the smallest --max-side.
    image = np.full((*size, 3), 255, np.uint8)
    for seed in range(12):
        assert synthesis(name)(image, np.random.default_rng(seed)).shape == image.shape


def test_the_built_in_names_are_those_of_label_maps() -> None:
    assert known_syntheses()[: len(BUILT_IN)] == BUILT_IN


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"'scratches'.*watermark.*catalog_repair\.defects"):
        synthesis("scratches")


def test_another_distributions_synthesis_is_found_by_its_entry_point(install: Install) -> None:
    install(
        "third-party", {"inverted": "third_party:invert"}, "def invert(image, rng):\n    return 255 - image\n"
    )
    assert known_syntheses() == (*BUILT_IN, "inverted")
    image = product_on_white(20, 30)
    plug_in = synthesis("inverted")
    assert np.array_equal(checked(plug_in, image, 0), 255 - image)
    sent = pickle.loads(pickle.dumps(plug_in))  # as a worker receives it
    assert np.array_equal(sent(image, np.random.default_rng(0)), 255 - image)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("return image.astype('float32')", "returned float32"),
        ("return image[:-1]", r"returned uint8 \(19, 30, 3\) instead of uint8 \(20, 30, 3\)"),
        ("return None", "returned NoneType"),
        ("return 1 / 0", "ZeroDivisionError"),
        ("image[0] = 0; return image", "read-only"),
    ],
)
def test_a_plug_in_that_breaks_the_contract_is_named(install: Install, body: str, complaint: str) -> None:
    install("third-party", {"odd": "third_party:odd"}, f"def odd(image, rng):\n    {body}\n")
    image = product_on_white(20, 30)
    before = image.copy()
    with pytest.raises(RunError, match=f"'odd' of distribution third-party 1.2.*{complaint}"):
        synthesis("odd")(image, np.random.default_rng(0))
    assert np.array_equal(image, before)


@pytest.mark.parametrize(
    ("value", "code", "complaint"),
    [
        ("third_party:missing", "", "AttributeError"),
        ("nowhere_to_be_found:f", "", "ModuleNotFoundError"),
        ("third_party:f", "raise OSError('no licence')", "no licence"),
        ("third_party:f", "f = 3", "is a int, not a function"),
        ("not an object reference", "", "cannot be loaded"),
    ],
)
def test_a_plug_in_that_cannot_be_loaded_is_named_and_does_not_affect_others(
    install: Install, value: str, code: str, complaint: str
) -> None:
    install("third-party", {"broken": value}, code)
    with pytest.raises(ConfigurationError, match=f"'broken' of distribution third-party 1.2.*{complaint}"):
        synthesis("broken")
    assert "broken" in known_syntheses()
    assert synthesis("watermark")(product_on_white(20, 30), np.random.default_rng(0)).shape == (20, 30, 3)


def test_a_built_in_name_cannot_be_taken(install: Install) -> None:
    install("third-party", {"blur": "third_party:f"}, "def f(image, rng): return image\n")
    for ask in (known_syntheses, lambda: synthesis("blur"), lambda: synthesis("watermark")):
        with pytest.raises(
            ConfigurationError, match=r"third-party 1.2 adds defect 'blur', which is built in"
        ):
            ask()


def test_two_distributions_cannot_share_a_name(install: Install) -> None:
    install("third-party", {"scratches": "third_party:f"})
    install("fourth-party", {"scratches": "fourth_party:f"})
    with pytest.raises(ConfigurationError, match="'scratches'") as complaint:
        known_syntheses()
    assert "third-party 1.2" in str(complaint.value)
    assert "fourth-party 1.2" in str(complaint.value)


def test_a_name_that_no_label_map_takes_is_refused(install: Install) -> None:
    install("third-party", {"../scratches": "third_party:f"})
    with pytest.raises(ConfigurationError, match=r"third-party 1.2 names a defect '\.\./scratches'"):
        known_syntheses()
