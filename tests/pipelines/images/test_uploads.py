import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

import pyarrow as pa
import pytest

from pipelines import storage
from pipelines.images import uploads
from pipelines.images.allowed_uris import AllowedUris
from pipelines.images.decode import ImageError
from pipelines.images.uploads import read_image
from pipelines.storage import s3
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
    assert code(uri, max_bytes=99) == "too_many_bytes"
    storage.write_bytes(uri, b"")
    assert read_image(uri) == b""


def test_a_missing_image_has_the_code_missing(folder: str) -> None:
    assert code(storage.join(folder, "absent.jpg")) == "missing"


def test_a_file_uri_is_percent_decoded_and_a_path_is_not(tmp_path: Path) -> None:
    photo, literal = tmp_path / "my photo.jpg", tmp_path / "my%20photo.jpg"
    photo.write_bytes(b"photo")
    allowed = AllowedUris((tmp_path.as_uri(),))
    for uri in (photo.as_uri(), f"file://localhost{photo}"):
        assert read_image(uri) == uploads.read_upload(uri, allowed) == b"photo"
        assert uploads.input_version(uri, allowed) == storage.version(str(photo))
    assert code(str(literal)) == "missing"
    literal.write_bytes(b"literal")
    assert read_image(str(literal)) == uploads.read_upload(str(literal), allowed) == b"literal"
    assert read_image(photo.as_uri()) == b"photo"


def test_a_name_that_is_not_valid_text_has_a_message_that_is(tmp_path: Path) -> None:
    """A text column rejects invalid text, so a stranger's uri would end the run."""
    with pytest.raises(ImageError) as caught:
        uploads.read_upload(f"{tmp_path.as_uri()}/%FF.jpg", AllowedUris((str(tmp_path),)))
    assert caught.value.code == "missing"
    assert rf"{tmp_path}/\udcff.jpg" in caught.value.message
    assert pa.array([caught.value.message, str(caught.value)], pa.string()).null_count == 0


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
def test_a_uri_without_a_file_is_unreadable(uri: str, s3_server: str) -> None:
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


class Shop(BaseHTTPRequestHandler):
    """Serve a picture below /a/; some paths answer as a hostile or an overloaded server would."""

    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        Shop.requests.append(self.path)
        times = Shop.requests.count(self.path)
        status, body = {"/a/gone": (404, b""), "/a/secret": (403, b""), "/a/broken": (500, b"")}.get(
            self.path, (200, b"picture")
        )
        if self.path == "/a/tired" and times == 1:
            status = 503
        if self.path.startswith("/a/redirect"):
            status = 302
        self.send_response(status)
        if status == 302:
            self.send_header("Location", unquote(self.path.partition("?")[2]))
        self.send_header("Content-Length", str(len(body) + (self.path == "/a/cut")))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(uploads, "_HTTP_PAUSE", 0.0)
    monkeypatch.setattr(Shop, "requests", [])
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_uploads_are_read_over_http_if_that_is_allowed(shop: str) -> None:
    allowed = AllowedUris((f"{shop}/a/",))
    assert uploads.read_upload(f"{shop}/a/b.jpg", allowed) == b"picture"
    assert uploads.read_upload(f"{shop}/a/tired", allowed) == b"picture"
    expected = {
        "a/gone": "missing",
        "a/secret": "forbidden",
        "a/broken": "unreadable",
        "a/cut": "unreadable",
        "b/b.jpg": "uri_not_allowed",
    }
    for path, wanted in expected.items():
        with pytest.raises(ImageError) as caught:
            uploads.read_upload(f"{shop}/{path}", allowed)
        assert (path, caught.value.code) == (path, wanted)
    with pytest.raises(ImageError) as caught:
        uploads.read_upload(f"{shop}/a/b.jpg", allowed, max_bytes=3)
    assert caught.value.code == "too_many_bytes"
    assert "/b/b.jpg" not in Shop.requests


@pytest.mark.parametrize("to", ["/b/b.jpg", "file:///etc/passwd", "ftp://x/", "/a/c.jpg"])
def test_no_redirect_is_followed(shop: str, to: str) -> None:
    with pytest.raises(ImageError, match="redirects") as caught:
        uploads.read_upload(f"{shop}/a/redirect?{to}", AllowedUris((f"{shop}/a",)))
    assert caught.value.code == "unreadable"
    assert Shop.requests == [f"/a/redirect?{to}"]


def test_uploads_are_read_from_allowed_locations(folder: str, tmp_path: Path) -> None:
    uri = storage.join(folder, "photos", "a b.jpg")
    storage.write_bytes(uri, b"picture")
    assert uploads.read_upload(uri, AllowedUris((storage.join(folder, "photos"),))) == b"picture"
    for allowed, wanted in ((AllowedUris(), "uri_not_allowed"), (AllowedUris((folder,)), "missing")):
        with pytest.raises(ImageError) as caught:
            uploads.read_upload(storage.join(folder, "photos", "gone.jpg"), allowed)
        assert caught.value.code == wanted


@pytest.mark.parametrize("kind", ["pipe", "folder", "long name"])
def test_no_local_path_makes_reading_wait(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300 if kind == "long name" else "thing")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(ImageError) as caught:
        uploads.read_upload(str(path), AllowedUris((str(tmp_path),)))
    assert caught.value.code == "unreadable"
