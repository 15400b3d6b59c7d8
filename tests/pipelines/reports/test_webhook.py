"""The webhook is a stranger's server and its URL a secret."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from pipelines.reports.webhook import is_webhook, post

SECRET = "T0KEN-of-a-channel"


@contextlib.contextmanager
def server(status: int = 200) -> Iterator[tuple[str, list[Any]]]:
    """A webhook on this machine: its URL, and the bodies that it got."""
    bodies: list[Any] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            bodies.append({"type": self.headers["Content-Type"], **json.loads(data)})
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "/login")
            self.end_headers()

        def do_GET(self) -> None:  # where urllib would follow a redirect to
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hook) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}/services/{SECRET}", bodies
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [301, 302, 303, 307])
def test_a_redirect_delivers_nothing(status: int) -> None:
    with server(status) as (url, _):
        assert not post(url, {"text": "lost"})


def test_a_message_arrives_as_json() -> None:
    with server() as (url, bodies):
        assert post(url, {"text": "ä", "exit_code": 1})
    assert bodies == [{"type": "application/json", "text": "ä", "exit_code": 1}]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_webhook_that_refuses_is_a_warning_without_the_url(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with server(status) as (url, _):
        assert not post(url, {"text": "x"})
    assert f"status {status}" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1:9/{SECRET}",
        f"http://nowhere.invalid/{SECRET}",
        f"http://127.0.0.1:9/{SECRET}\x01",
        f"http://127.0.0.1:99999/{SECRET}",
        f"http://[::1/{SECRET}",
    ],
)
def test_a_webhook_that_is_not_there_is_a_warning_without_the_url(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    assert not post(url, {"text": "x"}, seconds=5)
    assert "nobody was notified" in caplog.text
    assert SECRET not in caplog.text


def test_what_can_be_posted_to_is_http_with_a_host() -> None:
    assert is_webhook("https://hooks.example.com/services/T/B/x")
    for wrong in (
        "",
        "hooks.example.com/x",
        "file:///etc/passwd",
        "https:///x",
        "http://[::1",
        "https://a b",
    ):
        assert not is_webhook(wrong)
