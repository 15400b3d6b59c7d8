"""Files inside installed packages, which are read and never imported."""

import importlib.metadata
from pathlib import Path


def packaged_file(package: str, name: str) -> Path | None:
    """Return the file called `name` of an installed package; None if the package is not installed or lacks it."""
    try:
        files = importlib.metadata.distribution(package).files or []
    except importlib.metadata.PackageNotFoundError:
        return None
    located = [Path(str(file.locate())) for file in files if file.name == name]
    return next((file for file in located if file.is_file()), None)
