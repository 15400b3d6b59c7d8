"""Runs an HTTP proxy with faults on loopback, for tests: in front of an S3 server, it passes bytes unchanged, so that
signatures stay valid.

    with FaultProxy(upstream_port, Faults(slow_down=0.1)) as proxy:      # in a test
        proxy.set(slow_down=0, cut=0.2)                                  # changed while requests run
    python -m tests.fault_proxy LISTEN_PORT UPSTREAM_PORT slow_down=0.1  # beside jobs, until it is killed
    curl '127.0.0.1:LISTEN_PORT/__faults?slow_down=0&cut=0.2'            # changed; answers with settings and counts
"""

import asyncio
import contextlib
import dataclasses
import json
import random
import socket
import struct
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_CONTROL = "/__faults"
_PIECE = 1 << 16
#: Kinds of faults. A random number decides which of them, if any, a request gets.
KINDS = ("slow_down", "internal_error", "reset", "reset_body", "lost", "cut", "hang")


@dataclass
class Faults:
    """Hold the shares of requests, from 0 to 1, that get each fault; the rest is passed on."""

    slow_down: float = 0.0  # 503; the server never gets the request
    internal_error: float = 0.0  # 500; the server never gets the request
    reset: float = 0.0  # connection reset before anything is passed on
    reset_body: float = 0.0  # reset after half of the request's body
    lost: float = 0.0  # the server handles the request, but its answer is dropped
    cut: float = 0.0  # half of the answer's body, then a reset
    hang: float = 0.0  # never answered, not even with "100 Continue"
    delay: float = 0.0  # share of the other requests that first wait for `seconds`
    seconds: float = 0.05
    methods: str = ""  # only these methods, such as "PUT,POST"; empty for all
    match: str = ""  # only targets that contain this text
    skip: int = 0  # number of matching requests to pass before faults begin
    most: int = -1  # largest number of faults; -1: no limit


#: One request in ten, by any of the faults; and delays.
TENTH = Faults(
    slow_down=0.03, internal_error=0.02, reset=0.02, reset_body=0.01, lost=0.01, cut=0.01, delay=0.1
)


class _ResetError(Exception):
    """End the client's connection with a reset."""


class FaultProxy:
    """Run the proxy in a thread, as a context manager. counts: requests by method, and faults by kind."""

    def __init__(self, upstream: int, faults: Faults | None = None, port: int = 0, seed: int = 1) -> None:
        self.upstream, self.port, self.faults = upstream, port, faults or Faults()
        self.counts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        """Return the value for AWS_ENDPOINT_URL."""
        return f"http://127.0.0.1:{self.port}"

    def set(self, **settings: Any) -> None:
        """Change these settings of `Faults`."""
        self.faults = dataclasses.replace(self.faults, **settings)

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        connection = _Connection(self, reader, writer)
        try:
            while await connection.request():
                pass
        except _ResetError:
            # Closing with a zero linger time sends a reset.
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            writer.transport.abort()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass  # one side has closed the connection, or the proxy stops
        finally:
            connection.close()

    def draw(self, method: str, target: str) -> str | None:
        """Decide which fault this request gets, if any, and count it."""
        self.counts["requests"] += 1
        self.counts[method] += 1
        faults = self.faults
        if (faults.methods and method not in faults.methods.split(",")) or faults.match not in target:
            return None
        if faults.skip:
            self.set(skip=faults.skip - 1)
            return None
        if faults.most == 0:
            return None
        dice = self._random.random()
        for kind in KINDS:
            dice -= getattr(faults, kind)
            if dice < 0:
                self.counts[kind] += 1
                if faults.most > 0:
                    self.set(most=faults.most - 1)
                return kind
        return None

    def control(self, target: str) -> bytes:
        """Apply a control request's settings, and return the answer's body."""
        kinds = {field.name: type(field.default) for field in dataclasses.fields(Faults)}
        given = parse_qsl(urlsplit(target).query, keep_blank_values=True)
        self.set(**{name: kinds[name](value) for name, value in given})
        return json.dumps({"faults": dataclasses.asdict(self.faults), "counts": self.counts}).encode()

    async def wait(self) -> None:
        """Delay the share `delay` of the requests."""
        if self._random.random() < self.faults.delay:
            self.counts["delay"] += 1
            await asyncio.sleep(self.faults.seconds)


class _Connection:
    """Hold one client's connection and its connection to the server."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy, self.reader, self.writer = proxy, reader, writer
        self.server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self) -> bool:
        """Serve one request, and return True if the connection stays open."""
        head = await _Head.read(self.reader)
        method, target = head.first.split(" ")[:2]
        if target.startswith(_CONTROL):
            await self._answer(200, "OK", self.proxy.control(target))
            return False
        fault = self.proxy.draw(method, target)
        if fault == "reset":
            raise _ResetError
        if fault == "hang":
            await asyncio.Event().wait()
        if fault in ("slow_down", "internal_error"):
            return await self._refuse(head, fault)
        await self.proxy.wait()
        return await self._pass(head, method, fault)

    async def _refuse(self, head: "_Head", fault: str) -> bool:
        if not head.expects:
            await _copy_body(self.reader, head, None)
        status, reason, code = {
            "slow_down": (503, "Slow Down", "SlowDown"),
            "internal_error": (500, "Internal Server Error", "InternalError"),
        }[fault]
        body = f"<Error><Code>{code}</Code><Message>{reason}</Message></Error>".encode()
        await self._answer(status, reason, b"" if head.first.startswith("HEAD ") else body)
        return False

    async def _pass(self, head: "_Head", method: str, fault: str | None) -> bool:
        if self.server is None:
            self.server = await asyncio.open_connection("127.0.0.1", self.proxy.upstream, limit=1 << 20)
        reader, writer = self.server
        writer.write(head.raw)
        await writer.drain()
        answer = None
        if head.expects:
            answer = await _Head.read(reader)  # 100, or another status
            self.writer.write(answer.raw)
        if answer is None or answer.status == 100:
            await _copy_body(self.reader, head, writer, 0.5 if fault == "reset_body" else 1)
            if fault == "reset_body":
                raise _ResetError
            answer = await _Head.read(reader)
            while answer.status == 100:
                answer = await _Head.read(reader)
            if fault != "lost":
                self.writer.write(answer.raw)
        target = None if fault == "lost" else self.writer
        if method != "HEAD" and answer.status not in (204, 304):
            await _copy_body(reader, answer, target, 0.5 if fault == "cut" else 1)
        if fault in ("lost", "cut"):
            raise _ResetError
        await self.writer.drain()
        return not (answer.closes or head.closes)

    async def _answer(self, status: int, reason: str, body: bytes) -> None:
        head = f"HTTP/1.1 {status} {reason}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.writer.write(head.encode() + body)
        await self.writer.drain()

    def close(self) -> None:
        """Close both sides."""
        for writer in (self.writer, self.server[1] if self.server else None):
            if writer is not None and not writer.is_closing():
                writer.close()


@dataclass
class _Head:
    """Hold a request's or an answer's first line and headers."""

    raw: bytes
    first: str
    headers: dict[str, str]

    @staticmethod
    async def read(reader: asyncio.StreamReader) -> "_Head":
        raw = await reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin1").rstrip("\r\n").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return _Head(raw, first, {name.strip().lower(): value.strip() for name, _, value in pairs})

    @property
    def status(self) -> int:
        return int(self.first.split(" ")[1])

    @property
    def expects(self) -> bool:
        return "100-continue" in self.headers.get("expect", "").lower()

    @property
    def closes(self) -> bool:
        return "close" in self.headers.get("connection", "").lower()


async def _copy_body(
    reader: asyncio.StreamReader, head: _Head, writer: asyncio.StreamWriter | None, share: float = 1
) -> None:
    """Copy the body that `head` announces, or discard it without a writer. share: part of it, if its size is known."""
    if "chunked" in head.headers.get("transfer-encoding", ""):
        await _copy_chunks(reader, writer)
        return
    left = int(int(head.headers.get("content-length", 0)) * share)
    while left:
        piece = await reader.read(min(left, _PIECE))
        if not piece:
            raise ConnectionError
        left -= len(piece)
        await _emit(writer, piece)


async def _copy_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
    while True:
        line = await reader.readline()
        await _emit(writer, line)
        size = int(line.split(b";")[0], 16)
        if size:
            await _emit(writer, await reader.readexactly(size + 2))
            continue
        while line.strip():
            line = await reader.readline()
            await _emit(writer, line)
        return


async def _emit(writer: asyncio.StreamWriter | None, data: bytes) -> None:
    if writer is not None:
        writer.write(data)
        await writer.drain()


def main(listen: str, upstream: str, *settings: str) -> None:
    """Serve until killed."""
    with FaultProxy(int(upstream), port=int(listen)) as proxy:
        proxy.control(f"{_CONTROL}?{'&'.join(settings)}")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
