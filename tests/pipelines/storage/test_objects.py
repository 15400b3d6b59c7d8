import errno
import os
import pickle
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ConfigurationError
from pipelines.storage import objects as storage
from pipelines.storage import s3
from tests.object_store import SCRIPTS, s3_environment


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that does not exist yet, on each kind of storage."""
    return str(tmp_path / "new") if request.param == "local" else request.getfixturevalue("s3_folder")


def test_what_is_written_is_read_and_listed(folder: str) -> None:
    names = [
        "b/2.parquet",
        "a/1.parquet",
        "a/ü %41#[x]*.parquet",
        "a/notes.txt",
        "_SUCCESS",
        "a/.hidden",
        "_x/3.parquet",
    ]
    assert not storage.exists(folder)
    assert storage.list_files(folder) == []
    for name in names:
        storage.write_bytes(storage.join(folder, name), name.encode())
    assert storage.list_files(folder, ".parquet") == [
        storage.join(folder, name) for name in ("a/1.parquet", "a/ü %41#[x]*.parquet", "b/2.parquet")
    ]
    assert storage.list_files(folder + "/") == storage.list_files(folder)
    assert storage.list_files(storage.join(folder, "_SUCCESS")) == [storage.join(folder, "_SUCCESS")]
    assert storage.exists(folder)
    for name in names:
        assert storage.read_bytes(storage.join(folder, name)) == name.encode()


def test_folders_and_their_markers_are_no_files(s3_folder: str, tmp_path: Path) -> None:
    fs, path = storage.resolve(s3_folder)
    fs.pipe_file(path + "/sub/", b"")  # as the AWS console makes folders
    assert storage.list_files(s3_folder) == []
    storage.write_bytes(s3_folder + "/sub/file", b"x")
    assert storage.list_files(s3_folder) == [s3_folder + "/sub/file"]
    assert [p.name for p in storage.fetch_folder(s3_folder, tmp_path).rglob("*")] == ["sub", "file"]


def test_a_listing_stops_at_the_folders_end(folder: str) -> None:
    storage.write_bytes(folder + "/x", b"1")
    storage.write_bytes(folder + "-old/x", b"2")
    assert storage.list_files(folder) == [folder + "/x"]


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
    script = "import sys; from pipelines.storage import objects as storage; storage.write_bytes(sys.argv[1], b'theirs')"
    subprocess.run([Path(os.sys.executable), "-c", script, uri], check=True)
    assert storage.list_files(folder) == [uri]
    assert storage.exists(uri)
    assert storage.read_bytes(uri) == b"theirs"


def test_arrow_sees_the_same_place_also_after_a_pickle(folder: str) -> None:
    table = pa.table({"image_id": ["a", "b"]})
    fs, path = pickle.loads(pickle.dumps(storage.arrow_filesystem(storage.join(folder, "part.parquet"))))
    fs.create_dir(path.rsplit("/", 1)[0])
    pq.write_table(table, path, filesystem=fs)
    assert storage.list_files(folder, ".parquet") == [storage.join(folder, "part.parquet")]
    assert pq.read_table(path, filesystem=fs).equals(table)


def test_a_folder_is_fetched_whole(folder: str, tmp_path: Path) -> None:
    for name in ("config.json", "nested/weights"):
        storage.write_bytes(storage.join(folder, name), name.encode())
    fetched = storage.fetch_folder(folder, tmp_path / "copy")
    assert {str(p.relative_to(fetched)): p.read_text() for p in fetched.rglob("*") if p.is_file()} == {
        "config.json": "config.json",
        "nested/weights": "nested/weights",
    }


def test_fetching_nothing_is_a_configuration_error(s3_folder: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nothing at"):
        storage.fetch_folder(s3_folder, tmp_path / "copy")


def test_existing_places_pass_the_checks(folder: str) -> None:
    storage.check_writable(folder, "--output")
    assert storage.list_files(folder) == []
    assert storage.list_files(storage.join(folder, ".write-check")) == []
    for name in ("file", "empty"):
        storage.write_bytes(storage.join(folder, name), b"x" if name == "file" else b"")
        storage.check_readable(storage.join(folder, name), "--catalog")
    storage.check_readable(folder, "--catalog")


def complaint(check: object, uri: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        check(uri, "--flag")  # type: ignore[operator]
    message = str(caught.value)
    assert message.startswith("--flag: ")
    assert "\n" not in message
    return message


def test_a_missing_path_is_named_with_its_flag(folder: str) -> None:
    message = complaint(storage.check_readable, storage.join(folder, "absent"))
    assert "absent: it does not exist" in message


def test_wildcards_that_nobody_expands_are_told(tmp_path: Path) -> None:
    message = complaint(storage.check_readable, str(tmp_path / "*.parquet"))
    assert "it does not exist; wildcards are not expanded here: name the file, or its folder" in message
    (tmp_path / "a[1].parquet").touch()
    storage.check_readable(str(tmp_path / "a[1].parquet"), "--photos")


def test_a_missing_bucket_is_a_configuration_error(s3_server: str) -> None:
    for check in (storage.check_readable, storage.check_writable):
        assert "check the bucket" in complaint(check, "s3://no-such-bucket/folder")


@pytest.mark.parametrize(
    ("variables", "remedy"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "AWS_ACCESS_KEY_ID"),
        (
            {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "AWS_EC2_METADATA_DISABLED": "true"},
            "credentials",
        ),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "127.0.0.1"}, "AWS_ENDPOINT_URL"),
        ({"AWS_PROFILE": "no-such-profile"}, "no-such-profile"),
    ],
)
def test_wrong_access_is_a_configuration_error_with_a_remedy(
    s3_folder: str,
    tmp_path: Path,
    variables: dict[str, str | None],
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3, "IMPATIENCE", 0.3)
    nowhere = {
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }
    with s3_environment(**nowhere, **variables):
        assert remedy in complaint(storage.check_readable, s3_folder)
        assert remedy in complaint(storage.check_writable, s3_folder)


def test_an_output_below_a_file_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "a file stands where a folder is needed" in complaint(
        storage.check_writable, str(tmp_path / "file")
    )


@pytest.mark.parametrize("uri", ["", "  ", "nosuchscheme://x/y"])
def test_what_no_storage_serves_is_a_configuration_error(uri: str) -> None:
    assert "s3:// URI" in complaint(storage.check_readable, uri)
    with pytest.raises(ConfigurationError):
        storage.resolve(uri)


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


def test_local_uris_become_absolute_and_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("some/folder") == str(tmp_path / "some" / "folder")
    assert storage.absolute(f"file://{tmp_path}/x") == str(tmp_path / "x")
    assert storage.absolute(f"file://localhost{tmp_path}/x%20y/") == str(tmp_path / "x y")
    assert storage.absolute("~/x") == str(Path.home() / "x")
    assert storage.absolute("memory://a/b") == storage.absolute("memory://a/b/") == "memory://a/b"
    assert storage.is_local("x")
    assert not storage.is_local("memory://a")


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
    assert "this machine" in complaint(storage.check_readable, "file://server/photo.jpg")


@given(st.lists(st.text("ab/", min_size=1, max_size=4), min_size=1, max_size=4))
def test_joined_parts_have_single_slashes_between(parts: list[str]) -> None:
    joined = storage.join("s3://bucket/", *parts)
    assert joined.startswith("s3://bucket/")
    assert joined.count("/") == 2 + len(parts) + sum(part.strip("/").count("/") for part in parts)


def test_workers_get_what_decides_about_storage_and_nothing_else() -> None:
    environment = {
        "AWS_ENDPOINT_URL": "u",
        "AWS_PROFILE": "p",
        "FSSPEC_GS_PROJECT": "g",
        "HOME": "/",
        "AWS_OTHER": "x",
    }
    expected = {"AWS_ENDPOINT_URL": "u", "AWS_PROFILE": "p", "FSSPEC_GS_PROJECT": "g"}
    assert storage.worker_environment(environment) == expected


@pytest.mark.ray
def test_a_file_system_works_in_ray_workers(s3_folder: str, ray_local: None) -> None:
    import ray

    fs, path = storage.resolve(s3_folder)
    assert storage.list_files(s3_folder) == []

    @ray.remote(runtime_env={"env_vars": storage.worker_environment()})
    def write(fs: object, path: str, uri: str) -> bytes:
        fs.pipe_file(path + "/by-pickle", b"1")  # type: ignore[attr-defined]
        storage.write_bytes(uri + "/by-uri", b"2")
        return storage.read_bytes(uri + "/by-pickle")

    assert ray.get(write.remote(fs, path, s3_folder)) == b"1"
    assert storage.list_files(s3_folder) == [s3_folder + "/by-pickle", s3_folder + "/by-uri"]
    assert storage.read_bytes(s3_folder + "/by-uri") == b"2"


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
