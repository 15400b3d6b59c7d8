"""Retry every request to S3, with growing pauses, until a time limit.

This one layer of retries replaces the client's own two, botocore's inside s3fs's. Those ask 25 times in one case and
only once in another, and they wait for ever if a server does not answer `Expect: 100-continue`.
"""

import asyncio
import contextlib
import io
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from aiobotocore.session import AioSession  # type: ignore[import-untyped]
from aiohttp import ClientError as TransportError
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.handlers import add_expect_header  # type: ignore[import-untyped]
from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]
from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)

logger = logging.getLogger(__name__)

#: Seconds for which a failing request is retried: longer than a restart of the storage or of a network switch.
PATIENCE = 120.0
#: The same before a job has begun: a person waits to learn that the endpoint is wrong.
IMPATIENCE = 10.0
#: Seconds to wait for an answer, plus one second for every _SLOWEST bytes of the body.
_SILENCE, _SLOWEST = 30.0, 1 << 20
_IMPATIENT_SILENCE = 10.0
#: Requests that the store may need minutes to answer, because it copies data itself.
_LONG = {"complete_multipart_upload", "copy_object", "upload_part_copy"}
_LONG_SILENCE = 300.0
#: Seconds. Each pause is drawn between 0 and a bound that doubles from the first to the longest (full jitter), so that
#: many workers that were refused together do not return together.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
#: The attempt that is logged as a warning; the others are logged for debugging only.
_WARNED_ATTEMPT = 4

#: Objects of one listing and one deletion, the most that S3 takes.
PAGE = 1000
#: Deletions that run at the same time.
_DELETIONS = 8

_TRANSIENT_STATUS = {408, 429, 500, 502, 503, 504}
#: Transient errors with other statuses: a body that was cut short, or a conflict with a request in progress.
_TRANSIENT_CODES = {
    *("RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "InternalError"),
    *("IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"),
    *("OperationAborted", "ConditionalRequestConflict"),
}
_TRANSIENT_ERRORS: tuple[type[BaseException], ...] = (
    *(asyncio.TimeoutError, TimeoutError, ConnectionError, TransportError),
    *(BotoConnectionError, HTTPClientError, IncompleteReadError, FlexibleChecksumError, ResponseParserError),
)

_impatient: ContextVar[bool] = ContextVar("impatient", default=False)


class UnavailableError(OSError):
    """The storage kept failing until the time limit; __cause__ is the last failure."""


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Give up requests of this thread inside the block after IMPATIENCE seconds instead of PATIENCE."""
    token = _impatient.set(True)  # a coroutine that fsspec runs in its own thread sees it
    try:
        yield
    finally:
        _impatient.reset(token)


def status_of(error: BaseException | None) -> tuple[int, str]:
    """Return the HTTP status and S3's code of an error or of its cause; (0, "") if there was no answer."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return int(status), str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return 0, ""


def is_transient(error: BaseException) -> bool:
    """Return True if the same request may succeed later."""
    if isinstance(error, UnavailableError):
        return False
    status, code = status_of(error)
    if status or code:
        return status in _TRANSIENT_STATUS or code in _TRANSIENT_CODES
    return isinstance(error, _TRANSIENT_ERRORS)


class PatientS3(S3FileSystem):
    """s3fs with retries of every request, the body of its answer included.

    Raises UnavailableError at the time limit, and at once the errors that no retry changes (403, 404, 412, …).
    """

    # s3fs's own retries: none.
    retries = 1
    connect_timeout = 5
    read_timeout = _SILENCE

    def __init__(
        self, *args: Any, config_kwargs: Any = None, session: Any = None, profile: Any = None, **options: Any
    ) -> None:
        """Take s3fs's own arguments; they may also come from FSSPEC_S3_… variables."""
        # botocore's own retries: none.
        config = {"retries": {"total_max_attempts": 1, "mode": "standard"}, **(config_kwargs or {})}
        super().__init__(*args, config_kwargs=config, session=session or _session(profile), **options)

    def isfile(self, path: str) -> bool:
        """Return whether `path` is a file. fsspec's own method also answers no if the storage fails or refuses."""
        try:
            return bool(self.info(path)["type"] == "file")
        except FileNotFoundError:
            return False

    # The only private method of s3fs that is overridden, because every request passes through it. s3fs's own retries
    # wait for ever if a server stops reading a request's body, do not repeat a block of a large object that was cut
    # short, and ignore objects that a bulk deletion did not delete. They count attempts, not seconds, without jitter.
    async def _call_s3(self, method: str, *akwarglist: Any, **kwargs: Any) -> Any:
        impatient = _impatient.get()
        patience = IMPATIENCE if impatient else PATIENCE
        size = len(kwargs["Body"]) if isinstance(kwargs.get("Body"), (bytes, bytearray, memoryview)) else 0
        retrying = AsyncRetrying(
            stop=stop_after_delay(patience),
            wait=wait_random_exponential(multiplier=_FIRST_PAUSE, max=_LONGEST_PAUSE),
            retry=retry_if_exception(is_transient),
            before_sleep=_log_retry,
            retry_error_callback=_give_up,
        )

        await self.set_session()  # reads the client's models from disk, which must not count as waiting

        async def ask() -> Any:
            silence = _LONG_SILENCE if method in _LONG else _IMPATIENT_SILENCE if impatient else _SILENCE
            call = super(PatientS3, self)._call_s3(method, *akwarglist, **kwargs)
            answer = await asyncio.wait_for(call, silence + size / _SLOWEST)
            if method == "get_object":
                await self._read_body(answer, silence)
            elif method == "delete_objects":
                _check_deleted(answer)
            return answer

        return await retrying(ask)

    call_s3 = sync_wrapper(_call_s3)  # s3fs's synchronous version would call s3fs's own method

    async def _remove_below(self, path: str) -> None:
        """Remove the objects below the folder `path` by pages; s3fs lists all of them before it removes the first."""
        deletions: set[asyncio.Task[Any]] = set()
        after: str | None = ""
        try:
            while after is not None:
                page, after = await self._page_below(path, after)
                if page:
                    deletions.add(asyncio.create_task(self._bulk_delete([name for name, _ in page])))
                if len(deletions) == _DELETIONS:
                    done, deletions = await asyncio.wait(deletions, return_when=asyncio.FIRST_COMPLETED)
                    for deletion in done:
                        deletion.result()
        finally:
            await asyncio.gather(*deletions)

    remove_below = sync_wrapper(_remove_below)

    async def _page_below(
        self, path: str, after: str, prefix: str = ""
    ) -> tuple[list[tuple[str, int]], str | None]:
        """Return the paths and sizes of up to PAGE objects below a folder, and the `after` of the next page.

        after: key behind which the page begins; "" for the first page, None behind the last. Unlike a token, it also
        holds after removals. prefix: with which paths below the folder begin. Raises ConnectionError for a listing that
        names nothing and says that there is more.
        """
        bucket, key, _ = self.split_path(path.rstrip("/"))
        below = f"{key}/{prefix}" if key else prefix
        query: dict[str, Any] = {"Bucket": bucket, "Prefix": below, "MaxKeys": PAGE}
        if after:
            query["StartAfter"] = after
        answer = await self._call_s3("list_objects_v2", **query)
        found = answer.get("Contents", [])
        goes_on = answer.get("IsTruncated", False)
        if goes_on and not found:
            raise ConnectionError(f"{path}: the storage's listing breaks off")
        page = [(f"{bucket}/{one['Key']}", one["Size"]) for one in found]
        return page, found[-1]["Key"] if goes_on else None

    page_below = sync_wrapper(_page_below)
    remove_page = sync_wrapper(S3FileSystem._bulk_delete)

    async def _read_body(self, answer: dict[str, Any], silence: float) -> None:
        """Read a body of at most one block, so that one which is cut short is requested again."""
        length = answer.get("ContentLength")
        if length is None or length > self.default_block_size:
            return
        try:
            data = await asyncio.wait_for(answer["Body"].read(), silence + length / _SLOWEST)
        finally:
            answer["Body"].close()
        if len(data) != length:
            raise IncompleteReadError(actual_bytes=len(data), expected_bytes=length)
        answer["Body"] = _Body(data)


def _session(profile: str | None) -> AioSession:
    """Return a session whose clients send bodies without `Expect: 100-continue`.

    aiohttp waits for ever if a server does not answer that.
    """
    session = AioSession(profile=profile)
    session.unregister("before-call.s3", add_expect_header)
    return session


class _Body:
    """An answer's body that is already in memory."""

    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)

    async def read(self, amount: int | None = None) -> bytes:
        """Return the next `amount` bytes, or the rest."""
        return self._stream.read(amount)

    def close(self) -> None:
        """Do nothing: no connection is open."""


def _check_deleted(answer: dict[str, Any]) -> None:
    """Raise an error for objects that a bulk deletion did not delete; s3fs ignores them."""
    for error in answer.get("Errors", []):
        code = error.get("Code", "")
        if code == "AccessDenied":
            raise PermissionError(f"{error.get('Key')}: {error.get('Message', code)}")
        raise ConnectionError(f"{error.get('Key')} was not deleted: {code} {error.get('Message', '')}")


def _log_retry(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    level = logging.WARNING if state.attempt_number == _WARNED_ATTEMPT else logging.DEBUG
    logger.log(level, "the storage fails, retrying: %s", reason_of(error))


def _give_up(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    raise UnavailableError(
        f"{reason_of(error)} (attempts: {state.attempt_number} in {state.seconds_since_start or 0:.0f} s)"
    ) from error


def reason_of(error: BaseException | None) -> str:
    """Return one line about a failure, with the status if there was an answer."""
    status, code = status_of(error)
    answer = f"{status} {code}: ".replace(f"{status} {status}", str(status)) if status else ""
    if isinstance(error, asyncio.TimeoutError) and not isinstance(error, BotoCoreError):
        return "no answer"
    return answer + (" ".join(str(error).split()) or type(error).__name__)
