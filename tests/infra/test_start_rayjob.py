"""The script that starts a job on Kubernetes, against a stand-in for the API server."""

import json
import logging
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import certifi
import pytest

from tests.infra.rendered import Object, one, start_rayjob

BASE = "/apis/ray.io/v1/namespaces/catalog-repair"


class Cluster(ThreadingHTTPServer):
    """Keeps objects by their paths, and refuses strangers and names that are taken, as the API server does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, Object] = {}
        self.created = 0


class Handler(BaseHTTPRequestHandler):
    server: Cluster

    def do_GET(self) -> None:
        there = self.server.objects.get(self.path)
        self.answer(200 if there else 404, there or {"message": "not found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = f"{self.path}/{body['metadata']['name']}"
        if path in self.server.objects:
            return self.answer(409, {"message": "exists"})
        self.server.objects[path] = body
        self.server.created += 1
        return self.answer(201, body)

    def answer(self, code: int, content: dict[str, Any]) -> None:
        if self.headers["Authorization"] != "Bearer the-token":
            code, content = 401, {"message": "unauthorized"}
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster with the nightly's definition, which the script takes for its own."""
    server = Cluster()
    server.objects[f"{BASE}/raycronjobs/nightly-correction"] = one(
        "kueue", "RayCronJob", "nightly-correction"
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    (tmp_path / "namespace").write_text("catalog-repair")
    (tmp_path / "token").write_text("the-token\n")
    shutil.copy(certifi.where(), tmp_path / "ca.crt")
    monkeypatch.setattr(start_rayjob(), "SERVER", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(start_rayjob(), "ACCOUNT", tmp_path)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def run(monkeypatch: pytest.MonkeyPatch, job: str, uid: str, definition: str = "nightly-correction") -> int:
    monkeypatch.setenv("JOB_NAME", job)
    monkeypatch.setenv("JOB_UID", uid)
    monkeypatch.setattr("sys.argv", ["start_rayjob.py", definition])
    code: int = start_rayjob().main()
    return code


def test_the_rayjob_is_what_the_definition_says(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "nightly-correction-29402760", "u1") == 0
    definition = one("kueue", "RayCronJob", "nightly-correction")
    rayjob = cluster.objects[f"{BASE}/rayjobs/ray-nightly-correction-29402760"]
    assert (rayjob["apiVersion"], rayjob["kind"]) == ("ray.io/v1", "RayJob")
    assert rayjob["spec"] == definition["spec"]["jobTemplate"]
    assert rayjob["metadata"]["labels"] == definition["metadata"]["labels"]  # by which Kueue knows its queue


def test_a_pods_second_try_creates_nothing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one's answer may have been lost after the RayJob was there."""
    assert run(monkeypatch, "now", "u1") == 0
    assert run(monkeypatch, "now", "u1") == 0
    assert cluster.created == 1


@pytest.mark.parametrize(
    ("job", "definition", "reason"),
    [
        ("now", "nightly-correction", "an earlier Job has created the RayJob ray-now: delete it"),
        # KubeRay's own Job, which submits, has this name where the Job is `now`.
        ("ray-now", "nightly-correction", "no RayJob can be named after the Job ray-now"),
        ("n" * 44, "nightly-correction", "at most 43 characters"),
        ("later", "nightly", "raycronjobs/nightly answered 404"),
    ],
)
def test_a_job_that_cannot_start_fails_with_the_reason(
    job: str,
    definition: str,
    reason: str,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert run(monkeypatch, "now", "u1") == 0
    caplog.set_level(logging.INFO)
    assert run(monkeypatch, job, "u2", definition) == 1
    assert reason in caplog.text
    assert cluster.created == 1


def test_without_a_server_it_fails_with_the_reason(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(start_rayjob(), "SERVER", "http://127.0.0.1:1")
    assert run(monkeypatch, "now", "u1") == 1
    assert "refused" in caplog.text
