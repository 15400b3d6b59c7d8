"""Explain errors of the storage: an error code, the reason and the remedy."""

import asyncio
import errno
import re

from aiohttp import ClientError
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
)

from pipelines.storage.s3 import UnavailableError, status_of

#: Exceptions of reading and writing that are the storage's fault, not our code's. The S3 client's errors (connection,
#: credentials) and its transport's (a cut body, a timeout before Python 3.11) are not OSErrors.
STORAGE_ERRORS: tuple[type[Exception], ...] = (OSError, BotoCoreError, ClientError, asyncio.TimeoutError)

#: Characters that make a path or URI a pattern, unless a file has exactly that name.
WILDCARDS = re.compile(r"[*?[]")

#: Errors of the system if a disk or quota is full or a file too large; and the same of stores, by code or status.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_CODE, _FULL_STATUS = "QuotaExceeded", 507


def error_code(error: Exception) -> str:
    """Return `missing`, `forbidden`, `full` or `unreadable` for one of STORAGE_ERRORS."""
    status, code = status_of(error)
    if getattr(error, "errno", None) in _FULL or code == _FULL_CODE or status == _FULL_STATUS:
        return "full"
    if isinstance(error, FileNotFoundError):
        return "missing"
    if isinstance(error, (PermissionError, NoCredentialsError, PartialCredentialsError)):
        return "forbidden"
    return "unreadable"


def explain(error: Exception, uri: str) -> str:
    """Return what is wrong with `uri` and the remedy, in one line."""
    return f"{_reason(error)}; {_remedy(error, uri)}"


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return "a file stands where a folder is needed"
    if error_code(error) == "full":
        return f"no space is left there ({getattr(error, 'strerror', None) or error})"
    return " ".join(str(error).split()) or type(error).__name__


def _remedy(error: Exception, uri: str) -> str:
    code = error_code(error)
    if code == "full":
        return "make room or raise the quota, then give the same command again: what is written stays"
    if code == "missing" and WILDCARDS.search(uri):
        return "wildcards are not expanded here: name the file, or its folder"
    if "://" not in uri or uri.startswith("file:"):
        return "check the path and its permissions"
    if code == "missing":
        return "check the bucket and the path (a bucket is never created)"
    if code == "forbidden":
        return (
            "check the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, or the role) and their rights"
        )
    if isinstance(_root(error), (EndpointConnectionError, ValueError)):
        return "check AWS_ENDPOINT_URL and the network"
    return "check the URI and the storage's state"


def _root(error: Exception) -> BaseException:
    return error.__cause__ if isinstance(error, UnavailableError) and error.__cause__ else error
