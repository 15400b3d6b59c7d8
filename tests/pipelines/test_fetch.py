import os
from pathlib import Path

import pytest

from pipelines import s3, storage
from pipelines.decode import ImageError
from pipelines.fetch import read_image
from tests.object_store import s3_environment


def code(uri: str, **options: int) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(uri, **options)
    assert str(caught.value)
    return caught.value.code


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_folder")


def test_bytes_up_to_the_limit_are_read(folder: str) -> None:
    uri = storage.join(folder, "image.jpg")
    storage.write_bytes(uri, bytes(range(100)))
    assert read_image(uri) == bytes(range(100))
    assert read_image(uri, max_bytes=100) == bytes(range(100))
    assert code(uri, max_bytes=99) == "too_large"
    storage.write_bytes(uri, b"")
    assert read_image(uri) == b""


def test_what_is_missing_says_so(folder: str) -> None:
    assert code(storage.join(folder, "absent.jpg")) == "missing"


def test_a_missing_bucket_is_missing(s3_server: str) -> None:
    assert code("s3://no-such-bucket/a.jpg") == "missing"


def test_refused_access_is_forbidden(s3_folder: str) -> None:
    storage.write_bytes(s3_folder + "/a.jpg", b"x")
    with s3_environment(AWS_SECRET_ACCESS_KEY="wrong"):
        assert code(s3_folder + "/a.jpg") == "forbidden"


def test_no_connection_is_unreadable(s3_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PATIENCE", 0.2)
    with s3_environment(AWS_ENDPOINT_URL="http://127.0.0.1:9"):
        assert code(s3_folder + "/a.jpg") == "unreadable"


@pytest.mark.parametrize("uri", ["", "s3://", "a\0b", "/"])
def test_what_names_no_file_is_unreadable(uri: str, s3_server: str) -> None:
    assert code(uri) == "unreadable"


@pytest.mark.parametrize(
    "uri",
    ["nosuchscheme://a/b.jpg", "http://127.0.0.1/a.jpg", "simplecache::file:///etc/hostname", "memory://a"],
)
def test_a_row_cannot_name_other_services(uri: str) -> None:
    assert code(uri) == "scheme_not_allowed"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert code(str(tmp_path / "pipe")) == "unreadable"
