"""Links to folders: whatever is behind them is listed, each real file once."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.preparation.readers.base import Notes
from pipelines.preparation.readers.walk import walk_images
from pipelines.storage.walk import walk


def walked(root: Path) -> list[str]:
    return [folder.key(name) for folder in walk(str(root), "--photos") for name in folder.files]


def listed(root: Path) -> list[str]:
    return [str(Path(file).relative_to(root)) for file in storage.list_files(str(root), follow_links=True)]


BOTH = pytest.mark.parametrize("find", [walked, listed])


def make(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(file)
    return root


@BOTH
def test_a_link_to_a_folder_is_read_under_its_own_name(
    tmp_path: Path, find: Callable[[Path], list[str]]
) -> None:
    root = make(tmp_path / "root", "b/1.jpg")
    make(tmp_path / "elsewhere", "2.jpg", "deep/3.jpg")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "file.jpg").symlink_to(tmp_path / "elsewhere" / "2.jpg")
    assert sorted(find(root)) == ["b/1.jpg", "file.jpg", "link/2.jpg", "link/deep/3.jpg"]
    (tmp_path / "named").symlink_to(root)
    assert find(tmp_path / "named") == find(root)


@BOTH
def test_a_folder_that_is_read_anyway_keeps_its_own_names_and_links_to_it_are_counted(
    tmp_path: Path, find: Callable[[Path], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """Names become ids: a new link must not rename images. Its name's place in the alphabet does not matter."""
    root = make(tmp_path / "root", "m/1.jpg", "m/deep/2.jpg")
    for name, target in {"a": "m", "z": "m", "m/up": "", "m/deep/self": "m/deep", "b": "m/deep"}.items():
        (root / name).symlink_to(root / target)
    assert find(root) == ["m/1.jpg", "m/deep/2.jpg"]
    notes = caplog.messages
    if find is walked:
        list(walk(str(root), "--photos", notes.append))
    (told,) = notes
    assert "5 links" in told
    assert "not followed again" in told
    assert str(root / "a") in told


@BOTH
def test_hidden_folders_are_read_through_links_alone(
    tmp_path: Path, find: Callable[[Path], list[str]]
) -> None:
    """As Kubernetes mounts volumes: data -> ..data/data, ..data -> ..2026_11_29."""
    root = make(tmp_path / "root", "..2026_11_29/data/1.jpg", ".git/2.jpg", "_tmp/3.jpg")
    (root / "..data").symlink_to("..2026_11_29")
    (root / "data").symlink_to("..data/data")
    assert find(root) == ["data/1.jpg"]


@BOTH
def test_what_lies_around_a_folder_is_read_without_it(
    tmp_path: Path, find: Callable[[Path], list[str]]
) -> None:
    root = make(tmp_path / "all" / "root", "1.jpg")
    make(tmp_path / "all", "other/2.jpg")
    (root / "up").symlink_to(tmp_path / "all")
    assert find(root) == ["1.jpg", "up/other/2.jpg"]


@BOTH
def test_a_link_to_itself_is_refused_by_name(tmp_path: Path, find: Callable[[Path], list[str]]) -> None:
    root = make(tmp_path / "root", "1.jpg")
    (root / "turns").symlink_to(root / "turns")
    with pytest.raises((ConfigurationError, OSError), match=r"root/turns"):
        find(root)


@BOTH
@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_not_left_out(
    tmp_path: Path, find: Callable[[Path], list[str]]
) -> None:
    root = make(tmp_path / "root", "1.jpg", "shut/2.jpg")
    (root / "shut").chmod(0)
    try:
        with pytest.raises((ConfigurationError, OSError), match="shut"):
            find(root)
    finally:
        (root / "shut").chmod(0o755)


def test_who_removes_what_is_listed_does_not_come_to_other_places(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "1.jpg", "a/2.jpg")
    make(tmp_path / "elsewhere", "3.jpg")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    assert storage.list_files(str(root)) == [str(root / "1.jpg"), str(root / "a/2.jpg")]


NAMES = st.sampled_from(["a", "b", "c", ".h", "_p"])
PLACES = st.lists(NAMES, max_size=3).map("/".join)


@settings(max_examples=80, deadline=None)
@given(folders=st.lists(PLACES, max_size=6), links=st.dictionaries(PLACES, PLACES, max_size=5))
def test_every_folder_that_can_be_reached_is_read_once(
    tmp_path_factory: pytest.TempPathFactory, folders: list[str], links: dict[str, str]
) -> None:
    top = tmp_path_factory.mktemp("tree")
    root = top / "a"  # so that links may lead beside it and above it
    root.mkdir()
    for folder in folders:
        (top / folder).mkdir(parents=True, exist_ok=True)
    for place, target in links.items():
        if (top / place).parent.is_dir() and not os.path.lexists(top / place) and (top / target).is_dir():
            (top / place).symlink_to(top / target)
    for folder, _, _ in [*os.walk(top)]:
        (Path(folder) / "x.jpg").touch()
    reached, waiting = set(), [root.resolve()]
    while waiting:
        folder = waiting.pop()
        if folder not in reached:
            reached.add(folder)
            waiting += [
                one.resolve()
                for one in folder.iterdir()
                if one.is_dir() and not one.name.startswith((".", "_"))
            ]
    for find in (walked, listed):
        found = [(root / file).resolve().parent for file in find(root)]
        assert sorted(found) == sorted(reached)


def test_a_note_tells_of_the_links_that_are_not_followed(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "a/1.jpg")
    (root / "again").symlink_to(root / "a")
    notes = Notes()
    assert [folder.parts for folder in walk_images(str(root), "--photos", notes)] == [("a",)]
    (note,) = notes.all()
    assert note.startswith("--photos: 1 links to folders")


def test_a_link_that_leads_nowhere_is_no_folder_that_is_empty(tmp_path: Path) -> None:
    """Such as to a disk that is not mounted. An editor's lock is a link like that, hidden."""
    root = make(tmp_path / "root", "1.jpg")
    (root / ".#1.jpg").symlink_to("somebody@somewhere.1234")
    assert walked(root) == ["1.jpg"]
    (root / "shop").symlink_to(tmp_path / "mnt" / "shop")
    with pytest.raises(ConfigurationError, match=r"--photos: .*root/shop is a link.*mnt/shop.*mounted"):
        list(walk(str(root), "--photos"))


def test_an_image_that_is_a_link_to_nowhere_is_that_images_failure(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "1.jpg")
    (root / "2.jpg").symlink_to(tmp_path / "gone.jpg")
    assert walked(root) == ["1.jpg", "2.jpg"]
