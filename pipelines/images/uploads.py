"""Reads one image by its URI. Any failure becomes an error with a code, and so the failure of one row."""

import http.client
import os
import stat
import time
import urllib.error
import urllib.request
from pathlib import Path

from pipelines.images.allowed_uris import AllowedUris, redacted
from pipelines.images.decode import DecodeLimits, ImageError
from pipelines.storage import is_local, read_bytes, resolve, version
from pipelines.storage.errors import error_code

#: Allowed schemes of images in the team's own tables (dataset preparation).
SCHEMES = ("", "file", "s3")

#: Seconds for one object over HTTP, and for any pause within.
_HTTP_SECONDS, _HTTP_SILENCE = 120.0, 20.0
_HTTP_ATTEMPTS, _HTTP_PAUSE = 3, 0.5
_HTTP_PIECE = 1 << 18
_MAX_BYTES = DecodeLimits().max_bytes


def input_version(uri: str, allowed: AllowedUris) -> str | None:
    """Return the storage's version of the image at `uri` (see `storage.version`), without reading it.

    An image that is missing or not allowed has a version, too, which changes when that changes. None if the storage
    reports no version or fails, and over http(s), because a stranger's server may answer HEAD with anything. Raises
    nothing.
    """
    try:
        location = allowed.find(uri)
    except ImageError:
        return "refused"
    if location.startswith(("http://", "https://")):
        return None
    try:
        return version(location)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except Exception:  # noqa: BLE001 (a file system may raise anything for a row's URI; the image is then read again)
        return None


def read_upload(uri: str, allowed: AllowedUris, max_bytes: int = _MAX_BYTES) -> bytes:
    """Return the encoded bytes, at most `max_bytes`, at a catalog row's `uri`, if `allowed` covers it.

    Over http(s) redirects are never followed. Raises ImageError and nothing else: uri_not_allowed, and the codes of
    `read_image`.
    """
    location = allowed.find(uri)
    if location.startswith(("http://", "https://")):
        data = _read_http(location, max_bytes + 1)
    elif "://" in location:
        data = _read_storage(location, max_bytes + 1)
    else:
        data = _read_file(location, max_bytes + 1)
    return _checked(uri, data, max_bytes)


def read_image(uri: str, max_bytes: int = _MAX_BYTES) -> bytes:
    """Return the encoded bytes, at most `max_bytes`, at a `uri` from the team's own table.

    Relative paths start at the working directory. For a catalog's URIs, which come from sellers, use `read_upload`.
    Raises ImageError and nothing else: `scheme_not_allowed`, `missing`, `forbidden` (permissions or credentials),
    `too_many_bytes`, or `unreadable` (the storage failed, or it is a folder or a device).
    """
    if not _allowed(uri):
        raise ImageError(
            "scheme_not_allowed", f"{uri[:200]}: a row's uri may be a local path, file:// or s3://"
        )
    return _checked(uri, _read_storage(uri, max_bytes + 1), max_bytes)


def _checked(uri: str, data: bytes, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise ImageError("too_many_bytes", f"{redacted(uri)} has more than {max_bytes} bytes")
    return data


def _read_storage(uri: str, limit: int) -> bytes:
    """Return the first `limit` bytes, in one request."""
    try:
        if is_local(uri) and not stat.S_ISREG(Path(resolve(uri)[1]).stat().st_mode):
            # Reading a pipe could wait for ever.
            raise ImageError("unreadable", f"{uri} is not a regular file")
        return read_bytes(uri, limit=limit)
    except ImageError:
        raise
    except Exception as error:  # a file system may raise anything for a row's URI: this row fails
        raise _failure(uri, error) from error


def _read_file(path: str, limit: int) -> bytes:
    """Return the first `limit` bytes of a real path. A file that has become a link meanwhile is not followed."""
    try:
        # Non-blocking, because opening a pipe could wait for ever.
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(number, "rb") as file:  # noqa: PTH123 (a descriptor)
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise ImageError("unreadable", f"{path} is not a regular file")
            return file.read(limit)
    except (OSError, ValueError) as error:
        raise _failure(path, error) from error


def _read_http(url: str, limit: int) -> bytes:
    """Return the first `limit` bytes. Temporary errors (5xx, 429, a broken connection) are retried."""
    for attempt in range(1, _HTTP_ATTEMPTS + 1):
        try:
            return _get(url, limit)
        except urllib.error.HTTPError as error:
            error.close()
            if (error.code < 500 and error.code != 429) or attempt == _HTTP_ATTEMPTS:
                code = {401: "forbidden", 403: "forbidden", 404: "missing", 410: "missing"}.get(error.code)
                reason = "redirects are not followed" if 300 <= error.code < 400 else error.reason
                message = f"cannot read {redacted(url)}: HTTP {error.code}: {reason}"
                raise ImageError(code or "unreadable", message) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            if attempt == _HTTP_ATTEMPTS or isinstance(error, ValueError):
                raise ImageError("unreadable", f"cannot read {redacted(url)}: {error}") from error
        time.sleep(_HTTP_PAUSE * attempt)
    raise AssertionError("the last attempt returns or raises")


def _get(url: str, limit: int) -> bytes:
    # An opener of its own: the default one would follow redirects, which may lead anywhere, and read local files, too.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(url, headers={"User-Agent": "catalog-repair", "Accept": "image/*"})
    end = time.monotonic() + _HTTP_SECONDS
    data = bytearray()
    with opener.open(request, timeout=_HTTP_SILENCE) as answer:
        while len(data) < limit and (piece := answer.read1(min(_HTTP_PIECE, limit - len(data)))):
            data += piece
            if time.monotonic() > end:  # a server that sends a byte now and then would keep it busy for ever
                raise TimeoutError(f"not read within {_HTTP_SECONDS:g} s")
        expected = answer.headers.get("Content-Length")
        if len(data) < limit and expected is not None and expected.isdigit() and len(data) < int(expected):
            raise http.client.IncompleteRead(bytes(data[:0]), int(expected) - len(data))
    return bytes(data)


def _failure(uri: str, error: Exception) -> ImageError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return ImageError(error_code(error), f"cannot read {uri}: {reason}")


def _allowed(uri: str) -> bool:
    scheme = uri.partition("://")[0].lower() if "://" in uri else ""
    return "::" not in uri and scheme in SCHEMES
