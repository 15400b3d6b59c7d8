from pathlib import Path

import pytest

from model.errors import ConfigurationError
from pipelines.contracts.profiles.profile import Bounds, Profile, parse_profile, profile_names, read_profile


@pytest.mark.parametrize("name", profile_names())
def test_the_built_in_profiles_are_valid_and_have_a_source(name: str) -> None:
    profile = read_profile(name)
    assert profile.source.startswith("https://")
    assert len(profile.checked) == len("2026-11-22")
    assert "jpeg" in profile.formats


def test_four_marketplaces_are_built_in() -> None:
    assert profile_names() == ("amazon", "ebay", "etsy", "google")
    assert read_profile("amazon").fill_share == Bounds(minimum=0.85)


HEAD = "version: 1\nname: shop\nsource: page\nchecked: 2026-11-22\n"


def test_a_file_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(
        HEAD + "formats: [webp]\nlongest_side: {minimum: 800, maximum: 4000}\n"
    )
    assert read_profile(str(tmp_path / "shop.yaml")) == Profile(
        "shop", "page", "2026-11-22", ("webp",), longest_side=Bounds(800, None, 4000)
    )


def test_another_date_of_checking_does_not_change_results() -> None:
    rules = "formats: [jpeg]\nquality: 90\n"
    first = parse_profile(HEAD + rules, "file")
    later = parse_profile(HEAD.replace("2026", "2027") + rules, "file")
    assert first != later
    assert first.decides() == later.decides()
    assert first.decides() != parse_profile(HEAD + rules + "max_bytes: 9\n", "file").decides()


@pytest.mark.parametrize(
    ("rest", "complaint"),
    [
        ("", "formats: is missing"),
        ("formats: []", "formats: must not be empty"),
        ("formats: [tiff]", "'tiff' is not one of jpeg, png, webp"),
        ("formats: [png]\nquality: 101", "at most 100"),
        ("formats: [png]\nmax_bytes: 0", "at least 1"),
        ("formats: [png]\nfill_share: {minimum: 1.5}", "at most 1"),
        ("formats: [png]\nfill_share: {minimum: 0.9, maximum: 0.8}", "must not decrease"),
        ("formats: [png]\nlongest_side: {least: 9}", "unknown key"),
        ("formats: [png]\nbackground: grey", "must be 'white'"),
        ("formats: [png]\nborder: none", "unknown key"),
    ],
)
def test_mistakes_are_named(rest: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        parse_profile(HEAD + rest, "file")


def test_an_unknown_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--profile amazn: not one of amazon, ebay"):
        read_profile("amazn")
    with pytest.raises(ConfigurationError, match="--profile"):
        read_profile(str(tmp_path / "gone.yaml"))
