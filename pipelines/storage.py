"""Storage behind URIs: local folders, S3 and whatever else fsspec knows.

Endpoint and credentials of S3 come from the usual environment variables (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …), which
the job forwards to every Ray worker (`worker_environment`).
"""

import os
from collections.abc import Mapping
from pathlib import Path

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem
from pyarrow.fs import LocalFileSystem as ArrowLocalFileSystem

from model.errors import ConfigurationError

#: Environment variables that decide where S3 is and who we are there.
STORAGE_ENVIRONMENT = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
)


def resolve(uri: str) -> tuple[AbstractFileSystem, str]:
    """The file system of `uri` and the path inside it; local paths become absolute.

    Raises ConfigurationError for a scheme that no installed package serves.
    """
    try:
        fs, path = fsspec.core.url_to_fs(os.path.expanduser(uri))  # noqa: PTH111 (a URI, not a path)
    except (ValueError, ImportError) as error:
        raise ConfigurationError(f"cannot use {uri!r}: {error}; give a local path, file:// or s3:// URI") from error
    return fs, path


def is_local(uri: str) -> bool:
    """True where `uri` names a path of this machine."""
    return isinstance(resolve(uri)[0], LocalFileSystem)


def absolute(uri: str) -> str:
    """`uri` in a form that means the same in every worker: local paths become absolute, other URIs stay."""
    fs, path = resolve(uri)
    return path if isinstance(fs, LocalFileSystem) else uri


def join(uri: str, *parts: str) -> str:
    """`uri/part/part` with single slashes between."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def arrow_filesystem(uri: str) -> tuple[FileSystem, str]:
    """The same place for pyarrow and Ray Data: a pyarrow file system and the path in it."""
    fs, path = resolve(uri)
    return (ArrowLocalFileSystem() if isinstance(fs, LocalFileSystem) else PyFileSystem(FSSpecHandler(fs))), path


def exists(uri: str) -> bool:
    """True where a file or a folder stands at `uri`."""
    fs, path = resolve(uri)
    return bool(fs.exists(path))


def read_bytes(uri: str) -> bytes:
    """The whole content of one object. Raises FileNotFoundError and what the storage raises."""
    fs, path = resolve(uri)
    return bytes(fs.cat_file(path))


def write_bytes(uri: str, data: bytes) -> None:
    """Write one object whole: a reader sees the old content or the new, never half (a rename on local disks)."""
    fs, path = resolve(uri)
    if not isinstance(fs, LocalFileSystem):
        fs.pipe_file(path, data)  # an object store shows an object only once it is complete
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    temporary.write_bytes(data)
    temporary.replace(target)


def list_files(uri: str, suffix: str = "") -> list[str]:
    """URIs of all files at or below `uri` whose name ends with `suffix`, sorted. Empty where nothing is there."""
    fs, path = resolve(uri)
    found = [path] if fs.isfile(path) else sorted(fs.find(path))
    names = [name for name in found if name.endswith(suffix) and not Path(name).name.startswith((".", "_"))]
    return [str(name) if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(name) for name in names]


def fetch_folder(uri: str, destination: Path) -> Path:
    """A local folder with the files of `uri`: the folder itself where it is local, else a copy in `destination`."""
    fs, path = resolve(uri)
    if isinstance(fs, LocalFileSystem):
        return Path(path)
    destination.mkdir(parents=True, exist_ok=True)
    for name in fs.find(path):
        relative = name[len(path) :].lstrip("/")
        local = destination / relative
        local.parent.mkdir(parents=True, exist_ok=True)
        fs.get_file(name, str(local))
    return destination


def worker_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The storage variables that are set here, for `runtime_env={"env_vars": …}` of Ray workers."""
    return {name: environment[name] for name in STORAGE_ENVIRONMENT if name in environment}
