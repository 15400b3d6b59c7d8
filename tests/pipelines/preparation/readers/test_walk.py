import os
from pathlib import Path

import pytest
from hypothesis import given, settings

from model.errors import ConfigurationError
from pipelines.preparation.readers.base import Notes
from pipelines.preparation.readers.walk import check_images, walk_images
from pipelines.storage.walk import walk
from tests.image_trees import trees, write_tree


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_folder")


@settings(max_examples=40, deadline=None)
@given(tree=trees(max_size=10))
def test_every_image_once_folders_in_order(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, bytes]
) -> None:
    root = write_tree(tmp_path_factory.mktemp("walk") / "root", tree)
    folders = list(walk(root, "--x"))
    assert sorted(folder.key(name) for folder in folders for name in folder.files) == sorted(tree)
    assert [folder.parts for folder in folders] == sorted({folder.parts for folder in folders})
    assert all(list(folder.files) == sorted(folder.files) for folder in folders)


def test_hidden_and_private_files_are_left_out_and_others_noted(folder: str) -> None:
    images = ("_DSC1.JPG", "a/1.jpg", "a/b/2.png", "scan.tiff")
    others = ("a/readme.txt", "Thumbs.db")
    hidden = (".hidden.jpg", "._1.jpg", ".git/3.jpg", "__MACOSX/4.jpg", "a/_tmp/5.jpg")
    write_tree(folder, dict.fromkeys((*images, *others, *hidden), b"x"))
    notes = Notes()
    images_read = [tree.key(name) for tree in walk_images(folder, "--x", notes) for name in tree.files]
    assert images_read == ["_DSC1.JPG", "scan.tiff", "a/1.jpg", "a/b/2.png"]
    (note,) = notes.all()
    assert "2 files" in note
    assert "a/readme.txt" in note
    assert "Thumbs.db" in note


def test_no_images_is_an_error(folder: str) -> None:
    write_tree(folder, {"a/readme.txt": b"x"})
    for look in (lambda: check_images(folder, "--x"), lambda: list(walk_images(folder, "--x", Notes()))):
        with pytest.raises(ConfigurationError, match=r"--x: no images at .*\.jpg.*\.avif, \.heic, \.heif"):
            look()


def test_anything_but_a_folder_is_an_error(folder: str) -> None:
    write_tree(folder, {"a.jpg": b"x"})
    with pytest.raises(ConfigurationError, match=r"--x: .*a\.jpg is a file"):
        check_images(f"{folder}/a.jpg", "--x")
    with pytest.raises(ConfigurationError, match=r"--x: .*absent.*does not exist"):
        check_images(f"{folder}/absent", "--x")


def test_only_local_folders_and_s3_hold_images() -> None:
    with pytest.raises(ConfigurationError, match=r"--x: memory://a: images are read from"):
        check_images("memory://a", "--x")


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write_tree(tmp_path / "root", {"a/1.jpg": b"1"})
    write_tree(tmp_path / "elsewhere", {"2.jpg": b"2"})
    (tmp_path / "root" / "a" / "up").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "a" / "self").symlink_to(tmp_path / "root" / "a")
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "elsewhere")
    files = [folder.key(name) for folder in walk(str(tmp_path / "root"), "--x") for name in folder.files]
    assert files == ["a/1.jpg", "linked/2.jpg"]


def test_names_that_are_not_text_are_noted(tmp_path: Path) -> None:
    write_tree(tmp_path, {"good.jpg": b"x"})
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xffd.jpg")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    notes = Notes()
    assert [folder.files for folder in walk_images(str(tmp_path), "--x", notes)] == [("good.jpg",)]
    assert "1 images" in notes.all()[0]
    assert "UTF-8" in notes.all()[0]
