import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ConfigurationError
from pipelines.contracts.label_map import LabelMap
from pipelines.images.decode import decode_image
from pipelines.preparation.entries import Entry
from pipelines.preparation.readers.base import Notes
from pipelines.preparation.readers.public import PublicReader, assign_sides
from pipelines.preparation.readers.public_facts import (
    BENCHMARKS,
    DATASETS,
    PAIRED4,
    UNPAIRED4,
    datasets_of,
    label_map,
)
from tests.image_trees import by_split, is_reddish, listed, read, two_sided, write_tree

CONTENTS = st.sets(st.integers(0, 10_000), max_size=60).map(
    lambda numbers: {hashlib.sha256(str(number).encode()).digest() for number in numbers}
)


def draw_paired(root: Path, name: str, counts: dict[str, int]) -> None:
    """Write a dataset in the official layout: JPEGs of A|B, red on the left and blue on the right, all different."""
    seed = 0
    for folder, count in counts.items():
        for number in range(1, count + 1):
            seed += 1
            write_tree(root / name / folder, {f"{number}.jpg": two_sided(hash_of(name) + seed)[0]})


def draw_unpaired(root: Path, name: str, counts: dict[str, int], photos: str = "") -> None:
    """Write a dataset in the official layout. `photos`: content of B's files, so that two datasets can share them."""
    for folder, count in counts.items():
        about = photos if photos and folder.endswith("B") else name
        write_tree(
            root / name / folder,
            {f"{number:04}.jpg": f"{about} {folder} {number}".encode() for number in range(count)},
        )


def hash_of(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest()[:6], 16)


def reader(root: Path, benchmark: str) -> PublicReader:
    return PublicReader("--root", str(root), datasets_of(benchmark))


@pytest.mark.parametrize(
    ("benchmark", "cyclic"),
    [
        (PAIRED4, set()),
        ("maps", set()),
        (UNPAIRED4, {"objects", "paintings"}),
        ("monet2photo", {"paintings"}),
    ],
)
def test_pairs_take_no_cycle_and_identity_and_unpaired_images_do(benchmark: str, cyclic: set[str]) -> None:
    """The paper sets lambda 3 and 4 to 0 for pairs (Li et al., 2022)."""
    label_map_ = label_map(datasets_of(benchmark))
    assert LabelMap.parse(label_map_.to_yaml(), "map").cyclic({"angle"}) == cyclic


@given(contents=CONTENTS)
def test_four_fifths_in_order_of_hashes_are_for_training(contents: set[bytes]) -> None:
    sides: dict[bytes, str] = {}
    assign_sides(contents, sides)
    again: dict[bytes, str] = {}
    assign_sides(sorted(contents, reverse=True), again)
    assert sides == again
    assert sides.keys() == contents
    in_order = [sides[digest] for digest in sorted(sides)]
    assert in_order == sorted(in_order, key=["train", "test"].index)
    assert abs(in_order.count("train") - 0.8 * len(contents)) <= 1
    assert len(contents) < 2 or {"train", "test"} == set(in_order)


@given(first=CONTENTS, second=CONTENTS)
def test_a_content_keeps_its_side(first: set[bytes], second: set[bytes]) -> None:
    sides: dict[bytes, str] = {}
    assign_sides(first, sides)
    before = dict(sides)
    assign_sides(second, sides)
    assert before.items() <= sides.items()
    assert sides.keys() == first | second


@pytest.mark.parametrize("name", ["maps", "facades", "edges2shoes", "edges2handbags"])
def test_paired_datasets_keep_left_and_right(tmp_path: Path, name: str) -> None:
    """Maps run from B (right, map) to A (left, aerial photo), the others from A to B."""
    draw_paired(tmp_path, name, {"train": 5, "val": 3, "test": 2})
    records, _ = read(reader(tmp_path, name))
    assert set(records) == {f"{name}/train/{n}" for n in range(1, 6)} | {
        f"{name}/val/{n}" for n in (1, 2, 3)
    } | {f"{name}/test/{n}" for n in (1, 2)}
    for record in records.values():
        assert record.source is not None
        assert record.target is not None
        assert record.entry.defect == name
        assert is_reddish(decode_image(record.source)) == (name != "maps")
        assert is_reddish(decode_image(record.target)) == (name == "maps")
    assert by_split(record.entry for record in records.values()) == {"train": 8, "test": 2}


def test_unpaired_datasets_have_a_as_source_and_b_as_target(tmp_path: Path) -> None:
    draw_unpaired(tmp_path, "horse2zebra", {"trainA": 7, "testA": 3, "trainB": 16, "testB": 4})
    records, _ = read(reader(tmp_path, "horse2zebra"))
    for key, record in records.items():
        assert (record.source is None) == ("B/" in key)
        assert (record.target is None) == ("A/" in key)
        assert record.entry.defect == "horse2zebra"
    assert records["horse2zebra/testB/0003"].target == b"horse2zebra testB 3"
    assert by_split(r.entry for r in records.values() if r.source is not None) == {"train": 8, "test": 2}
    assert by_split(r.entry for r in records.values() if r.target is not None) == {"train": 16, "test": 4}


@settings(max_examples=15, deadline=None)
@given(
    a=st.dictionaries(st.integers(0, 30), st.integers(0, 12), min_size=1, max_size=15),
    b=st.dictionaries(st.integers(0, 30), st.integers(0, 12), min_size=1, max_size=15),
    moved=st.booleans(),
)
def test_splits_depend_on_contents_alone(
    tmp_path_factory: pytest.TempPathFactory, a: dict[int, int], b: dict[int, int], moved: bool
) -> None:
    """Splits are disjoint, 80/20 and independent of order and names; no content is on both sides (property 19)."""
    sides = []
    for rename in (False, True):
        root = tmp_path_factory.mktemp("split")
        for domain, files in (("A", a), ("B", b)):
            folder = "test" if rename and moved else "train"
            for number, content in files.items():
                name = f"{99 - number if rename else number}.jpg"
                write_tree(root / "apple2orange" / f"{folder}{domain}", {name: f"{domain}{content}".encode()})
        records, notes = read(reader(root, "apple2orange"))
        by_content = {(r.source or r.target): r.entry.split for r in records.values()}
        assert len(by_content) == len(records)  # no content twice
        for domain, files in (("A", a), ("B", b)):
            mine = [split for data, split in by_content.items() if data and data.startswith(domain.encode())]
            assert len(mine) == len(set(files.values()))
            assert abs(mine.count("train") - 0.8 * len(mine)) <= 1
            repeats = len(files) - len(mine)
            text = f"{repeats} files repeat another's content"
            assert (
                any(text in note and f"train{domain}/" in note for note in notes) == bool(repeats) or rename
            )
        sides.append(by_content)
    assert sides[0] == sides[1]


def test_shared_photos_are_on_the_same_side(tmp_path: Path) -> None:
    """The datasets share their photos; here one of them lacks some, so that ranks differ."""
    draw_unpaired(tmp_path, "horse2zebra", {"trainA": 4, "testB": 4})
    draw_unpaired(tmp_path, "apple2orange", {"trainA": 4, "trainB": 4})
    draw_unpaired(tmp_path, "monet2photo", {"trainA": 6, "trainB": 40, "testB": 11}, photos="photo")
    draw_unpaired(tmp_path, "vangogh2photo", {"trainA": 6, "trainB": 40, "testB": 3}, photos="photo")
    records, _ = read(reader(tmp_path, UNPAIRED4))
    sides: dict[bytes, set[str | None]] = {}
    for record in records.values():
        if record.entry.defect in ("monet2photo", "vangogh2photo") and record.target is not None:
            sides.setdefault(record.target, set()).add(record.entry.split)
    assert len(sides) == 51
    assert all(len(side) == 1 for side in sides.values())
    alone = [entry for entry in listed(reader(tmp_path, "monet2photo")) if entry.target is not None]
    assert {entry.image_id: entry.split for entry in alone} == {
        key: r.entry.split
        for key, r in records.items()
        if key.startswith("monet2photo/") and r.target is not None
    }


def test_combined_benchmarks_have_all_four(tmp_path: Path) -> None:
    for dataset in datasets_of(PAIRED4):
        draw_paired(tmp_path, dataset.name, {"train": 4, "val": 1})
    entries = listed(reader(tmp_path, PAIRED4))
    assert len({entry.image_id for entry in entries}) == 20
    assert {entry.defect for entry in entries} == {"maps", "facades", "edges2shoes", "edges2handbags"}
    for name in ("maps", "facades", "edges2shoes", "edges2handbags"):
        assert by_split(entry for entry in entries if entry.defect == name) == {"train": 4, "test": 1}


@pytest.mark.parametrize(
    ("benchmark", "conditions"),
    [
        (PAIRED4, {"maps": (0, 0), "facades": (0, 1), "edges2shoes": (1, 2), "edges2handbags": (1, 3)}),
        (
            UNPAIRED4,
            {"horse2zebra": (0, 0), "apple2orange": (0, 1), "monet2photo": (1, 2), "vangogh2photo": (1, 3)},
        ),
        ("vangogh2photo", {"vangogh2photo": (0, 0)}),
    ],
)
def test_conditions_are_the_papers(benchmark: str, conditions: dict[str, tuple[int, int]]) -> None:
    made = label_map(datasets_of(benchmark))
    assert made.conditions == conditions
    assert LabelMap.parse(made.to_yaml(), "map") == made


def test_the_reported_counts_add_up_to_the_papers() -> None:
    """Li et al.'s table: facades 606; apples 1,261; paintings 1,193 and 800; photos 7,038."""
    reported = {dataset.name: dataset.reported for dataset in DATASETS}
    assert sum(reported["facades"].values()) == 606
    assert reported["apple2orange"]["trainA"] + reported["apple2orange"]["testA"] == 1261
    assert reported["monet2photo"]["trainA"] + reported["monet2photo"]["testA"] == 1193
    assert reported["vangogh2photo"]["trainA"] + reported["vangogh2photo"]["testA"] == 800
    for name in ("monet2photo", "vangogh2photo"):
        assert reported[name]["trainB"] + reported[name]["testB"] == 7038
    assert set(BENCHMARKS) == {PAIRED4, UNPAIRED4, *reported}
    assert len(DATASETS) == 8


def test_other_counts_and_repeated_files_are_noted_not_refused(tmp_path: Path) -> None:
    draw_unpaired(tmp_path, "vangogh2photo", {"trainA": 400, "testA": 3, "trainB": 2})
    write_tree(tmp_path / "vangogh2photo" / "testA", {"again.jpg": b"vangogh2photo trainA 7"})
    records, notes = read(reader(tmp_path, "vangogh2photo"))
    assert len(records) == 405
    text = "\n".join(notes)
    assert "vangogh2photo/testA has 4 images; 400 are commonly reported" in text
    assert "vangogh2photo/trainB has 2 images; 6287" in text
    assert "vangogh2photo/testB has 0 images; 751" in text
    assert "trainA has" not in text
    repeated = "vangogh2photo/trainA/0007 (as vangogh2photo/testA/again)"
    assert f"1 files repeat another's content and are dropped: {repeated}" in text


def test_an_unreadable_picture_is_a_record(tmp_path: Path) -> None:
    draw_paired(tmp_path, "facades", {"train": 4})
    broken = tmp_path / "facades" / "train" / "2.jpg"
    broken.write_bytes(broken.read_bytes()[:150])
    (tmp_path / "facades" / "train" / "9.jpg").symlink_to(tmp_path / "nowhere")
    records, _ = read(reader(tmp_path, "facades"))
    errors = {key: record.error[0] for key, record in records.items() if record.error}
    assert errors == {"facades/train/2": "truncated", "facades/train/9": "missing"}


def test_a_single_dataset_may_be_the_root_itself(tmp_path: Path) -> None:
    draw_paired(tmp_path, "facades", {"train": 2})
    inside = listed(PublicReader("--root", f"{tmp_path}/facades", datasets_of("facades")))
    assert inside == listed(reader(tmp_path, "facades"))


def test_missing_folders_are_named_with_the_layout(tmp_path: Path) -> None:
    draw_unpaired(tmp_path, "horse2zebra", {"trainA": 4})
    with pytest.raises(
        ConfigurationError, match=r"--root: horse2zebra: no images in trainB or testB .*trainA,testA"
    ):
        reader(tmp_path, "horse2zebra").check()
    with pytest.raises(ConfigurationError, match="--root: maps: no images in train or val or test"):
        reader(tmp_path, PAIRED4).check()
    with pytest.raises(ConfigurationError, match=r"--root: .*does not exist"):
        reader(tmp_path / "absent", PAIRED4).check()


def test_public_datasets_on_s3(s3_folder: str, tmp_path: Path) -> None:
    tree = {
        f"facades/{folder}/{number}.jpg": two_sided(10 * len(folder) + number)[0]
        for folder in ("train", "val")
        for number in range(3)
    }
    remote = PublicReader("--root", write_tree(s3_folder, tree), datasets_of("facades"))
    local = PublicReader("--root", write_tree(tmp_path, tree), datasets_of("facades"))
    assert remote.describe()["images"] == {"facades": {"train": 3, "val": 3, "test": 0}}

    def splits(entries: list[Entry]) -> list[tuple[str, str | None]]:
        return [(entry.image_id, entry.split) for entry in entries]

    assert splits(list(remote.entries(Notes()))) == splits(list(local.entries(Notes())))
    assert len(read(remote)[0]) == 6


def test_counts_are_reported_for_folders_of_the_layout_only() -> None:
    assert all(set(dataset.reported) <= set(dataset.folders) for dataset in DATASETS)
