"""Decodes untrusted images in a separate process, so that an image that kills a decoder costs nothing but itself.

An image may make a decoder written in C crash, loop for ever, or take all memory. Inside the worker this would end the
task; Ray would retry it, with the same result, until the job fails. So a child process decodes. It is started when it
is first needed, reused for many images, and replaced when it dies. It gets little from its parent: no credentials in
its environment, a memory limit, and a limit of CPU time per image.

Parent and child communicate over a socket. When the parent dies, for any reason, the child reads the end of the stream
and ends too; if it is stuck in an image, its CPU time runs out.
"""

import atexit
import contextlib
import importlib
import json
import os
import platform
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from model.errors import RunError
from pipelines.images.decode import (
    OUT_OF_MEMORY,
    Decoded,
    DecodeLimits,
    ImageError,
    check_length,
    decode_upload,
)
from pipelines.images.metadata import Metadata

CRASHED, TIMEOUT = "decoder_crashed", "decode_timeout"

#: A child that takes this much wall-clock time for an image hangs without computing. The limit is on CPU time, so that
#: no image fails on a busy machine; the clock is only a second line of defence.
_CLOCK_FACTOR, _CLOCK_GRACE = 10.0, 60.0
_START_SECONDS = 120.0
_DYING_SECONDS = 30.0
#: The child may be killed for reasons that have nothing to do with the image, such as a machine out of memory.
_ATTEMPTS = 2
_READY = b"ready"
#: How many bytes of a child's output before it is ready go into the error.
_LAST_WORDS = 2048
#: Environment variables that the child needs to start. Credentials are not passed on.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONHOME")
#: For tests only: "module:function", which the child calls with each upload before it decodes it.
HOOK_VARIABLE = "CATALOG_REPAIR_DECODE_HOOK"
_DEFAULTS = DecodeLimits()
_LENGTH = struct.Struct("<I")
_SOCKET_BUFFER = 1 << 20


class DecoderStartError(RunError):
    """Signal that no decoding process can be started on this machine. Not the image's fault: the task is retried."""


def decode_apart(data: bytes, limits: DecodeLimits = _DEFAULTS, max_side: int | None = None) -> Decoded:
    """Run `decode.decode_upload` in another process. Several threads may call it; each then has its own child.

    Raises ImageError with the codes of `decode_upload`, and decoder_crashed, decode_timeout or decoder_out_of_memory if
    the process fails. A crash is retried once in a fresh process, because the first may have been killed for another
    reason; a timeout is not retried. Raises DecoderStartError if no process starts.
    """
    check_length(data, limits)  # before it is copied
    for attempt in range(1, _ATTEMPTS + 1):
        child = _take()
        try:
            decoded = child.decode(data, limits, max_side)
        except ImageError as error:
            if error.code in (CRASHED, TIMEOUT, OUT_OF_MEMORY):
                child.end()
                if error.code != TIMEOUT and attempt < _ATTEMPTS:
                    continue
            else:
                _idle.append(child)
            raise
        except BaseException:  # interrupted during an answer: the next image would read the rest of it
            child.end()
            raise
        _idle.append(child)
        return decoded
    raise AssertionError("the last attempt returns or raises")


def decode_image_apart(
    data: bytes, limits: DecodeLimits = _DEFAULTS, max_side: int | None = None
) -> np.ndarray:
    """Run `decode.decode_image` in another process; raises the errors of `decode_apart`."""
    return decode_apart(data, limits, max_side).pixels


class _Child:
    """Control a decoding process from the parent. Used by one thread at a time."""

    def __init__(self) -> None:
        parent_end, child_end = socket.socketpair()
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        environment = {
            name: os.environ[name] for name in (*_ENVIRONMENT, HOOK_VARIABLE) if name in os.environ
        }
        # More threads of numpy would only take address space.
        environment |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            with tempfile.TemporaryFile() as errors:
                with child_end:
                    self._process = subprocess.Popen(
                        [sys.executable, "-c", "from pipelines.images.decode_apart import serve; serve()"],
                        stdin=child_end.fileno(),
                        stdout=subprocess.DEVNULL,
                        stderr=errors,
                        env=environment,
                    )
                self._socket = parent_end
                parent_end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
                parent_end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
                parent_end.settimeout(_START_SECONDS)
                self._wait_until_ready(errors)
        except OSError as error:
            parent_end.close()
            raise DecoderStartError(
                f"cannot start a process for decoding on {platform.node()}: {error}"
            ) from error

    def _wait_until_ready(self, errors: IO[bytes]) -> None:
        """errors: a file with what the child writes to standard error until then. Raises DecoderStartError."""
        with contextlib.suppress(OSError, EOFError):
            if _receive(self._socket, len(_READY)) == _READY:
                return
        fate = _fate(self.end(_DYING_SECONDS))
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - _LAST_WORDS))
        output = errors.read().decode(errors="replace").strip() or "no output"
        raise DecoderStartError(
            f"the process for decoding did not start on {platform.node()} ({fate}): {output}"
        )

    @property
    def pid(self) -> int:
        """Return the id of the process."""
        return self._process.pid

    def decode(self, data: bytes, limits: DecodeLimits, max_side: int | None) -> Decoded:
        """Return the child's answer. Raises ImageError if the image is refused, or the child fails."""
        self._socket.settimeout(_CLOCK_FACTOR * limits.max_seconds + _CLOCK_GRACE)
        try:
            _send_head(self._socket, {"bytes": len(data), "limits": asdict(limits), "max_side": max_side})
            self._socket.sendall(data)
            answer = _receive_head(self._socket)
            if "code" in answer:
                raise ImageError(str(answer["code"]), str(answer["message"]))
            width, height = (int(side) for side in answer["size"])
            rows, columns = (int(side) for side in answer["shape"])
            if not 0 < rows * columns <= limits.max_pixels:  # not a valid answer
                raise EOFError
            metadata = Metadata(**answer["metadata"])
            pixels = np.empty((rows, columns, 3), np.uint8)
            _receive_into(self._socket, pixels.data.cast("B"))
            return Decoded(pixels, (width, height), metadata)
        except TimeoutError as error:
            self.end()
            raise ImageError(TIMEOUT, "decoding hung for minutes and was ended") from error
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise self._failure(limits) from error

    def _failure(self, limits: DecodeLimits) -> ImageError:
        """Return the error for a child that stopped answering."""
        status = self.end(_DYING_SECONDS)
        if status == -signal.SIGPROF:
            return ImageError(TIMEOUT, f"decoding took more than {limits.max_seconds:g} s of CPU time")
        return ImageError(CRASHED, f"the process that decoded the image died ({_fate(status)})")

    def end(self, patience: float = 0.0) -> int:
        """End the process, and return its status as in `Popen.returncode`.

        patience: seconds to wait before killing it, so that a dying process can end with its own status.
        """
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=patience)
        self._process.kill()
        return self._process.wait()


#: Children that wait for work. Threads may share this list, because its appends and pops are atomic.
_idle: list[_Child] = []
_starting = threading.Lock()


def _take() -> _Child:
    try:
        return _idle.pop()
    except IndexError:
        with _starting:  # one at a time: a start mostly reads files
            return _Child()


@atexit.register
def end_children() -> None:
    """End the children that wait for work; the next image starts a new one."""
    while _idle:
        _idle.pop().end()


# A forked copy of this process must not use its parent's children.
os.register_at_fork(after_in_child=_idle.clear)


def _fate(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def serve() -> None:
    """Run the child: decode the images that arrive on standard input, a socket, until it ends."""
    for number in (signal.SIGPROF, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF, signal.SIGTERM])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    base, hook = _address_space(), _test_hook()
    with socket.socket(fileno=0) as parent, contextlib.suppress(OSError, EOFError):
        parent.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
        _silence_errors()  # decoders print warnings about damaged images
        parent.sendall(_READY)
        while True:
            request = _receive_head(parent)
            data = _receive(parent, request["bytes"])
            limits = DecodeLimits(**request["limits"])
            if base is not None:
                _limit_memory(base + limits.memory_bytes)
            head, pixels = _answer(data, limits, request["max_side"], hook)
            _send_head(parent, head)
            if pixels is not None:
                parent.sendall(pixels.data.cast("B"))


def _silence_errors() -> None:
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    os.close(sink)


def _answer(
    data: bytes, limits: DecodeLimits, max_side: int | None, hook: Callable[[bytes], None] | None
) -> tuple[dict[str, Any], np.ndarray | None]:
    # SIGPROF's default action ends the process, even inside C code that no exception would reach.
    signal.setitimer(signal.ITIMER_PROF, limits.max_seconds)
    try:
        if hook is not None:
            hook(data)
        pixels, size, metadata = decode_upload(data, limits, max_side)
        return {"shape": pixels.shape[:2], "size": size, "metadata": asdict(metadata)}, pixels
    except ImageError as error:
        return {"code": error.code, "message": error.message}, None
    except MemoryError:  # from the hook; the decoder's own is an ImageError
        return {"code": OUT_OF_MEMORY, "message": "not enough memory to decode the image"}, None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _address_space() -> int | None:
    """Return the process's address space in bytes; None if the system does not report it (then there is no limit)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return None


def _limit_memory(count: int) -> None:
    """Limit the address space to `count` bytes, or to an existing lower limit."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        count = min(count, most)
    resource.setrlimit(resource.RLIMIT_AS, (count, most))


def _test_hook() -> Callable[[bytes], None] | None:
    module, _, function = os.environ.get(HOOK_VARIABLE, "").partition(":")
    return getattr(importlib.import_module(module), function) if module else None


def _send_head(to: socket.socket, head: dict[str, Any]) -> None:
    text = json.dumps(head).encode()
    to.sendall(_LENGTH.pack(len(text)) + text)


def _receive_head(source: socket.socket) -> dict[str, Any]:
    (length,) = _LENGTH.unpack(_receive(source, _LENGTH.size))
    if length > _SOCKET_BUFFER:
        raise ValueError("not a valid head")
    head = json.loads(_receive(source, length))
    if not isinstance(head, dict):
        raise TypeError("not a valid head")
    return head


def _receive(source: socket.socket, count: int) -> bytes:
    buffer = bytearray(count)
    _receive_into(source, memoryview(buffer))
    return bytes(buffer)


def _receive_into(source: socket.socket, buffer: memoryview) -> None:
    """Fill `buffer`. Raises EOFError if the other side ends too early."""
    while buffer:
        count = source.recv_into(buffer)
        if not count:
            raise EOFError
        buffer = buffer[count:]
