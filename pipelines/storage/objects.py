"""Read, write, copy, move and remove files by their URIs.

A reader sees the old content or the new, never a part of either.
"""

import contextlib
import errno
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem
from tenacity import retry, retry_if_exception, stop_after_attempt

from pipelines.storage.file_uris import is_file_uri
from pipelines.storage.s3 import PatientS3, status_of
from pipelines.storage.uris import resolve

#: Seconds until reading or writing one object fails, for remote storages other than S3.
OBJECT_TIMEOUT = 600

#: Size of the parts in which S3 objects of at least twice this size are sent. Only a failed part is sent again.
PART_BYTES = 16 << 20

_PRECONDITION_FAILED = 412
#: Names of local files that are being written.
TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.part")
#: Error numbers of file systems without hard links.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


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
