"""Read, write and list files by their URIs: local folders, S3 and every other storage that fsspec knows.

Requests to S3 are repeated while it fails (`pipelines.storage.s3`); other remote storages are retried as their own
clients do it.

The endpoint and credentials of S3 come from the usual environment variables (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …),
which the job forwards to every Ray worker (`worker_environment`), or from the machine's role. The file system objects
that are made here hold no secrets, so they may be sent to Ray tasks.
"""

import contextlib
import errno
import logging
import os
import re
import shutil
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

#: Environment variables with the endpoint and credentials of S3. Every FSSPEC_* variable (fsspec's own way to configure
#: any scheme) is forwarded as well.
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

#: Seconds until reading or writing one object fails, for remote storages other than S3.
OBJECT_TIMEOUT = 600

#: Size of the parts in which S3 objects of at least twice this size are sent. Only a failed part is sent again.
PART_BYTES = 16 << 20

_PRECONDITION_FAILED = 412
#: Names of local files that are being written.
TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.part")
#: Error numbers of file systems without hard links.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


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


def exists(uri: str) -> bool:
    """Return whether there is a file or folder at `uri`. Raises one of STORAGE_ERRORS if the storage cannot answer."""
    fs, path = resolve(uri)
    return bool(fs.exists(path))


def read_bytes(uri: str, limit: int | None = None) -> bytes:
    """Return the content of one object, or its first `limit` bytes in a single request.

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
    """Return a text that changes when the object changes, from its metadata alone.

    It has the ETag and size, or the modification time and size (local files: in nanoseconds, with the inode). None if
    the storage states neither ETag nor time. Raises one of STORAGE_ERRORS.
    """
    # Called for millions of files: local paths do not go through fsspec, which is slower.
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


def _local_version(status: os.stat_result) -> str:
    return f"mtime:{status.st_mtime_ns}:{status.st_size}:{status.st_ino}"


def write_bytes(uri: str, data: bytes, through: str | None = None) -> None:
    """Write one object atomically: a reader sees the old content or the new. Writing it twice does no harm.

    Missing local folders are made. A local file is written under a temporary name and then renamed. through: folder for
    temporary files, so that removing this folder removes what killed processes left; by default, and if `through` is
    on another file system, the temporary file is beside `uri`. Raises one of STORAGE_ERRORS.
    """
    fs, path = resolve(uri)
    if not isinstance(fs, LocalFileSystem):
        # An object store shows an object only when it is complete.
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
    # A random name: the target's may already have the 255 bytes that a name may have, and process ids may be equal if
    # two machines that share the folder run the same task.
    temporary = folder / f".{uuid.uuid4().hex}.part"
    try:
        temporary.write_bytes(data)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def create_bytes(uri: str, data: bytes) -> bool:
    """Write one object atomically unless it exists, and return whether this call wrote it.

    Of several callers at the same time, only one gets True. Each caller needs its own `data` (with a run's id, for
    example): if the storage's answer was lost and the object holds `data`, this call has written it. Local files are
    created by a hard link. S3 gets `If-None-Match: *`, which AWS, Ceph and SeaweedFS honour. For a store that ignores
    it, and for other schemes, only a check before the write remains, which two callers may pass at the same time.
    Raises one of STORAGE_ERRORS.
    """
    fs, path = resolve(uri)
    if isinstance(fs, LocalFileSystem):
        return _create_local(Path(path), data)
    with contextlib.suppress(FileNotFoundError):  # removed after the check
        return _create_remote(fs, path, data) or bool(fs.cat_file(path) == data)
    return False


def _create_remote(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """Return whether the storage confirms that this call wrote the object."""
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
    """Create a file without hard links. Only one caller succeeds, but a reader may see the file before its content."""
    try:
        with target.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


@contextlib.contextmanager
def whole_file(uri: str) -> Iterator[Path]:
    """Yield a local path for a large file, which is at `uri` after the block; an error leaves nothing there.

    If `uri` is local, the file is written in its folder under a temporary name and then renamed. Otherwise it is
    written to this machine's temporary folder (TMPDIR) and uploaded in parts. Raises one of STORAGE_ERRORS.
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
    """Call `put`, and repeat it if S3 does not know the upload in parts: it has ended, but its answer was lost."""
    put()


def list_files(uri: str, suffix: str = "", follow_links: bool = False) -> list[str]:
    """Return the URIs of all files at or below `uri` whose names end with `suffix`, sorted; empty if there are none.

    Files and folders below `uri` whose names begin with . or _ are left out: markers, and writes in progress.
    follow_links: enter links to local folders, each folder once (`LinkedFolders`). Do not use it on files that will be
    removed, because links lead out of `uri`. Raises one of STORAGE_ERRORS.
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
    except FileNotFoundError:  # removed since its parent was listed
        return
    yield from (f"{folder.rstrip('/')}/{name}" for name in files if not is_hidden(name))
    for name in sorted(name for name in folders if not is_hidden(name)):
        below, is_link = f"{folder.rstrip('/')}/{name}", folders[name]
        if not is_link if links is None else links.enters(below, is_link):
            yield from _files_in(below, links)


def is_pattern(uri: str) -> bool:
    """Return whether `uri` has wildcards and is not itself the name of a file. Raises one of STORAGE_ERRORS."""
    return WILDCARDS.search(uri) is not None and not exists(uri)


def files_matching(pattern: str) -> list[str]:
    """Return the URIs of the files that match `pattern`, and of those below folders that match it, sorted.

    Wildcards are those of a shell: * and ? for characters of one name, [a-z] for one of several. A name that begins
    with . or _ matches only if the pattern's part begins with it too. Raises ConfigurationError for **, and one of
    STORAGE_ERRORS.
    """
    fs, path = resolve(pattern)
    if "**" in path:
        raise ConfigurationError(
            f"{pattern}: ** is not supported; name the folder, and all files in it are read"
        )
    if isinstance(fs, LocalFileSystem):
        matches = _local_matches(path)
    else:
        matches = {name: info["type"] == "directory" for name, info in fs.glob(path, detail=True).items()}
    files: list[str] = []
    for name, is_folder in matches.items():
        parts = zip(name.split("/"), path.split("/"), strict=False)
        if not any(is_hidden(part) and wanted[:1] != part[0] for part, wanted in parts):
            uri = name if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(name)
            files += list_files(uri, follow_links=True) if is_folder else [uri]
    return sorted(files)


def _local_matches(pattern: str) -> dict[str, bool]:
    """Return the paths that match an absolute pattern, each with whether it is a folder.

    Python's own globbing silently skips folders that may not be read, and fsspec's skips links to folders.
    """
    parents = {"": True}
    for wanted in pattern.strip("/").split("/"):
        matches: dict[str, bool] = {}
        for folder in (path for path, is_folder in parents.items() if is_folder):
            if WILDCARDS.search(wanted):
                folders, files = scan(folder or "/")
                names = [name for name in (*folders, *files) if fnmatchcase(name, wanted)]
                matches |= {f"{folder}/{name}": name in folders for name in names}
            elif Path(f"{folder}/{wanted}").exists():
                matches[f"{folder}/{wanted}"] = Path(f"{folder}/{wanted}").is_dir()
        parents = matches
    return parents


def fetch_folder(uri: str, destination: Path) -> Path:
    """Return a local folder with the files of `uri`: `uri` itself if it is local, else a copy in `destination`.

    Raises one of STORAGE_ERRORS, and ConfigurationError if a remote `uri` has no files, or if the name of an object
    would place its copy outside `destination`.
    """
    fs, path = resolve(uri)
    if isinstance(fs, LocalFileSystem):
        return Path(path)
    names = _files_below(fs, path)
    if not names:
        raise ConfigurationError(f"there is nothing at {uri}; check the bucket and the path")
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
    """Turn errors of the storage in the block into a ConfigurationError that names `flag` and the remedy.

    action: what the block does with `uri`, for messages such as "cannot read s3://…". A ValueError also counts as an
    error of the storage, so the block should only read or write.
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
    """Raise ConfigurationError, naming `flag` and the remedy, unless files can be written to the folder `uri`.

    Writes an empty object and removes it. A local folder is made if it is missing.
    """
    probe = join(uri, ".write-check")
    with as_configuration_error(uri, flag, "write"), impatient():
        write_bytes(probe, b"")
        fs, path = resolve(probe)
        with contextlib.suppress(
            PermissionError, FileNotFoundError
        ):  # no right to remove it, or another run already has
            fs.rm_file(path)


def remove(uri: str) -> None:
    """Remove the file or the whole folder at `uri`, if there is one. Raises one of STORAGE_ERRORS."""
    fs, path = resolve(uri)
    if isinstance(fs, PatientS3) and "/" in path:  # not a whole bucket
        if fs.isfile(path):
            fs.rm_file(path)
        fs.remove_below(path)
    elif fs.exists(path):
        fs.rm(path, recursive=True)


def move(uri: str, to: str) -> None:
    """Move one object within a storage, and replace what is at `to`. Do nothing if `uri` does not exist.

    Local files are renamed; remote objects are copied and then removed, so that a repetition after any interruption
    has the same result. Raises one of STORAGE_ERRORS.
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


def copy(uri: str, to: str) -> None:
    """Copy one object within a storage, and replace what is at `to`. Do nothing if `uri` does not exist.

    A local file gets a second name (a hard link), if the file system has such links. That is a copy for whoever
    replaces files as a whole, which all of this project does. Raises one of STORAGE_ERRORS.
    """
    fs, path = resolve(uri)
    target = resolve(to)[1]
    if not fs.exists(path):
        return
    if not isinstance(fs, LocalFileSystem):
        fs.cp_file(path, target)
        return
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(target).with_name(f".{uuid.uuid4().hex}.part")
    try:
        try:
            os.link(path, temporary)
        except OSError as error:
            if error.errno not in {*_NO_LINKS, errno.EXDEV}:
                raise
            shutil.copyfile(path, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)  # it also stays if both are names of one file


def remove_unfinished(uri: str, recursive: bool = False) -> None:
    """Remove the temporary files that killed processes left in a local folder; with `recursive` also in those below it.

    Only files with the names that this module gives them are removed. Links below `uri` are not followed. Call it only
    if no other process writes there. Other storages show no unfinished objects. Raises one of STORAGE_ERRORS.
    """
    fs, path = resolve(uri)
    if not isinstance(fs, LocalFileSystem):
        return
    for folder, _, names in os.walk(path):
        for name in filter(TEMPORARY.fullmatch, names):
            (Path(folder) / name).unlink(missing_ok=True)
        if not recursive:
            return


def worker_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the storage variables of `environment`, for `runtime_env={"env_vars": …}` of Ray workers.

    Ray shows a job's runtime environment on its dashboard: on a shared cluster give the machines a role instead of
    setting keys in variables.
    """
    return {
        name: value
        for name, value in environment.items()
        if name in STORAGE_ENVIRONMENT or name.startswith("FSSPEC_")
    }


def _files_below(fs: AbstractFileSystem, path: str) -> list[str]:
    """Return the paths of the files at or below `path`, sorted, without the empty objects that mark folders on S3."""
    infos = fs.find(path, detail=True)
    return sorted(
        name for name, info in infos.items() if info.get("type") != "directory" and not name.endswith("/")
    )


def _patience(fs: AbstractFileSystem) -> dict[str, Any]:
    """Return the timeout argument for file systems that accept one; S3 has its own limits."""
    own = isinstance(fs, PatientS3) or not isinstance(fs, AsyncFileSystem)
    return {} if own else {"timeout": OBJECT_TIMEOUT}


def _sending(fs: AbstractFileSystem) -> dict[str, Any]:
    return {"chunksize": PART_BYTES} if isinstance(fs, PatientS3) else _patience(fs)


def _is_range_of_nothing(error: OSError) -> bool:
    """Return whether S3 refused a range because the object is empty."""
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("Error", {}).get("Code") == "InvalidRange"


def _is_hidden(relative: str) -> bool:
    return any(is_hidden(part) for part in PurePosixPath(relative.lstrip("/")).parts)
