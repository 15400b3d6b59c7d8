import json
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pytest

from pipelines.dataset.finish import Description, finish
from pipelines.dataset.output import Places, known_ids
from pipelines.dataset.plan import make_plan
from pipelines.dataset.readers.base import Notes
from pipelines.dataset.readers.folders import PairedFolders
from pipelines.dataset.unit import Work, prepare_unit
from pipelines.label_map import LabelMap
from pipelines.splits import split_of
from tests.photo_tables import encode, scene
from tests.preparation import SETTINGS

#: An id of each split.
NAMES = [next(f"p{n}" for n in range(50) if split_of(f"p{n}") == split) for split in ("train", "test")]


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    found = [tmp_path / "marked", tmp_path / "plain"]
    for root in found:
        root.mkdir()
        (root / "always.png").write_bytes(encode(scene()))
    return found


def add_generation(output: Path, generation: int, roots: list[Path]) -> dict[str, Any]:
    """What one run of the job does, here; returns dataset.json."""
    places = Places(str(output))
    reader = PairedFolders("--sources", str(roots[0]), str(roots[1]), "watermark")
    plan = make_plan(
        places.plan(generation),
        lambda: reader.entries(Notes()),
        known_ids(places, generation),
        lambda _: None,
        generation=generation,
        identity={},
        size_of_units=lambda _: 2,
        notes=list,
    )
    folders = (places.plan(generation), places.done(generation), places.shards)
    work = Work(plan, SETTINGS, *folders, 1 << 28, str(output / "held-back"))
    for unit in range(plan.units):
        prepare_unit(unit, work)
    finish(places, work, Description(LabelMap.default().to_yaml(), {}, 1.0))
    return dict(json.loads((output / "dataset.json").read_text()))


def rows(folder: Path) -> list[dict[str, Any]]:
    return list(pyarrow.dataset.dataset(folder).to_table().to_pylist())


@pytest.mark.parametrize("first", [0, 1])
def test_a_partner_that_comes_later_makes_the_pair_on_the_same_side(
    tmp_path: Path, roots: list[Path], first: int
) -> None:
    output = tmp_path / "out"
    for name in NAMES:
        (roots[first] / f"{name}.png").write_bytes(encode(scene()))
    add_generation(output, 0, roots)
    before = {path: path.read_bytes() for path in (output / "shards").iterdir()}
    for name in NAMES:
        (roots[1 - first] / f"{name}.png").write_bytes(encode(scene()))
    summary = add_generation(output, 1, roots)
    assert all(path.read_bytes() == data for path, data in before.items())
    assert summary["generations"][1]["entries"]["completed"] == 2
    found = [row for row in rows(output / "shards") if row["image_id"] in NAMES]
    assert sorted((row["image_id"], row["pairing"]) for row in found) == sorted(
        (name, pairing) for name in NAMES for pairing in ("paired", "unpaired")
    )
    assert all(row["split"] == split_of(row["image_id"]) for row in found)
    # The held-back catalog's ids come once, and so do the references.
    for part in ("catalog", "reference"):
        ids = [row["image_id"].partition("#")[0] for row in rows(output / "held-back" / part)]
        assert ids.count(NAMES[1]) == 1
    assert add_generation(output, 2, roots)["generations"][2]["entries"]["already_there"] == 3


def test_what_cannot_be_read_is_counted_once_and_no_more_when_it_was_read(
    tmp_path: Path, roots: list[Path]
) -> None:
    output, late = tmp_path / "out", roots[0] / "late.png"
    late.write_bytes(b"junk")
    (roots[1] / "late.png").write_bytes(encode(scene()))
    (roots[0] / "never.png").write_bytes(b"junk")
    (roots[1] / "never.png").write_bytes(encode(scene()))
    for generation in range(2):
        summary = add_generation(output, generation, roots)
        assert summary["counts"]["entries"]["unreadable"] == 2
    late.write_bytes(encode(scene()))
    summary = add_generation(output, 2, roots)
    assert (
        summary["counts"]["entries"]["unreadable"] == summary["counts"]["unreadable"]["unknown_format"] == 1
    )
    assert [item["image_id"] for item in summary["unreadable"]] == ["never"]
    # Listed three times over, and each of them counts once.
    entries = summary["counts"]["entries"]
    assert entries["listed"] == entries["prepared"] + entries["unreadable"]
    assert "already_there" not in entries
