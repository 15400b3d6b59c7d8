"""Decodes strangers' images in a process of its own: what kills a decoder costs one image, and nothing else.

An image may bring a decoder written in C to crash, to loop for ever, or to take all memory. In the worker that would
end the task, which Ray tries again, with the same end, until the job breaks off. Here a child process decodes. It is
started when it is first needed, reused for image after image, and replaced when it dies. It has little of the parent:
no credentials in its environment, a limit of memory, and a limit of CPU time per image.

Parent and child talk over a socket. When the parent dies, however it does, the child reads the end of the stream and
ends too; where it is stuck in an image, its CPU time runs out.
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

#: A child that takes this long for an image by the clock is stuck without computing. CPU time is what counts, so that a
#: busy machine fails no image; the clock only backs it up.
_CLOCK_FACTOR, _CLOCK_GRACE = 10.0, 60.0
_START_SECONDS = 120.0
_DYING_SECONDS = 30.0
#: The child may be killed for reasons that are none of the image's, such as a machine out of memory: a second tries.
_ATTEMPTS = 2
_READY = b"ready"
#: How much of what a child says before it is ready comes into the error.
_LAST_WORDS = 2048
#: What the child needs of the environment to start. Credentials stay here.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONHOME")
#: For tests only: "module:function", which the child calls with each upload before it decodes it.
HOOK_VARIABLE = "CATALOG_REPAIR_DECODE_HOOK"
_DEFAULTS = DecodeLimits()
_LENGTH = struct.Struct("<I")
_SOCKET_BUFFER = 1 << 20


class DecoderStartError(RunError):
    """No decoding process can be started on this machine. No image's failure: the task is tried again."""


def decode_apart(data: bytes, limits: DecodeLimits = _DEFAULTS, max_side: int | None = None) -> Decoded:
    """`decode.decode_upload` in another process. Any number of threads may call it; each has its own child then.

    Raises ImageError with the codes of `decode_upload`, and decoder_crashed, decode_timeout or
    decoder_out_of_memory where the process came to grief. A crash is tried once more in a fresh process, for it may
    have been killed for another reason; a timeout is not. Raises DecoderStartError where no process starts.
    """
    check_length(data, limits)  # before it is copied
    for attempt in range(1, _ATTEMPTS + 1):
        child = _take()
        try:
            found = child.decode(data, limits, max_side)
        except ImageError as error:
            if error.code in (CRASHED, TIMEOUT, OUT_OF_MEMORY):
                child.end()
                if error.code != TIMEOUT and attempt < _ATTEMPTS:
                    continue
            else:
                _idle.append(child)
            raise
        except BaseException:  # an interrupt in the midst of an answer: the next would read its rest
            child.end()
            raise
        _idle.append(child)
        return found
    raise AssertionError("the last attempt returns or raises")


def decode_image_apart(
    data: bytes, limits: DecodeLimits = _DEFAULTS, max_side: int | None = None
) -> np.ndarray:
    """`decode.decode_image` in another process; raises as `decode_apart`."""
    return decode_apart(data, limits, max_side).pixels


class _Child:
    """A decoding process, seen from the parent. Used by one thread at a time."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        environment = {
            name: os.environ[name] for name in (*_ENVIRONMENT, HOOK_VARIABLE) if name in os.environ
        }
        # numpy's threads would only take address space.
        environment |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            with tempfile.TemporaryFile() as errors:
                with theirs:
                    self._process = subprocess.Popen(
                        [sys.executable, "-c", "from pipelines.images.decode_apart import serve; serve()"],
                        stdin=theirs.fileno(),
                        stdout=subprocess.DEVNULL,
                        stderr=errors,
                        env=environment,
                    )
                self._socket = ours
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
                ours.settimeout(_START_SECONDS)
                self._wait_until_ready(errors)
        except OSError as error:
            ours.close()
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
        said = errors.read().decode(errors="replace").strip() or "it said nothing"
        raise DecoderStartError(
            f"the process for decoding did not start on {platform.node()} ({fate}): {said}"
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def decode(self, data: bytes, limits: DecodeLimits, max_side: int | None) -> Decoded:
        """The answer of the child, or what became of it, as an ImageError."""
        self._socket.settimeout(_CLOCK_FACTOR * limits.max_seconds + _CLOCK_GRACE)
        try:
            _send_head(self._socket, {"bytes": len(data), "limits": asdict(limits), "max_side": max_side})
            self._socket.sendall(data)
            answer = _receive_head(self._socket)
            if "code" in answer:
                raise ImageError(str(answer["code"]), str(answer["message"]))
            width, height = (int(side) for side in answer["size"])
            rows, columns = (int(side) for side in answer["shape"])
            if not 0 < rows * columns <= limits.max_pixels:  # no answer of ours
                raise EOFError
            metadata = Metadata(**answer["metadata"])
            pixels = np.empty((rows, columns, 3), np.uint8)
            _receive_into(self._socket, pixels.data.cast("B"))
            return Decoded(pixels, (width, height), metadata)
        except TimeoutError as error:
            self.end()
            raise ImageError(TIMEOUT, "decoding stood still for minutes and was ended") from error
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise self._failure(limits) from error

    def _failure(self, limits: DecodeLimits) -> ImageError:
        """What became of a child that stopped answering."""
        status = self.end(_DYING_SECONDS)
        if status == -signal.SIGPROF:
            return ImageError(TIMEOUT, f"decoding took more than {limits.max_seconds:g} s of CPU time")
        return ImageError(CRASHED, f"the process that decoded the image died ({_fate(status)})")

    def end(self, patience: float = 0.0) -> int:
        """End the process; returns its status as `Popen.returncode`.

        patience: seconds in which one that is about to die by itself may say of what.
        """
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=patience)
        self._process.kill()
        return self._process.wait()


#: Children that wait for work. `list` does its appends and pops in one step, so threads may share it.
_idle: list[_Child] = []
_starting = threading.Lock()


def _take() -> _Child:
    try:
        return _idle.pop()
    except IndexError:
        with _starting:  # one after the other: a start is mostly reading files
            return _Child()


@atexit.register
def end_children() -> None:
    """End the children that wait for work; the next image starts one anew."""
    while _idle:
        _idle.pop().end()


# A forked copy of this process must not talk to its parent's children.
os.register_at_fork(after_in_child=_idle.clear)


def _fate(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def serve() -> None:
    """The child: decode what comes over standard input, a socket, until its end."""
    for number in (signal.SIGPROF, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF, signal.SIGTERM])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    base, hook = _address_space(), _test_hook()
    with socket.socket(fileno=0) as parent, contextlib.suppress(OSError, EOFError):
        parent.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
        _fall_silent()  # decoders warn of what strangers send, and nobody reads it
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


def _fall_silent() -> None:
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    os.close(sink)


def _answer(
    data: bytes, limits: DecodeLimits, max_side: int | None, hook: Callable[[bytes], None] | None
) -> tuple[dict[str, Any], np.ndarray | None]:
    # SIGPROF's default action ends the process, also in the midst of C code that no exception would reach.
    signal.setitimer(signal.ITIMER_PROF, limits.max_seconds)
    try:
        if hook is not None:
            hook(data)
        pixels, size, metadata = decode_upload(data, limits, max_side)
        return {"shape": pixels.shape[:2], "size": size, "metadata": asdict(metadata)}, pixels
    except ImageError as error:
        return {"code": error.code, "message": error.message}, None
    except MemoryError:  # of the hook; the decoder's own is an ImageError
        return {"code": OUT_OF_MEMORY, "message": "not enough memory to decode the image"}, None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _address_space() -> int | None:
    """Bytes of address space that the process has now; None where the system does not tell (it then has no limit)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return None


def _limit_memory(count: int) -> None:
    """Limit the address space to `count` bytes, or to what whoever started this process lets it have."""
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
        raise ValueError("no head of ours")
    head = json.loads(_receive(source, length))
    if not isinstance(head, dict):
        raise TypeError("no head of ours")
    return head


def _receive(source: socket.socket, count: int) -> bytes:
    buffer = bytearray(count)
    _receive_into(source, memoryview(buffer))
    return bytes(buffer)


def _receive_into(source: socket.socket, buffer: memoryview) -> None:
    """Fill `buffer`. Raises EOFError where the other side ends before."""
    while buffer:
        count = source.recv_into(buffer)
        if not count:
            raise EOFError
        buffer = buffer[count:]
