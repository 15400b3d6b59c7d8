"""A preparation's flags: which of them decide what comes out, and which contradict one another."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from model.errors import ConfigurationError
from pipelines.contracts.label_map import LabelMap
from pipelines.preparation.settings import PreparationConfig, Request, resolve
from tests.photo_tables import record, write_table

MAP = LabelMap.default().to_yaml()
SOURCES = "version: 1\nsources: [{reader: table, uri: photos.parquet}]\n"


@pytest.fixture
def photos(tmp_path: Path) -> str:
    return str(write_table(tmp_path / "photos.parquet", [record("p")]))


def request(table: str, **changes: Any) -> Request:
    output = str(Path(table).with_name("out"))
    return resolve(PreparationConfig(**{"output": output, "photos": [table], **changes}))


#: Another value of every flag that a run which is continued must have as it began.
DECISIVE: dict[str, Any] = {
    "photos": ["other.parquet"],
    "label_map": MAP.replace("order: 1", "order: 4"),
    "synthesis": ["watermark=wrong_angle"],
    "draws": 3,
    "seed": 5,
    "max_side": 321,
    "min_quality": 0.123,
    "saliency": "classical",
    "shard_size": 7,
    "limit": 4,
    "test_catalog": "held_back",
    "test_limit": 3,
    "sources": SOURCES,
    "benchmark": "x",
}
#: And those that change nothing of what comes out.
OTHERS: dict[str, Any] = {
    "overwrite": True,
    "saliency_device": "cpu",
    "gpus_per_actor": None,
    "output": "new",
}
#: Files that are given by their text, and flags that need another.
_FILES, _WITH = ("label_map", "sources"), {"test_limit": {"test_catalog": "held_back"}}


def test_every_flag_either_decides_what_comes_out_or_does_not() -> None:
    """A flag that is added must be put on one of the two sides; --root goes with --benchmark."""
    assert {field.name for field in fields(PreparationConfig)} == {*DECISIVE, *OTHERS, "root"}


@pytest.mark.parametrize("name", [name for name in DECISIVE if name != "benchmark"])
def test_a_flag_that_decides_what_comes_out_makes_another_preparation(
    name: str, photos: str, tmp_path: Path
) -> None:
    write_table(tmp_path / "other.parquet", [record("q")])
    value = DECISIVE[name]
    if name in _FILES:
        (tmp_path / name).write_text(value)
        value = str(tmp_path / name)
    elif name in ("photos", "test_catalog"):
        value = [str(tmp_path / uri) for uri in value] if name == "photos" else str(tmp_path / value)
    given = {key: str(tmp_path / uri) for key, uri in _WITH.get(name, {}).items()}
    before = request(photos, **given).identity
    after = request(photos, **given, **{name: value}).identity
    assert {key for key in before if before[key] != after[key]} == {f"--{name.replace('_', '-')}"}


@pytest.mark.parametrize("name", OTHERS)
def test_a_flag_that_changes_nothing_of_it_does_not(name: str, photos: str, tmp_path: Path) -> None:
    value = str(tmp_path / "elsewhere") if name == "output" else OTHERS[name]
    assert request(photos, **{name: value}).identity == request(photos).identity


def test_a_file_is_known_by_its_text_and_not_by_its_place(photos: str, tmp_path: Path) -> None:
    for name in ("one.yaml", "two.yaml"):
        (tmp_path / name).write_text(MAP)
    one, two = (request(photos, label_map=str(tmp_path / name)) for name in ("one.yaml", "two.yaml"))
    assert one.identity == two.identity == request(photos).identity  # it says what the default says


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"photos": ()}, "nothing to prepare: give --photos, --benchmark with --root, or --sources"),
        ({"benchmark": "x"}, "--benchmark NAME and --root URI go together"),
        ({"root": "x"}, "--benchmark NAME and --root URI go together"),
        ({"test_limit": 3}, "--test-limit needs --test-catalog URI"),
        ({"gpus_per_actor": 1.0}, "--gpus-per-actor asks for GPUs for a saliency network: give --saliency"),
        (
            {"gpus_per_actor": 1.5, "saliency": "n.onnx"},
            r"--gpus-per-actor 1\.5: above 0 and up to 1, or whole",
        ),
        ({"gpus_per_actor": 0.0, "saliency": "n.onnx"}, "--gpus-per-actor 0: above 0 and up to 1, or whole"),
        ({"gpus_per_actor": float("nan"), "saliency": "n.onnx"}, "--gpus-per-actor nan"),
        (
            {"gpus_per_actor": 0.5, "saliency": "n.onnx", "saliency_device": "cpu"},
            "without --device cpu",
        ),
    ],
)
def test_flags_that_contradict_one_another_are_named(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        PreparationConfig(**{"output": "o", "photos": ["p"], **changes})


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (["watermark"], "--synthesis watermark: write DEFECT=NAME, with a NAME of .*wrong_angle"),
        (["=watermark"], "--synthesis =watermark: write DEFECT=NAME"),
        (["watermark=nothing"], "nothing"),
        (["crease=watermark"], "crease"),
    ],
)
def test_a_synthesis_of_nothing_or_by_nothing_is_named(asked: list[str], complaint: str, photos: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        request(photos, synthesis=asked)


def test_a_synthesis_that_is_asked_for_takes_the_place_of_the_defect_s_own(photos: str) -> None:
    plain = request(photos).settings.syntheses
    assert plain["watermark"] == "watermark"
    assert request(photos, synthesis=["watermark=wrong_angle"]).settings.syntheses == {
        **plain,
        "watermark": "wrong_angle",
    }


def test_workers_are_told_of_every_place_that_flags_name(photos: str, tmp_path: Path) -> None:
    """A cluster of several machines must reach them all."""
    held_back = str(tmp_path / "held_back")
    asked = request(photos, saliency="classical", test_catalog=held_back)
    assert sorted(asked.shared) == sorted([photos, held_back, str(tmp_path / "out")])
