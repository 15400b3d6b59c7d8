"""Reads one image of the catalog by its URI; what goes wrong is the row's failure, with a code."""

import stat
from pathlib import Path

from pipelines.decode import DecodeLimits, ImageError
from pipelines.storage import error_code, is_local, read_bytes, resolve, version

#: Where a catalog's images may be; "" is a local path.
SCHEMES = ("", "file", "s3")


def input_version(uri: str) -> str | None:
    """What the storage says of the image at `uri` (see `storage.version`), without reading it.

    An image that is not there, or that may not be read, has a version too: that changes when it comes. None where the
    storage does not say, or fails. Raises nothing.
    """
    if not _allowed(uri):
        return "refused"
    try:
        return version(uri)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except Exception:  # noqa: BLE001 (whatever a file system makes of a row's URI: the image is read again then)
        return None


def read_image(uri: str, max_bytes: int = DecodeLimits().max_bytes) -> bytes:
    """The encoded bytes at `uri`, at most `max_bytes`, in one request. Relative paths: the working directory.

    A catalog's URIs are sellers' text: only SCHEMES are opened, so that none reaches services of the cluster's
    network or chains file systems.

    Raises ImageError and nothing else: `scheme_not_allowed`, `missing`, `forbidden` (permissions or credentials),
    `too_large`, or `unreadable` (the storage failed, or a folder or a device stands there).
    """
    if not _allowed(uri):
        raise ImageError(
            "scheme_not_allowed", f"{uri[:200]}: a row's uri may be a local path, file:// or s3://"
        )
    try:
        if is_local(uri) and not stat.S_ISREG(Path(resolve(uri)[1]).stat().st_mode):
            # Reading a pipe could wait for ever.
            raise ImageError("unreadable", f"{uri} is not a regular file")
        data = read_bytes(uri, limit=max_bytes + 1)
    except ImageError:
        raise
    except Exception as error:  # whatever a file system makes of a row's URI is this row's failure
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError(error_code(error), f"cannot read {uri}: {reason}") from error
    if len(data) > max_bytes:
        raise ImageError("too_large", f"{uri} has more than {max_bytes} bytes")
    return data


def _allowed(uri: str) -> bool:
    scheme = uri.partition("://")[0].lower() if "://" in uri else ""
    return "::" not in uri and scheme in SCHEMES
