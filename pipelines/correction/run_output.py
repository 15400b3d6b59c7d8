"""The output folder of a correction run: unused at the start, marked complete at the end."""

import json
from collections.abc import Mapping
from typing import Any

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.correction.detected import LABELS_FOLDER
from pipelines.correction.rows import IMAGES, MANIFEST_FOLDER, SAMPLES, STRIPS

RUN, SUCCESS, REPORT = "run.json", "_SUCCESS", "report"
#: What a run writes and --overwrite removes; nothing else in the folder is touched.
OWNED = (SUCCESS, RUN, MANIFEST_FOLDER, IMAGES, REPORT, LABELS_FOLDER)
_FLAG = "--output"


def check_output(output: str, catalogs: tuple[str, ...], overwrite: bool) -> None:
    """Raise ConfigurationError where `output` holds a run already (unless it may be replaced) or is a
    catalog's part.

    Writes nothing.
    """
    for catalog in catalogs:
        if f"{output}/".startswith(f"{catalog.rstrip('/')}/"):
            raise ConfigurationError(
                f"{_FLAG} {output}: lies inside --catalog {catalog}, whose next reading would find the manifest; "
                "choose a folder outside"
            )
    for name in OWNED:
        place = storage.join(output, name) + "/"
        if any(f"{catalog}/".startswith(place) for catalog in catalogs):
            raise ConfigurationError(
                f"{_FLAG} {output}: the run writes (and with --overwrite first removes) {place}, where a --catalog "
                "lies; choose another folder"
            )
    fs, path = storage.resolve(output)
    try:
        if fs.isfile(path):
            raise ConfigurationError(f"{_FLAG} {output}: is a file; give a folder")
        used = storage.list_files(storage.join(output, MANIFEST_FOLDER), ".parquet")
    except storage.STORAGE_ERRORS as error:
        raise ConfigurationError(f"{_FLAG} {output}: cannot be listed: {error}") from error
    if used and not overwrite:
        raise ConfigurationError(
            f"{_FLAG} {output}: holds a manifest of an earlier run; choose another folder, or replace that run "
            "with --overwrite"
        )


def prepare_output(output: str, overwrite: bool) -> None:
    """Remove an earlier run where it may be replaced, and what an interrupted one left behind."""
    if overwrite:
        for name in OWNED:
            storage.remove(storage.join(output, name))
    remove_samples(output)


def remove_samples(output: str) -> None:
    """Remove the material of FID and the report."""
    for folder in (SAMPLES, STRIPS, storage.join(*SAMPLES.split("/")[:1])):
        storage.remove(storage.join(output, folder))


def write_run(output: str, run: Mapping[str, Any]) -> None:
    """Write run.json."""
    text = json.dumps(run, indent=2, sort_keys=True, default=str) + "\n"
    storage.write_bytes(storage.join(output, RUN), text.encode())


def mark_success(output: str) -> None:
    """Write _SUCCESS, the very last object of a complete run."""
    storage.write_bytes(storage.join(output, SUCCESS), b"")
