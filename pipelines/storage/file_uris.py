"""`file://` URIs and the paths that they name: percent-decoded, as `Path.as_uri()` and file managers write them.

Plain paths are not URIs: a percent sign in one is a percent sign.
"""

import os
import re
from urllib.parse import unquote_to_bytes

#: RFC 8089: file:///path, file://localhost/path, file:/path.
_FILE_URI = re.compile(r"file:(?://(?P<host>[^/]*))?(?P<path>/.*)?", re.IGNORECASE | re.DOTALL)


def is_file_uri(uri: str) -> bool:
    """True for what begins with file:/, in letters of any case."""
    return uri[:6].lower() == "file:/"


def path_of(uri: str) -> str:
    """The absolute path that a file URI names, as Python's file functions take it (bytes that are no UTF-8 as
    surrogates).

    Raises ValueError where it names another machine or no absolute path.
    """
    found = _FILE_URI.fullmatch(uri)
    if found is None or found["path"] is None or (found["host"] or "").lower() not in ("", "localhost"):
        raise ValueError("a file:// uri names this machine and an absolute path: file:///folder/file")
    return os.fsdecode(unquote_to_bytes(found["path"]))
