"""Checks within seconds what Ray needs to start: a head that answers, a network to this machine, and writable folders.

Without these, Ray waits for minutes and then reports a different problem.
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

#: Seconds to wait for a head that restarts.
HEAD_SECONDS = 10.0
#: Seconds to wait for a connection of this machine to itself.
_OWN_SECONDS = 5.0
#: gRPC's standard health check. Any answer, even a refusal, proves that there is a server.
_HEALTH = "/grpc.health.v1.Health/Check"
_SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
#: Ray's client port, used if an address of ray:// has none.
_CLIENT_PORT = "10001"
_LOOPBACK = "127.0.0.1"
#: Folders in which every user may create a folder.
_SHARED = (Path("/tmp"), Path("/var/tmp"))
#: If one of these is set, Ray reads no token from the user's home.
_TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_REMEDY = "check that the cluster is up, correct the variable, or unset it to run on this machine"


def check_head(address: str) -> bool:
    """Return True if `address`, the value of RAY_ADDRESS, names a cluster; False if it means Ray on this machine.

    Raises RunError, naming the variable, if no head answers.
    """
    if "://" in address:
        head: str | None = address.partition("://")[2].partition("/")[0]
        head = head if ":" in str(head) else f"{head}:{_CLIENT_PORT}"
    else:
        head = _find(address)
    if head is None:
        return False
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(OSError), stop=stop_after_delay(HEAD_SECONDS), wait=wait_fixed(0.5)
        ):
            with attempt:
                _ask(head, speaks_grpc="://" not in address)
    except ValueError as error:
        raise RunError(f"RAY_ADDRESS {address}: {error}; {_REMEDY}") from error
    except RetryError as error:
        raise RunError(f"{_named(address, head)}: no Ray answers ({error.__cause__}); {_REMEDY}") from error
    return True


def _find(address: str) -> str | None:
    try:
        return ray_internals.head_address(address)
    except (ConnectionError, ValueError, OSError) as error:
        reason = str(error)
        if address == "auto":
            reason = f"no Ray runs on this machine, and {ray_internals.address_file()} names none"
        raise RunError(f"RAY_ADDRESS {address}: {reason}; {_REMEDY}") from error


def _named(address: str, head: str) -> str:
    """Return the variable and its value for a message, with the head that it leads to."""
    if address == "auto":
        return f"RAY_ADDRESS auto, which is {head} (see {ray_internals.address_file()})"
    # Ray takes 127.0.0.1 for this machine's address in the network.
    return f"RAY_ADDRESS {address}" + (f", which is {head}" if head not in address else "")


def _ask(head: str, speaks_grpc: bool) -> None:
    """Raise OSError if nothing answers at `head` (host:port)."""
    host, _, port = head.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=HEAD_SECONDS).close()
    if not speaks_grpc or os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return
    # Another program may use the port by now, and a head that hangs still accepts connections.
    with grpc.insecure_channel(head, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_HEALTH)(b"", timeout=HEAD_SECONDS)
        except grpc.RpcError as error:
            if error.code() in _SILENT:
                raise OSError(f"the program that listens there is no Ray head: {error.details()}") from error


def check_own_network(node_address: str) -> None:
    """Raise RunError if this machine cannot reach itself at 127.0.0.1 and at `node_address`, the one that Ray uses."""
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
                f"Ray's processes use this machine's network, but it cannot reach itself at {host}: {error}; "
                f"{remedy}; the jobs that have --workers run without Ray with --workers 0"
            ) from error


def settle_home() -> None:
    """Set HOME for a user who has neither HOME nor a name, because parts of Ray cannot be imported without it."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(_own_folder(ray_internals.temporary_folder()))


def settle_folders() -> None:
    """Set Ray's variables if its default folders are not writable, such as another user's /tmp/ray or home.

    Keeps variables that the user has set. Raises RunError, naming the variable, if no folder is writable.
    """
    default = ray_internals.temporary_folder()
    if not _is_writable(default):
        if "RAY_TMPDIR" in os.environ:
            raise RunError(
                f"RAY_TMPDIR {os.environ['RAY_TMPDIR']}: user {os.getuid()} cannot write {default}; name another "
                "folder, with a short path"
            )
        os.environ["RAY_TMPDIR"] = str(_own_folder(default))
    if not any(os.environ.get(name) for name in _TOKEN_VARIABLES) and not _holds_token(Path.home() / ".ray"):
        # Only for this run's Ray, whose processes inherit it.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _own_folder(default: Path) -> Path:
    """Return a folder that only this user may write, near `default` and in place of it. Raises RunError."""
    for base in (default.parent, *_SHARED):
        folder = base / f"ray-{os.getuid()}"
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            status = folder.lstat()
            # In a shared folder another user may have created it, and could then read its content.
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022:
                return folder
    raise RunError(
        f"user {os.getuid()} cannot write {default}, where Ray keeps its sockets and logs; name a folder in "
        "RAY_TMPDIR, with a short path"
    )


def _holds_token(folder: Path) -> bool:
    """Return True if Ray can read its token in `folder`, or create one there."""
    token = folder / "auth_token"
    return os.access(token, os.R_OK) or (not os.access(token, os.F_OK) and _is_writable(folder))


def _is_writable(folder: Path) -> bool:
    """Return True if this user can create files in `folder`, which need not exist yet."""
    existing = next((one for one in (folder, *folder.parents) if os.access(one, os.F_OK)), folder)
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
