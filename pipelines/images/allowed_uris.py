"""Checks that a catalog's image may be read from its URI.

A row's URI is text from a seller, and the worker that reads it can reach more than sellers may: the machine's files,
other buckets, services in the cluster's network. So an operator names prefixes (`--allow-uri`), and nothing else is
opened. A URI is first normalised; a prefix then matches whole path segments, and an ambiguous URI is refused.
"""

import os
import re
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from model.errors import ConfigurationError
from pipelines.images.decode import ImageError
from pipelines.storage.file_uris import is_file_uri, path_of

#: Code of a row whose URI no prefix allows.
NOT_ALLOWED = "uri_not_allowed"

_PORTS = {"http": 80, "https": 443}
_REMOTE = ("s3", *_PORTS)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# Some parsers drop control characters and blanks at the ends, others keep them; some take a backslash for a slash.
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_BLANK_END = re.compile(r"^\s|\s$")
_DECODINGS = 5  # percent signs within percent signs


class Location(NamedTuple):
    """Hold a normalised URI. root: scheme and authority, or "" for a local path; path: the part from "/" on.

    uri: what to open. For a local file its real path, with links resolved; other URIs unchanged, except for a
    lower-case scheme.
    """

    root: str
    path: str
    uri: str


@dataclass(frozen=True)
class AllowedUris:
    """Hold the operator's prefixes: folders, or single objects. Raises ConfigurationError naming --allow-uri."""

    prefixes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for prefix in self.prefixes:
            _prefix(prefix)

    def find(self, uri: str) -> str:
        """Return the URI or path to open for a row's `uri`. Raises ImageError (uri_not_allowed) if no prefix allows it.

        Local paths are compared as real paths, with all links of file and prefix resolved. A relative path starts at
        the working directory. A file:// URI is percent-decoded first; a plain path is not.
        """
        try:
            location = _locate(uri)
        except ValueError as error:
            raise ImageError(NOT_ALLOWED, f"{redacted(uri)}: {error}") from None
        if not any(_is_within(location, _prefix(prefix)) for prefix in self.prefixes):
            raise ImageError(NOT_ALLOWED, f"{redacted(uri)}: no --allow-uri covers this location")
        return location.uri


def _prefix(prefix: str) -> Location:
    try:
        if prefix.lower().startswith(tuple(f"{scheme}:" for scheme in _PORTS)) and re.search("[?#]", prefix):
            raise ValueError(
                "a prefix ends with its path and allows any query, so it must not contain ? or #"
            )
        return _locate(prefix)
    except ValueError as error:
        raise ConfigurationError(
            f"--allow-uri {prefix!r}: {error}; give a folder such as s3://bucket/uploads/, https://cdn.example.com/ or "
            "/mnt/photos/"
        ) from None


def _is_within(location: Location, prefix: Location) -> bool:
    folder = prefix.path.rstrip("/")
    inside = location.path == folder or location.path.startswith(folder + "/")
    return location.root == prefix.root and inside


def _locate(uri: str) -> Location:
    """Return the normalised URI. Raises ValueError, with the reason, for a URI that is invalid or ambiguous."""
    if not uri:
        raise ValueError("an empty uri")
    path = path_of(uri) if is_file_uri(uri) else None
    if _CONTROL.search(uri) or _BLANK_END.search(uri) or (path and _CONTROL.search(path)):
        raise ValueError("a uri must not have control characters, backslashes, or blanks around it")
    if "::" in uri:
        raise ValueError("chained uris are not supported")
    scheme = _SCHEME.match(uri)
    if path is not None or scheme is None:
        return _local(uri if path is None else path)
    name, rest = scheme[1].lower(), uri[scheme.end() :]
    if name not in _REMOTE:
        raise ValueError(f"{name}:// is not supported; use s3://, https://, http:// or a local path")
    return _remote(name, rest)


def _local(path: str) -> Location:
    # A tilde is not expanded: here it is part of a file's name.
    real = os.path.realpath(path)
    return Location("", real, real)


def _remote(scheme: str, rest: str) -> Location:
    uri = f"{scheme}://{rest}"
    if scheme == "s3":  # a key may be any text, question marks and hashes included
        authority, _, key = rest.partition("/")
        parts = SplitResult(scheme, authority, "/" + key, "", "")
    else:
        parts = urlsplit(uri)  # raises ValueError for an invalid host
    if "@" in parts.netloc:
        raise ValueError("a uri must not carry credentials")
    if (
        not (parts.netloc if scheme == "s3" else parts.hostname)
        or "%" in parts.netloc
        or not parts.netloc.isascii()
    ):
        raise ValueError("the uri names no host or bucket")
    _check_segments(parts.path)
    authority = parts.netloc if scheme == "s3" else f"{parts.hostname}:{parts.port or _PORTS[scheme]}"
    return Location(f"{scheme}://{authority}", parts.path or "/", uri)


def _check_segments(path: str) -> None:
    """Raise ValueError if a server or a client could resolve `path` to another: it has dot segments, even encoded."""
    for _ in range(_DECODINGS):
        segments = re.split(r"[/\\]", path)
        if any(segment.split(";")[0] in (".", "..") for segment in segments):
            raise ValueError("a uri must not have . or .. as part of its path")
        decoded = unquote(path)
        if decoded == path:
            return
        path = decoded
    raise ValueError("the uri is percent-encoded too many times")


def redacted(uri: str) -> str:
    """Return the URI for a message: shortened, and without a password or the signature in a link's query."""
    if uri.lower().startswith(tuple(f"{scheme}:" for scheme in _PORTS)):
        uri = re.sub(r"[?#].*", "?…", uri, flags=re.DOTALL)
    return re.sub(r"//[^/@]*@", "//…@", uri)[:200]
