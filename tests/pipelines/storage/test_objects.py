import errno
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipelines import storage
from tests.object_store import SCRIPTS


def test_writing_again_replaces_the_content(folder: str) -> None:
    uri = storage.join(folder, "image.jpg")
    for data in (b"first", b"second", b"second", b""):
        storage.write_bytes(uri, data)
        assert storage.read_bytes(uri) == data
    assert storage.list_files(folder) == [uri]


def test_a_limit_reads_the_beginning(folder: str) -> None:
    uri = storage.join(folder, "file")
    storage.write_bytes(uri, b"0123456789")
    assert storage.read_bytes(uri, limit=4) == b"0123"
    assert storage.read_bytes(uri, limit=100) == b"0123456789"
    storage.write_bytes(uri, b"")
    assert storage.read_bytes(uri, limit=4) == b""
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(uri + "-absent", limit=4)
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(uri + "-absent")


def test_changes_by_another_process_are_seen(folder: str) -> None:
    uri = storage.join(folder, "file")
    assert storage.list_files(folder) == []  # nothing of this may be remembered
    script = "import sys; from pipelines import storage; storage.write_bytes(sys.argv[1], b'theirs')"
    subprocess.run([Path(os.sys.executable), "-c", script, uri], check=True)
    assert storage.list_files(folder) == [uri]
    assert storage.exists(uri)
    assert storage.read_bytes(uri) == b"theirs"


def test_a_failed_local_write_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.mkdir()  # a rename onto a folder fails
    with pytest.raises(OSError):  # noqa: PT011 (which one depends on the platform)
        storage.write_bytes(str(target), b"data")
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_local_copy_keeps_its_content_and_leaves_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    one, other = str(tmp_path / "a"), str(tmp_path / "copies" / "a")
    storage.write_bytes(one, b"1")
    storage.copy(one, other)
    storage.copy(one, other)  # as after an interruption
    storage.write_bytes(one, b"2")
    assert (storage.read_bytes(one), storage.read_bytes(other)) == (b"2", b"1")
    storage.copy(one, other)
    assert storage.read_bytes(other) == b"2"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a", "a"]


def test_local_files_get_usual_permissions_and_long_names(tmp_path: Path) -> None:
    name = "n" * 255
    storage.write_bytes(str(tmp_path / name), b"data")
    plain = tmp_path / "plain"
    plain.write_bytes(b"data")
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_file_uris_are_percent_decoded_and_paths_are_not(tmp_path: Path) -> None:
    for name in ("my photo::1.jpg", "my%20photo::1.jpg"):
        (tmp_path / name).write_text(name)
        assert storage.read_bytes((tmp_path / name).as_uri()) == name.encode()
        assert storage.version((tmp_path / name).as_uri()) == storage.version(str(tmp_path / name))
        assert storage.is_local((tmp_path / name).as_uri())
    assert storage.read_bytes(f"FILE:{tmp_path}/my%20photo::1.jpg") == b"my photo::1.jpg"
    plain = tmp_path / "a%20b.jpg"
    storage.write_bytes(str(plain), b"plain")
    assert plain.read_bytes() == storage.read_bytes(str(plain)) == b"plain"


def test_the_stop_script_spares_other_processes(tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "s3").mkdir()
        (tmp_path / "s3" / "pid").write_text(
            f"{bystander.pid} 1 18333\n"
        )  # a process id that was given away since
        subprocess.run([SCRIPTS / "s3-down.sh", tmp_path / "s3"], check=True)
        assert bystander.poll() is None
        assert not (tmp_path / "s3").exists()
    finally:
        bystander.kill()
        bystander.wait()


def test_a_version_is_another_once_the_content_is(tmp_path: Path) -> None:
    uri = str(tmp_path / "a")
    Path(uri).write_bytes(b"one")
    os.utime(uri, (1, 1))
    before = storage.version(uri)
    assert before == storage.version(uri)
    Path(uri).write_bytes(b"two")
    assert storage.version(uri) != before
    with pytest.raises(FileNotFoundError):
        storage.version(str(tmp_path / "b"))


def test_the_version_of_an_object_is_its_tag(s3_folder: str) -> None:
    uri = storage.join(s3_folder, "versioned")
    versions = []
    for content in (b"one", b"two", b"one"):
        storage.write_bytes(uri, content)
        versions.append(storage.version(uri))
    assert versions[0] == versions[2] != versions[1]
    assert re.fullmatch(r"etag:[^\"]+:3", versions[0])


@pytest.mark.parametrize("same", [True, False])
def test_a_local_file_can_be_written_through_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    """Also where that is on another file system, from which nothing can be renamed."""
    through, moved = tmp_path / "through", []

    def replace(self: Path, target: Path, rename: Any = Path.replace) -> Any:
        moved.append(self.parent.name)
        if self.parent == through and not same:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    storage.write_bytes(str(tmp_path / "images" / "a"), b"new", str(through))
    assert moved == ["through"] if same else ["through", "images"]
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"a"}
    assert (tmp_path / "images" / "a").read_bytes() == b"new"
