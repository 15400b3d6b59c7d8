import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from model.errors import RunError
from pipelines.cluster import preconditions
from tests.other_user import USER, command_of_other_user
from tests.processes import PATIENCE

START = """
import os, sys
from model.errors import RunError
from pipelines.cluster import session
try:
    getattr(session, sys.argv[1])()
except RunError as error:
    sys.exit(f"refused: {error}")
print([os.environ.get(name) for name in ("RAY_TMPDIR", "HOME")], "RAY_AUTH_TOKEN" in os.environ)
session.stop()
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preconditions, "HEAD_SECONDS", 1.0)


@pytest.fixture
def listener() -> Iterator[str]:
    """Yield host:port of a server that accepts connections and never answers, like a machine that hangs."""
    # On all addresses: Ray uses another one of this machine than it was given.
    with socket.create_server(("", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def _closed() -> str:
    """Return host:port where nothing listens."""
    with socket.create_server(("", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_a_head_that_is_gone_is_reported_within_seconds(prefix: str) -> None:
    address = f"{prefix}{_closed()}"
    with pytest.raises(RunError, match=rf"^RAY_ADDRESS {address}.*: .*refused.*unset it"):
        preconditions.check_head(address)


def test_a_server_that_does_not_answer_is_not_a_head(listener: str) -> None:
    with pytest.raises(RunError, match=rf"^RAY_ADDRESS {listener}.*: .*no Ray head"):
        preconditions.check_head(listener)


@pytest.mark.parametrize("address", ["nonsense", "ray://host:port"])
def test_an_invalid_address_is_named(address: str) -> None:
    with pytest.raises(RunError, match=rf"^RAY_ADDRESS {address}: "):
        preconditions.check_head(address)


def test_a_stale_address_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    head = _closed()
    monkeypatch.setattr(preconditions.ray_internals, "head_address", lambda address: head)
    with pytest.raises(RunError, match=rf"^RAY_ADDRESS auto, which is {head}.*ray_current_cluster"):
        preconditions.check_head("auto")


def test_no_running_ray_is_reported_with_the_file_that_was_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(address: str) -> str:
        raise ConnectionError("Ray's advice of several lines")

    monkeypatch.setattr(preconditions.ray_internals, "head_address", find)
    with pytest.raises(RunError, match=r"^RAY_ADDRESS auto: no Ray runs.*ray_current_cluster"):
        preconditions.check_head("auto")


def test_a_server_that_answers_is_a_head_and_local_is_not() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("0.0.0.0:0")
    server.start()
    try:
        assert preconditions.check_head(f"127.0.0.1:{port}")
    finally:
        server.stop(None).wait()
    assert not preconditions.check_head("local")


def test_a_wrong_address_of_this_machine_is_named() -> None:
    with pytest.raises(RunError, match=r"192\.0\.2\.1.*etc/hosts"):
        preconditions.check_own_network("192.0.2.1")  # RFC 5737: never assigned
    preconditions.check_own_network("127.0.0.1")
    addresses = Path("/proc/net/if_inet6")
    if addresses.exists() and f"{1:032x}" in addresses.read_text():
        preconditions.check_own_network("::1")


def test_a_machine_without_a_network_is_reported_within_a_minute(repository: Path) -> None:
    """Even loopback is down, as in a new network namespace."""
    unshare = shutil.which("unshare")
    alone = [str(unshare), "--net", *(["--map-root-user"] if os.geteuid() else [])]
    if unshare is None or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("creating a network namespace is not allowed here")
    began = time.monotonic()
    done = _run([*alone, sys.executable, "-c", START, "start"], repository)
    assert time.monotonic() - began < 60
    assert done.returncode == 1
    assert "refused: " in done.stderr
    assert "loopback" in done.stderr


@pytest.fixture
def foreign() -> Iterator[Path]:
    """Yield a folder like /tmp, with a short name, in which another user has created `ray`."""
    folder = Path(tempfile.mkdtemp(prefix="ray-tmp-"))
    (folder / "ray").mkdir(mode=0o755)
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.ray
@pytest.mark.parametrize(("home", "token"), [("/", True), (None, False)])
def test_ray_starts_for_a_user_without_name_or_home_beside_another_users_ray(
    home: str | None, token: bool, foreign: Path, repository: Path
) -> None:
    own = str(foreign / f"ray-{USER}")
    line = command_of_other_user(sys.executable, "-c", START, "start")
    done = _run(line, repository, TMPDIR=str(foreign), HOME=home, RAY_TMPDIR=None)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{[own, home or own]} {token}\n"
    assert Path(own).stat().st_mode & 0o777 == 0o700


def test_a_named_folder_that_is_not_writable_is_reported(foreign: Path, repository: Path) -> None:
    line = command_of_other_user(sys.executable, "-c", START, "check")
    done = _run(line, repository, RAY_TMPDIR=str(foreign))
    assert done.returncode == 1
    assert f"refused: RAY_TMPDIR {foreign}: user {USER} cannot write" in done.stderr


@pytest.mark.parametrize("spoil", [lambda path: path.chmod(0o777), lambda path: path.rmdir() or path.touch()])
def test_an_own_folder_that_others_may_write_is_not_used(
    spoil: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preconditions, "_SHARED", ())
    own = preconditions._own_folder(tmp_path / "ray")
    assert own == tmp_path / f"ray-{os.getuid()}"
    assert preconditions._own_folder(tmp_path / "ray") == own
    spoil(own)
    with pytest.raises(RunError, match="RAY_TMPDIR"):
        preconditions._own_folder(tmp_path / "ray")


def _run(line: list[str], repository: Path, **environment: str | None) -> "subprocess.CompletedProcess[str]":
    """Run a command. environment: variables to add to this process's; None removes one."""
    plain = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", *environment)}
    given = {name: value for name, value in environment.items() if value is not None}
    return subprocess.run(
        line,
        env={**plain, **given, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
