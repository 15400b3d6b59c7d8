"""Reads and writes model bundles on any storage."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from model.bundle import CONFIG, STARTER, Bundle, load_bundle
from model.errors import BundleError
from pipelines import storage

Loaded = TypeVar("Loaded")


def read_bundle(uri: str | None, flag: str = "--model") -> Bundle:
    """Return the bundle at `uri`, downloaded if it is remote; None for the starter, which comes with the project.

    Raises ConfigurationError naming the flag.
    """
    return load_bundle(STARTER) if uri is None else fetched(uri, flag, load_bundle)


def fetched(uri: str, flag: str, load: Callable[[Path], Loaded]) -> Loaded:
    """Apply `load` to the folder at `uri`, downloaded if it is remote. Raises ConfigurationError naming the flag."""
    storage.check_readable(uri, flag)
    with tempfile.TemporaryDirectory(prefix="bundle-") as scratch:
        with storage.as_configuration_error(uri, flag, "read"):
            folder = storage.fetch_folder(uri, Path(scratch) / "bundle")
        try:
            return load(folder)
        except BundleError as error:
            raise BundleError(f"{flag} {uri}: {error}") from error


def upload(folder: Path, uri: str) -> None:
    """Write a bundle's files to the folder `uri`, config.json last: its hashes match only a complete bundle."""
    for file in sorted(folder.iterdir(), key=lambda file: (file.name == CONFIG, file.name)):
        storage.write_bytes(storage.join(uri, file.name), file.read_bytes())


def check_unchanged(version: str, expected: str, where: str) -> None:
    """Raise BundleError if a bundle's version has changed since the run began. where: its flag and URI."""
    if version != expected:
        raise BundleError(
            f"{where}: the bundle changed after the run began (version {version[:12]}, expected {expected[:12]}); "
            "write new bundles to new folders"
        )
