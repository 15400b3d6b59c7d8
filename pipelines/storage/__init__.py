"""Files wherever they are: local folders, S3 and what else fsspec knows; parquet in units of work; locks.

Call it as `storage.read_bytes(uri)`, after `from pipelines import storage`. Modules that are not listed here (`lock`,
`outputs`, `pages`, `parquet_units`, `s3`, …) are imported by name.
"""

from pipelines.storage.checks import as_configuration_error, check_readable, check_writable
from pipelines.storage.environment import worker_environment
from pipelines.storage.errors import STORAGE_ERRORS, explain
from pipelines.storage.listing import fetch_folder, files_matching, is_pattern, list_files
from pipelines.storage.objects import (
    TEMPORARY,
    copy,
    create_bytes,
    exists,
    move,
    read_bytes,
    remove,
    remove_unfinished,
    version,
    whole_file,
    write_bytes,
)
from pipelines.storage.s3 import impatient
from pipelines.storage.uris import absolute, arrow_filesystem, is_local, join, resolve

__all__ = [
    "STORAGE_ERRORS",
    "TEMPORARY",
    "absolute",
    "arrow_filesystem",
    "as_configuration_error",
    "check_readable",
    "check_writable",
    "copy",
    "create_bytes",
    "exists",
    "explain",
    "fetch_folder",
    "files_matching",
    "impatient",
    "is_local",
    "is_pattern",
    "join",
    "list_files",
    "move",
    "read_bytes",
    "remove",
    "remove_unfinished",
    "resolve",
    "version",
    "whole_file",
    "worker_environment",
    "write_bytes",
]
