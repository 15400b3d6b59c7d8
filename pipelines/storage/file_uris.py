"""Convert `file://` URIs to paths; they are percent-encoded, as `Path.as_uri()` and file managers write them.

Plain paths are not URIs: a percent sign in one is a percent sign.
"""

import os
import re
from urllib.parse import unquote_to_bytes

#: RFC 8089: file:///path, file://localhost/path, file:/path.
_FILE_URI = re.compile(r"file:(?://(?P<host>[^/]*))?(?P<path>/.*)?", re.IGNORECASE | re.DOTALL)


def is_file_uri(uri: str) -> bool:
    """Return True if `uri` begins with file:/, in upper or lower case."""
    return uri[:6].lower() == "file:/"


def path_of(uri: str) -> str:
    """Return the absolute path of a file URI as Python's file functions take it (bytes that are not UTF-8 as
    surrogates).

    Raises ValueError if it names another machine or no absolute path.
    """
    match = _FILE_URI.fullmatch(uri)
    if match is None or match["path"] is None or (match["host"] or "").lower() not in ("", "localhost"):
        raise ValueError("a file:// uri names this machine and an absolute path: file:///folder/file")
    return os.fsdecode(unquote_to_bytes(match["path"]))
