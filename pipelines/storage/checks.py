"""Check that a place can be used before work begins, with messages that name the flag and the remedy."""

import contextlib
from collections.abc import Iterator

from model.errors import ConfigurationError
from pipelines.storage.errors import STORAGE_ERRORS, explain
from pipelines.storage.objects import read_bytes, write_bytes
from pipelines.storage.s3 import impatient
from pipelines.storage.uris import join, resolve

_CHECKED: tuple[type[Exception], ...] = (*STORAGE_ERRORS, ValueError)  # ValueError: a malformed endpoint


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
