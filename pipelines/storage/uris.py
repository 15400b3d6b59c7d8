"""Find the storage of a URI: local folders, S3 and every other storage that fsspec knows.

Requests to S3 are repeated while it fails (`pipelines.storage.s3`); other remote storages are retried as their own
clients do it. Endpoint and credentials of S3 come from the usual environment variables
(`pipelines.storage.environment`) or from the machine's role. The file system objects that are made here hold no
secrets, so they may be sent to Ray tasks.
"""

import os
import re

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem
from pyarrow.fs import LocalFileSystem as ArrowLocalFileSystem

from model.errors import ConfigurationError
from pipelines.storage.file_uris import is_file_uri, path_of
from pipelines.storage.s3 import PatientS3


def resolve(uri: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of `uri` and the path in it: absolute if it is local, percent-decoded for file:// URIs.

    Listings are not cached, so that they include files that a worker has just written. Raises ConfigurationError for
    an empty URI or a scheme that no installed package serves.
    """
    if not uri.strip():
        raise ConfigurationError("an empty URI; give a local path, file:// or s3:// URI")
    try:
        fs, path = _open(os.path.expanduser(uri))  # noqa: PTH111 (a URI)
    except (ValueError, ImportError) as error:
        raise ConfigurationError(
            f"cannot use {uri!r}: {error}; give a local path, file:// or s3:// URI"
        ) from error
    return fs, path


def _open(uri: str) -> tuple[AbstractFileSystem, str]:
    if is_file_uri(uri):  # fsspec does not decode it
        return LocalFileSystem(use_listings_cache=False), path_of(uri).rstrip("/") or "/"
    if uri.startswith(("s3://", "s3a://")) and "::" not in uri:
        # Not registered with fsspec: other code in this process keeps fsspec's own S3.
        options = PatientS3._get_kwargs_from_urls(uri)
        return PatientS3(**options, use_listings_cache=False), PatientS3._strip_protocol(uri)
    fs, path = fsspec.core.url_to_fs(uri, use_listings_cache=False)
    return fs, path


def is_local(uri: str) -> bool:
    """Return whether `uri` names a path of this machine."""
    return isinstance(resolve(uri)[0], LocalFileSystem)


def absolute(uri: str) -> str:
    """Return `uri` in a form that means the same in every worker and every run.

    Local paths become absolute, and a final slash is removed. Raises ConfigurationError.
    """
    try:
        fs, path = resolve(uri)
    except OSError as error:  # some clients connect at once
        raise ConfigurationError(f"cannot use {uri!r}: {error}; check that its server runs") from error
    if isinstance(fs, LocalFileSystem):
        return path
    # Listings return s3:// as the scheme, and URIs are compared as text.
    return re.sub("^s3a://", "s3://", uri.rstrip("/"))


def join(uri: str, *parts: str) -> str:
    """Return `uri/part/part` with single slashes."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def arrow_filesystem(uri: str) -> tuple[FileSystem, str]:
    """Return the pyarrow file system of `uri` and the path in it, for pyarrow and Ray Data."""
    fs, path = resolve(uri)
    return (
        ArrowLocalFileSystem() if isinstance(fs, LocalFileSystem) else PyFileSystem(FSSpecHandler(fs))
    ), path
