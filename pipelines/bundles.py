"""Model bundles from any storage."""

import tempfile
from pathlib import Path

from model.bundle import STARTER, Bundle, load_bundle
from model.errors import BundleError
from pipelines import storage


def read_bundle(uri: str | None, flag: str = "--model") -> Bundle:
    """The bundle at `uri`, fetched where it is remote; None: the starter, wherever this machine has it.

    Raises ConfigurationError naming the flag.
    """
    if uri is None:
        return load_bundle(STARTER)
    storage.check_readable(uri, flag)
    with tempfile.TemporaryDirectory(prefix="bundle-") as scratch:
        with storage.as_configuration_error(uri, flag, "read"):
            folder = storage.fetch_folder(uri, Path(scratch) / "bundle")
        try:
            return load_bundle(folder)
        except BundleError as error:
            raise BundleError(f"{flag} {uri}: {error}") from error
