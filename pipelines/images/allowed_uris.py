"""Where a catalog's images may be read from. A row's URI is seller's text, and the worker that reads it can reach more
than sellers may: the machine's files, other buckets, services of the cluster's network.

An operator names prefixes (`--allow-uri`); nothing else is opened. A URI is first brought to one form, in which a
prefix means whole path segments, and what has more than one reading is refused.
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
# Some parsers drop blanks at the ends and control characters, others keep them; a backslash is a slash to some.
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_BLANK_END = re.compile(r"^\s|\s$")
_DECODINGS = 5  # percent signs within percent signs


class Place(NamedTuple):
    """A URI in the form that is compared. root: scheme and authority, or "" of a local path; path: from "/" on.

    uri: what to open: the real path of a local file, links resolved; other URIs as they came, their scheme in small
    letters.
    """

    root: str
    path: str
    uri: str


@dataclass(frozen=True)
class AllowedUris:
    """Prefixes as the operator gave them: folders, or single objects. Raises ConfigurationError naming --allow-uri."""

    prefixes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for prefix in self.prefixes:
            _prefix(prefix)

    def find(self, uri: str) -> str:
        """What to open for a row's `uri`. Raises ImageError (uri_not_allowed) where no prefix allows it.

        A local path is compared as the real path, with all links resolved, of the file and of the prefix. Relative
        ones mean the working directory; a file:// URI is percent-decoded first, a plain path is not.
        """
        try:
            place = _place(uri)
        except ValueError as error:
            raise ImageError(NOT_ALLOWED, f"{shown(uri)}: {error}") from None
        if not any(_is_within(place, _prefix(prefix)) for prefix in self.prefixes):
            raise ImageError(NOT_ALLOWED, f"{shown(uri)}: no --allow-uri names this place")
        return place.uri


def _prefix(prefix: str) -> Place:
    try:
        if prefix.lower().startswith(tuple(f"{scheme}:" for scheme in _PORTS)) and re.search("[?#]", prefix):
            raise ValueError(
                "a prefix ends with its path, and allows any query: none with ? or # can be named"
            )
        return _place(prefix)
    except ValueError as error:
        raise ConfigurationError(
            f"--allow-uri {prefix!r}: {error}; give a folder such as s3://bucket/uploads/, https://cdn.example.com/ or "
            "/mnt/photos/"
        ) from None


def _is_within(place: Place, prefix: Place) -> bool:
    folder = prefix.path.rstrip("/")
    inside = place.path == folder or place.path.startswith(folder + "/")
    return place.root == prefix.root and inside


def _place(uri: str) -> Place:
    """Raises ValueError, with the reason, for a URI that has no place or more than one reading."""
    if not uri:
        raise ValueError("an empty uri")
    path = path_of(uri) if is_file_uri(uri) else None
    if _CONTROL.search(uri) or _BLANK_END.search(uri) or (path and _CONTROL.search(path)):
        raise ValueError("a uri must not have control characters, backslashes, or blanks around it")
    if "::" in uri:
        raise ValueError("chained uris are not opened")
    scheme = _SCHEME.match(uri)
    if path is not None or scheme is None:
        return _local(uri if path is None else path)
    name, rest = scheme[1].lower(), uri[scheme.end() :]
    if name not in _REMOTE:
        raise ValueError(f"{name}:// is not read; use s3://, https://, http:// or a local path")
    return _remote(name, rest)


def _local(path: str) -> Place:
    # Not expanded: a tilde is a file's name here.
    real = os.path.realpath(path)
    return Place("", real, real)


def _remote(scheme: str, rest: str) -> Place:
    uri = f"{scheme}://{rest}"
    if scheme == "s3":  # a key is any text: question marks and hashes belong to it
        authority, _, key = rest.partition("/")
        parts = SplitResult(scheme, authority, "/" + key, "", "")
    else:
        parts = urlsplit(uri)  # raises ValueError for a host that is none
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
    return Place(f"{scheme}://{authority}", parts.path or "/", uri)


def _check_segments(path: str) -> None:
    """Raise ValueError where a server or a client could read `path` as another: dots as segments, however encoded."""
    for _ in range(_DECODINGS):
        segments = re.split(r"[/\\]", path)
        if any(segment.split(";")[0] in (".", "..") for segment in segments):
            raise ValueError("a uri must not have . or .. as part of its path")
        decoded = unquote(path)
        if decoded == path:
            return
        path = decoded
    raise ValueError("percent signs within percent signs")


def shown(uri: str) -> str:
    """For a message: short, and without a password or the signature in a link's query."""
    if uri.lower().startswith(tuple(f"{scheme}:" for scheme in _PORTS)):
        uri = re.sub(r"[?#].*", "?…", uri, flags=re.DOTALL)
    return re.sub(r"//[^/@]*@", "//…@", uri)[:200]
