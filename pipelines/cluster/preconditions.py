"""What Ray needs before it starts, looked at within seconds: a head that answers, a network to this machine itself, and
folders that can be written. Without them Ray waits for minutes and then names something else.
"""

import contextlib
import os
import secrets
import socket
import stat
from pathlib import Path

import grpc
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from model.errors import RunError
from pipelines.cluster import ray_internals

#: Seconds for which a head that restarts is waited for.
HEAD_SECONDS = 10.0
#: Seconds in which this machine reaches itself.
_OWN_SECONDS = 5.0
#: gRPC's standard method for this question; whatever is answered, a refusal too, there is a server.
_HEALTH = "/grpc.health.v1.Health/Check"
_SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
#: Ray's client port, where an address of ray:// has none.
_CLIENT_PORT = "10001"
_LOOPBACK = "127.0.0.1"
#: Where anybody may make a folder of his own.
_SHARED = (Path("/tmp"), Path("/var/tmp"))
#: With one of them, Ray looks for no token in the user's home.
_TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_REMEDY = "see that the cluster is up, correct the variable, or unset it to run on this machine"


def check_head(address: str) -> bool:
    """Whether `address`, that of RAY_ADDRESS, names a cluster; False where it asks for a Ray of this machine.

    Raises RunError, naming the variable, where no head answers there.
    """
    if "://" in address:
        place: str | None = address.partition("://")[2].partition("/")[0]
        place = place if ":" in str(place) else f"{place}:{_CLIENT_PORT}"
    else:
        place = _find(address)
    if place is None:
        return False
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(OSError), stop=stop_after_delay(HEAD_SECONDS), wait=wait_fixed(0.5)
        ):
            with attempt:
                _ask(place, speaks_grpc="://" not in address)
    except ValueError as error:
        raise RunError(f"RAY_ADDRESS {address}: {error}; {_REMEDY}") from error
    except RetryError as error:
        raise RunError(f"{_named(address, place)}: no Ray answers ({error.__cause__}); {_REMEDY}") from error
    return True


def _find(address: str) -> str | None:
    try:
        return ray_internals.head_address(address)
    except (ConnectionError, ValueError, OSError) as error:
        why = str(error)
        if address == "auto":
            why = f"no Ray runs on this machine, and {ray_internals.address_file()} names none"
        raise RunError(f"RAY_ADDRESS {address}: {why}; {_REMEDY}") from error


def _named(address: str, place: str) -> str:
    """The variable, and what it comes to."""
    if address == "auto":
        return f"RAY_ADDRESS auto, which is {place} (see {ray_internals.address_file()})"
    # Ray takes 127.0.0.1 for this machine's address in the network.
    return f"RAY_ADDRESS {address}" + (f", which is {place}" if place not in address else "")


def _ask(place: str, speaks_grpc: bool) -> None:
    """Raise OSError where nobody answers at `place` (host:port)."""
    host, _, port = place.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=HEAD_SECONDS).close()
    if not speaks_grpc or os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return
    # A port may be another program's by now, and a head that stands still still takes connections.
    with grpc.insecure_channel(place, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_HEALTH)(b"", timeout=HEAD_SECONDS)
        except grpc.RpcError as error:
            if error.code() in _SILENT:
                raise OSError(f"what listens there is no Ray head: {error.details()}") from error


def check_own_network(node_address: str) -> None:
    """Raise RunError where this machine cannot reach itself, at 127.0.0.1 and at `node_address`, Ray's name for it."""
    for host in dict.fromkeys((_LOOPBACK, node_address)):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.create_server((host, 0), family=family) as server:
                socket.create_connection(server.getsockname()[:2], timeout=_OWN_SECONDS).close()
        except OSError as error:
            remedy = (
                "bring the loopback interface up (`ip link set lo up`)"
                if host == _LOOPBACK
                else "correct this machine's entry in /etc/hosts, or its firewall"
            )
            raise RunError(
                f"Ray's processes talk over this machine's network, and it does not reach itself at {host}: {error}; "
                f"{remedy}; the jobs that have --workers run without Ray with --workers 0"
            ) from error


def settle_home() -> None:
    """Give a user who has neither HOME nor a name a home: parts of Ray cannot be imported without."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(_own_folder(ray_internals.temporary_folder()))


def settle_folders() -> None:
    """Set Ray's variables where its own places cannot be written: a home that is nobody's, another user's /tmp/ray.

    Leaves what the user has set. Raises RunError, naming the variable, where there is no place at all.
    """
    place = ray_internals.temporary_folder()
    if not _is_writable(place):
        if "RAY_TMPDIR" in os.environ:
            raise RunError(
                f"RAY_TMPDIR {os.environ['RAY_TMPDIR']}: user {os.getuid()} cannot write {place}; name another "
                "folder, with a short path"
            )
        os.environ["RAY_TMPDIR"] = str(_own_folder(place))
    if not any(os.environ.get(name) for name in _TOKEN_VARIABLES) and not _holds_token(Path.home() / ".ray"):
        # For this run's Ray alone: its processes inherit it.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _own_folder(place: Path) -> Path:
    """A folder of this user's alone, instead of `place` and near it. Raises RunError."""
    for base in (place.parent, *_SHARED):
        folder = base / f"ray-{os.getuid()}"
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
            # Where all may write, somebody else may have made it, and would read what lies in it.
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
                return folder
    raise RunError(
        f"user {os.getuid()} cannot write {place}, where Ray keeps its sockets and logs; name a folder in RAY_TMPDIR, "
        "with a short path"
    )


def _holds_token(folder: Path) -> bool:
    """Whether Ray can read its token in `folder`, or make one there."""
    token = folder / "auth_token"
    return os.access(token, os.R_OK) or (not os.access(token, os.F_OK) and _is_writable(folder))


def _is_writable(folder: Path) -> bool:
    """Whether this user can make files in `folder`, which need not be there yet."""
    there = next((place for place in (folder, *folder.parents) if os.access(place, os.F_OK)), folder)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
