from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ConfigurationError
from pipelines.preparation.readers.folders import ImageFolder, PairedFolders, UnpairedFolders
from tests.image_trees import NAMES, SUFFIXES, listed, read, trees, write_tree


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_folder")


@settings(max_examples=30, deadline=None)
@given(tree=trees().filter(bool), clean=st.booleans())
def test_a_folder_gives_its_files_by_their_paths(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, bytes], clean: bool
) -> None:
    root = write_tree(tmp_path_factory.mktemp("folder"), tree)
    records, _ = read(ImageFolder("--photos", root, clean, "shoes", "p/"))
    assert {image_id: record.target if clean else record.source for image_id, record in records.items()} == {
        f"p/{path}": data for path, data in tree.items()
    }
    for record in records.values():
        assert (record.source is None, record.target is None) == (clean, not clean)
        assert (record.entry.product_type, record.entry.defect, record.entry.split) == ("shoes", None, None)


@st.composite
def two_trees(draw: st.DrawFn) -> tuple[dict[str, tuple[str, bytes]], dict[str, tuple[str, bytes]]]:
    """Draw two trees, each as {path without extension: (extension, content)}; at least one path is in both."""
    paths = draw(
        st.lists(
            st.tuples(st.sampled_from(["", "x_/", "x_/y_/"]), NAMES).map("".join),
            min_size=1,
            max_size=8,
            unique=True,
        )
    )
    membership = [draw(st.sampled_from(["both", "source", "target"])) for _ in paths]
    membership[0] = "both"
    sides: list[dict[str, tuple[str, bytes]]] = []
    for side in ("source", "target"):
        mine = [path for path, where in zip(paths, membership, strict=True) if where in ("both", side)]
        sides.append({path: (draw(SUFFIXES), side.encode() + path.encode()) for path in mine})
    return sides[0], sides[1]


@settings(max_examples=50, deadline=None)
@given(sides=two_trees())
def test_pairs_are_matched_by_path_without_extension(
    tmp_path_factory: pytest.TempPathFactory,
    sides: tuple[dict[str, tuple[str, bytes]], dict[str, tuple[str, bytes]]],
) -> None:
    folder = tmp_path_factory.mktemp("paired")
    for name, side in zip(("source", "target"), sides, strict=True):
        write_tree(folder / name, {path + suffix: data for path, (suffix, data) in side.items()})
    records, notes = read(PairedFolders("x", f"{folder}/source", f"{folder}/target", "watermark"))
    content = [{path: data for path, (_, data) in side.items()} for side in sides]
    assert {key: record.source for key, record in records.items() if record.source is not None} == content[0]
    assert {key: record.target for key, record in records.items() if record.target is not None} == content[1]
    assert all(record.entry.defect == "watermark" and record.error is None for record in records.values())
    alone = sides[0].keys() ^ sides[1].keys()
    assert len(notes) == bool(alone)
    assert all(f"{len(alone)} images without a partner" in note for note in notes)
    assert all(f"/{path}" in note for path in alone for note in notes)


def test_a_missing_partner_may_be_an_error(folder: str) -> None:
    write_tree(folder, {"s/a/1.jpg": b"1", "t/a/1.png": b"1", "s/a/2.jpg": b"2"})
    records, notes = read(PairedFolders("x", f"{folder}/s", f"{folder}/t", "blur"))
    assert (records["a/2"].source, records["a/2"].target) == (b"2", None)
    assert "source/a/2" in notes[0]
    with pytest.raises(ConfigurationError, match="source/a/2 has no partner"):
        listed(PairedFolders("x", f"{folder}/s", f"{folder}/t", "blur", unmatched="error"))


def test_no_pair_at_all_is_an_error(tmp_path: Path) -> None:
    write_tree(tmp_path, {"s/1_in.jpg": b"1", "t/1_out.jpg": b"1"})
    with pytest.raises(ConfigurationError, match="no two files match"):
        listed(PairedFolders("x", f"{tmp_path}/s", f"{tmp_path}/t", "blur"))


def test_an_ambiguous_partner_is_an_error(tmp_path: Path) -> None:
    write_tree(tmp_path, {"s/1.jpg": b"1", "t/1.jpg": b"1", "t/1.png": b"2"})
    with pytest.raises(ConfigurationError, match=r"1\.jpg and 1\.png .* differ by extension only"):
        listed(PairedFolders("x", f"{tmp_path}/s", f"{tmp_path}/t", "blur"))


def test_a_tree_is_not_paired_with_itself(tmp_path: Path) -> None:
    write_tree(tmp_path, {"s/1.jpg": b"1"})
    with pytest.raises(ConfigurationError, match="the same folder"):
        PairedFolders("x", f"{tmp_path}/s", f"{tmp_path}/s/", "blur").check()


@settings(max_examples=30, deadline=None)
@given(source=trees().filter(bool), target=trees().filter(bool), sides=st.sampled_from(["st", "s", "t"]))
def test_unpaired_trees_keep_their_sides(
    tmp_path_factory: pytest.TempPathFactory, source: dict[str, bytes], target: dict[str, bytes], sides: str
) -> None:
    folder = tmp_path_factory.mktemp("unpaired")
    write_tree(folder / "s", source)
    write_tree(folder / "t", target)
    roots = [f"{folder}/{side}" if side in sides else None for side in "st"]
    records, _ = read(UnpairedFolders("x", *roots, "wrong_angle"))
    expected = {f"source/{path}": (data, None) for path, data in source.items() if "s" in sides}
    expected |= {f"target/{path}": (None, data) for path, data in target.items() if "t" in sides}
    assert {key: (record.source, record.target) for key, record in records.items()} == expected
    assert {record.entry.defect for record in records.values()} == {"wrong_angle"}


def test_unpaired_needs_a_folder() -> None:
    with pytest.raises(ConfigurationError, match="name a folder as source, target"):
        UnpairedFolders("x", None, None, "blur").check()


def test_folders_on_s3_read_as_local_ones(s3_folder: str, tmp_path: Path) -> None:
    tree = {"a/1.jpg": b"1", "2.png": b"2", "a b/ü.jpg": b"3"}
    remote, _ = read(ImageFolder("x", write_tree(s3_folder, tree) + "/"))
    local, _ = read(ImageFolder("x", write_tree(tmp_path, tree)))
    assert {key: record.source for key, record in remote.items()} == {
        key: record.source for key, record in local.items()
    }
