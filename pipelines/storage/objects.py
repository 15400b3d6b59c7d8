"""Storage behind URIs: local folders, S3 and whatever else fsspec knows.

S3 is asked again while it fails (`pipelines.storage.s3`); other remote storages have what their own clients do.

Endpoint and credentials of S3 come from the usual environment variables (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
…), which the job forwards to every Ray worker (`worker_environment`), or from the machine's role. No file
system object made here holds a secret, so they may travel to Ray tasks.
"""

import contextlib
import errno
import logging
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem
from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem
from pyarrow.fs import LocalFileSystem as ArrowLocalFileSystem
from tenacity import retry, retry_if_exception, stop_after_attempt

from model.errors import ConfigurationError
from pipelines.storage.errors import STORAGE_ERRORS, WILDCARDS, explain
from pipelines.storage.file_uris import is_file_uri, path_of
from pipelines.storage.linked_folders import LinkedFolders, is_hidden, scan
from pipelines.storage.s3 import PatientS3, impatient, status_of

logger = logging.getLogger(__name__)

#: Environment variables that decide where S3 is and who we are there; every FSSPEC_* variable (fsspec's own
#: way to configure any scheme) is forwarded as well.
STORAGE_ENVIRONMENT = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_CA_BUNDLE",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
)

_CHECKED: tuple[type[Exception], ...] = (*STORAGE_ERRORS, ValueError)  # ValueError: a malformed endpoint

#: Seconds after which reading or writing one object of a remote storage other than S3 is given up.
OBJECT_TIMEOUT = 600

#: S3 objects of twice this size and more are sent in parts of it: a part is what is sent again when it fails.
PART_BYTES = 16 << 20

_PRECONDITION_FAILED = 412
#: What the system says where a file system has no hard links.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def resolve(uri: str) -> tuple[AbstractFileSystem, str]:
    """The file system of `uri` and the path inside it; local paths become absolute, file:// URIs are percent-decoded.

    Listings are not cached: what a worker has just written is seen here. Raises ConfigurationError for an
    empty URI or a scheme that no installed package serves.
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
        # Only here: the process's other users of fsspec keep its own S3.
        options = PatientS3._get_kwargs_from_urls(uri)
        return PatientS3(**options, use_listings_cache=False), PatientS3._strip_protocol(uri)
    fs, path = fsspec.core.url_to_fs(uri, use_listings_cache=False)
    return fs, path


def is_local(uri: str) -> bool:
    """True where `uri` names a path of this machine."""
    return isinstance(resolve(uri)[0], LocalFileSystem)


def absolute(uri: str) -> str:
    """`uri` in a form that means the same in every worker and every run: local paths become absolute, a last slash
    goes.
    """
    try:
        fs, path = resolve(uri)
    except OSError as error:  # some clients connect at once
        raise ConfigurationError(f"cannot use {uri!r}: {error}; see that the server is there") from error
    if isinstance(fs, LocalFileSystem):
        return path
    return re.sub(
        "^s3a://", "s3://", uri.rstrip("/")
    )  # listings have the usual name: what is compared must agree


def join(uri: str, *parts: str) -> str:
    """`uri/part/part` with single slashes between."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def arrow_filesystem(uri: str) -> tuple[FileSystem, str]:
    """The same place for pyarrow and Ray Data: a pyarrow file system and the path in it."""
    fs, path = resolve(uri)
    return (
        ArrowLocalFileSystem() if isinstance(fs, LocalFileSystem) else PyFileSystem(FSSpecHandler(fs))
    ), path


def exists(uri: str) -> bool:
    """True where a file or a folder stands at `uri`. Raises one of STORAGE_ERRORS where that is unknown."""
    fs, path = resolve(uri)
    return bool(fs.exists(path))


def read_bytes(uri: str, limit: int | None = None) -> bytes:
    """The content of one object, or its first `limit` bytes in a single request.

    Raises one of STORAGE_ERRORS: FileNotFoundError, PermissionError, …
    """
    fs, path = resolve(uri)
    if limit is None:
        return bytes(fs.cat_file(path, **_patience(fs)))
    try:
        return bytes(fs.cat_file(path, start=0, end=limit, **_patience(fs)))
    except OSError as error:
        if _is_range_of_nothing(error):
            return b""
        raise


def version(uri: str) -> str | None:
    """What the storage says of an object without reading it, as text that changes when the object does.

    ETag and size, or time of change (local: to the nanosecond, and the inode) and size; None where it says neither.
    Raises one of STORAGE_ERRORS.
    """
    # A million of these are asked for: without the way through fsspec.
    if "://" not in uri and not is_file_uri(uri):
        return _local_version(Path(uri).expanduser().stat())
    fs, path = resolve(uri)
    if isinstance(fs, LocalFileSystem):
        return _local_version(Path(path).stat())
    info = fs.info(path)
    size = info.get("size")
    etag = info.get("ETag") or info.get("etag")
    if etag:
        return f"etag:{str(etag).strip(chr(34))}:{size}"
    changed = next(
        (info[name] for name in ("LastModified", "last_modified", "updated", "mtime") if name in info), None
    )
    return None if changed is None else f"mtime:{changed}:{size}"


def _local_version(found: os.stat_result) -> str:
    return f"mtime:{found.st_mtime_ns}:{found.st_size}:{found.st_ino}"


def write_bytes(uri: str, data: bytes, through: str | None = None) -> None:
    """Write one object whole: a reader sees the old content or the new, never half, and a repetition changes
    nothing.

    Local folders are made as needed, and the content gets its name by a rename. through: folder in which a local file
    is written before that, so that who removes it removes what killed processes have left; default: beside `uri`, as
    where the two are not on one file system. Raises one of STORAGE_ERRORS.
    """
    fs, path = resolve(uri)
    if not isinstance(fs, LocalFileSystem):
        # An object store shows an object only once it is complete.
        _upload(lambda: fs.pipe_file(path, data, **_sending(fs)))
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if through is not None:
        folder = Path(resolve(through)[1])
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _write_and_rename(data, folder, target)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
    _write_and_rename(data, target.parent, target)


def _write_and_rename(data: bytes, folder: Path, target: Path) -> None:
    # Not named after the target (a name may have 255 bytes), and not after this process: two attempts of one
    # task may run on two machines that share the folder.
    temporary = folder / f".{uuid.uuid4().hex}.part"
    try:
        temporary.write_bytes(data)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def create_bytes(uri: str, data: bytes) -> bool:
    """Write one object whole unless there is one: True where it was written, False where something stood there.

    Of several callers at once one is told True. `data` must tell callers apart (a run's id, say): where an answer was
    lost and the object is found to hold `data`, it counts as written by this call. Local folders: by a hard link. S3:
    `If-None-Match: *`, which AWS, Ceph and SeaweedFS honour; a store that ignores it, and any other scheme, gets a
    look before the write, which two callers may pass at once. Raises one of STORAGE_ERRORS.
    """
    fs, path = resolve(uri)
    if isinstance(fs, LocalFileSystem):
        return _create_local(Path(path), data)
    with contextlib.suppress(FileNotFoundError):  # removed after it had been seen
        return _create_remote(fs, path, data) or bool(fs.cat_file(path) == data)
    return False


def _create_remote(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """True where the storage says that this call wrote the object."""
    try:
        if fs.exists(path):
            return False
        fs.pipe_file(path, data, mode="create", **_sending(fs))
    except FileExistsError:
        return False
    except OSError as error:
        if status_of(error)[0] != _PRECONDITION_FAILED:
            raise
        return False
    return True


def _create_local(target: Path, data: bytes) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        temporary.write_bytes(data)
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _create_unlinked(target, data)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _create_unlinked(target: Path, data: bytes) -> bool:
    """For file systems without hard links: still one winner, but a reader may see the file before its content."""
    try:
        with target.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


@contextlib.contextmanager
def whole_file(uri: str) -> Iterator[Path]:
    """A local path to write one large file to, piece by piece; behind the block it is at `uri`, whole or not at all.

    Where `uri` is local the file grows in its folder and gets its name by a rename; elsewhere it grows in this
    machine's temporary folder (TMPDIR) and is uploaded in parts. Raises one of STORAGE_ERRORS.
    """
    fs, path = resolve(uri)
    if isinstance(fs, LocalFileSystem):
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{uuid.uuid4().hex}.part")  # see `write_bytes`
        try:
            yield temporary
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "part"
        yield temporary
        _upload(lambda: fs.put_file(str(temporary), path, **_sending(fs)))


@retry(
    retry=retry_if_exception(lambda error: status_of(error)[1] == "NoSuchUpload"),
    stop=stop_after_attempt(3),
    reraise=True,
)
def _upload(put: Callable[[], object]) -> None:
    """An upload in parts whose last answer was lost is gone when it is asked for again: it is sent once more."""
    put()


def list_files(uri: str, suffix: str = "", follow_links: bool = False) -> list[str]:
    """URIs of all files at or below `uri` whose name ends with `suffix`, sorted. Empty where nothing is.

    Files and folders below `uri` whose name begins with . or _ are left out: markers, and writes in progress.
    follow_links: those to local folders, to each folder once (`LinkedFolders`). It is for what is only read; without it
    they are left out, for who removes what is listed must not come to other places. Raises one of STORAGE_ERRORS.
    """
    fs, path = resolve(uri)
    if isinstance(fs, LocalFileSystem):
        links = LinkedFolders(path) if follow_links else None
        names = sorted(name for name in _local_files(path, links) if name.endswith(suffix))
        if links is not None and (note := links.note()):
            logger.warning("%s", note)
        return names
    names = [name for name in _files_below(fs, path) if name.endswith(suffix)]
    return [fs.unstrip_protocol(name) for name in names if not _is_hidden(name[len(path) :])]


def _local_files(path: str, links: LinkedFolders | None) -> Iterator[str]:
    if Path(path).is_dir():
        yield from _files_in(path, links)
    elif Path(path).exists():
        yield path


def _files_in(folder: str, links: LinkedFolders | None) -> Iterator[str]:
    try:
        folders, files = scan(folder)
    except FileNotFoundError:  # removed meanwhile
        return
    yield from (f"{folder.rstrip('/')}/{name}" for name in files if not is_hidden(name))
    for name in sorted(name for name in folders if not is_hidden(name)):
        below, is_link = f"{folder.rstrip('/')}/{name}", folders[name]
        if not is_link if links is None else links.enters(below, is_link):
            yield from _files_in(below, links)


def is_pattern(uri: str) -> bool:
    """True where `uri` has wildcards and nothing is called just so. Raises one of STORAGE_ERRORS."""
    return WILDCARDS.search(uri) is not None and not exists(uri)


def files_matching(pattern: str) -> list[str]:
    """URIs of the files that match `pattern`, and of those below folders that do, sorted.

    Wildcards are a shell's: * and ? for letters of one name, [a-z] for one of several; what begins with . or _ must be
    named. Raises ConfigurationError for **, and one of STORAGE_ERRORS.
    """
    fs, path = resolve(pattern)
    if "**" in path:
        raise ConfigurationError(f"{pattern}: there is no **; name the folder, and all that is in it is read")
    if isinstance(fs, LocalFileSystem):
        found = _local_matches(path)
    else:
        found = {name: info["type"] == "directory" for name, info in fs.glob(path, detail=True).items()}
    files: list[str] = []
    for name, is_folder in found.items():
        parts = zip(name.split("/"), path.split("/"), strict=False)
        if not any(is_hidden(part) and wanted[:1] != part[0] for part, wanted in parts):
            uri = name if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(name)
            files += list_files(uri, follow_links=True) if is_folder else [uri]
    return sorted(files)


def _local_matches(pattern: str) -> dict[str, bool]:
    """Paths that match an absolute pattern, and which are folders. Python's own globbing passes over folders that may
    not be read, fsspec's over links to folders.
    """
    found = {"": True}
    for wanted in pattern.strip("/").split("/"):
        matches: dict[str, bool] = {}
        for folder in (path for path, is_folder in found.items() if is_folder):
            if WILDCARDS.search(wanted):
                folders, files = scan(folder or "/")
                names = [name for name in (*folders, *files) if fnmatchcase(name, wanted)]
                matches |= {f"{folder}/{name}": name in folders for name in names}
            elif Path(f"{folder}/{wanted}").exists():
                matches[f"{folder}/{wanted}"] = Path(f"{folder}/{wanted}").is_dir()
        found = matches
    return found


def fetch_folder(uri: str, destination: Path) -> Path:
    """A local folder with the files of `uri`: itself where it is local, else a copy in `destination`.

    Raises one of STORAGE_ERRORS, and ConfigurationError where nothing is at a remote `uri` or an object's
    name would leave `destination`.
    """
    fs, path = resolve(uri)
    if isinstance(fs, LocalFileSystem):
        return Path(path)
    names = _files_below(fs, path)
    if not names:
        raise ConfigurationError(f"nothing at {uri}; check the bucket and the path")
    for name in names:
        relative = PurePosixPath(name[len(path) :].lstrip("/") or PurePosixPath(name).name)
        if ".." in relative.parts:
            raise ConfigurationError(
                f"{uri} holds an object named {name!r}: it would be written outside its folder"
            )
        local = destination / relative
        local.parent.mkdir(parents=True, exist_ok=True)
        fs.get_file(name, str(local))
    return destination


@contextlib.contextmanager
def as_configuration_error(uri: str, flag: str, action: str) -> Iterator[None]:
    """Turn what the storage raises inside the block into a ConfigurationError that names `flag` and the remedy.

    action: what the block does with `uri`, as in "cannot read s3://…". A ValueError counts as the storage's
    fault too, so keep blocks to reading and writing.
    """
    try:
        yield
    except ConfigurationError as error:
        if str(error).startswith(flag):
            raise
        raise ConfigurationError(f"{flag}: {error}") from error
    except _CHECKED as error:
        raise ConfigurationError(f"{flag}: cannot {action} {uri}: {explain(error, uri)}") from error


def check_readable(uri: str, flag: str) -> None:
    """Raise ConfigurationError, naming `flag` and the remedy, unless the file or folder `uri` can be read."""
    with as_configuration_error(uri, flag, "read"), impatient():
        fs, path = resolve(uri)
        if fs.info(path)["type"] == "directory":
            fs.ls(path, detail=False)
        else:
            read_bytes(uri, limit=1)


def check_writable(uri: str, flag: str) -> None:
    """Raise ConfigurationError, naming `flag` and the remedy, unless files can be written below the folder
    `uri` now.

    Writes an empty object and removes it; a local folder is made.
    """
    probe = join(uri, ".write-check")
    with as_configuration_error(uri, flag, "write"), impatient():
        write_bytes(probe, b"")
        fs, path = resolve(probe)
        with contextlib.suppress(
            PermissionError, FileNotFoundError
        ):  # may write but not delete; another run was faster
            fs.rm_file(path)


def remove(uri: str) -> None:
    """Remove the file or the whole folder at `uri`, where there is one. Raises one of STORAGE_ERRORS."""
    fs, path = resolve(uri)
    if fs.exists(path):
        fs.rm(path, recursive=True)


def move(uri: str, to: str) -> None:
    """Give one object of a storage another name there, replacing what has it; nothing where `uri` is gone.

    Local: a rename; elsewhere a copy and a removal, so that a repetition after any interruption ends the same. Raises
    one of STORAGE_ERRORS.
    """
    fs, path = resolve(uri)
    target = resolve(to)[1]
    if not fs.exists(path):
        return
    if isinstance(fs, LocalFileSystem):
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(path).replace(target)
        return
    fs.cp_file(path, target)
    fs.rm_file(path)


def remove_unfinished(uri: str) -> None:
    """Remove what `write_bytes` and `whole_file` left below a local folder when their process was killed.

    For when nobody writes there any more. Other storages show no unfinished objects.
    """
    fs, path = resolve(uri)
    if isinstance(fs, LocalFileSystem) and Path(path).is_dir():
        for part in Path(path).glob(".*.part"):
            part.unlink(missing_ok=True)


def worker_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The storage variables that are set here, for `runtime_env={"env_vars": …}` of Ray workers.

    Ray shows a job's runtime environment on its dashboard: on a shared cluster give the machines a role
    instead of setting keys here.
    """
    return {
        name: value
        for name, value in environment.items()
        if name in STORAGE_ENVIRONMENT or name.startswith("FSSPEC_")
    }


def _files_below(fs: AbstractFileSystem, path: str) -> list[str]:
    """Paths of the files at or below `path`, sorted; without the empty objects that mark folders on S3."""
    found = fs.find(path, detail=True)
    return sorted(
        name for name, info in found.items() if info.get("type") != "directory" and not name.endswith("/")
    )


def _patience(fs: AbstractFileSystem) -> dict[str, Any]:
    """The timeout argument, for file systems that take one; S3 has its own."""
    own = isinstance(fs, PatientS3) or not isinstance(fs, AsyncFileSystem)
    return {} if own else {"timeout": OBJECT_TIMEOUT}


def _sending(fs: AbstractFileSystem) -> dict[str, Any]:
    return {"chunksize": PART_BYTES} if isinstance(fs, PatientS3) else _patience(fs)


def _is_range_of_nothing(error: OSError) -> bool:
    """True where S3 refused a range because the object is empty."""
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("Error", {}).get("Code") == "InvalidRange"


def _is_hidden(relative: str) -> bool:
    return any(is_hidden(part) for part in PurePosixPath(relative.lstrip("/")).parts)
