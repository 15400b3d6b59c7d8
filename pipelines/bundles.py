"""Model bundles from any storage."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from model.bundle import STARTER, Bundle, load_bundle
from model.errors import BundleError
from pipelines import storage

Loaded = TypeVar("Loaded")


def read_bundle(uri: str | None, flag: str = "--model") -> Bundle:
    """The bundle at `uri`, fetched where it is remote; None: the starter, wherever this machine has it.

    Raises ConfigurationError naming the flag.
    """
    return load_bundle(STARTER) if uri is None else fetched(uri, flag, load_bundle)


def fetched(uri: str, flag: str, load: Callable[[Path], Loaded]) -> Loaded:
    """What `load` makes of the folder at `uri`, fetched where it is remote.

    Raises ConfigurationError naming the flag.
    """
    storage.check_readable(uri, flag)
    with tempfile.TemporaryDirectory(prefix="bundle-") as scratch:
        with storage.as_configuration_error(uri, flag, "read"):
            folder = storage.fetch_folder(uri, Path(scratch) / "bundle")
        try:
            return load(folder)
        except BundleError as error:
            raise BundleError(f"{flag} {uri}: {error}") from error
