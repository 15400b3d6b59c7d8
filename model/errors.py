"""Exceptions. One base class, so that a job can tell our complaints from a defect in the code."""

from collections.abc import Iterator
from contextlib import contextmanager


class CatalogRepairError(Exception):
    """Base of every error that this project raises on purpose. Its message names the remedy."""


class ConfigurationError(CatalogRepairError):
    """A wrong flag, file or setting: the job exits with code 2 before it touches any image."""


class RunError(CatalogRepairError):
    """A run that broke off after it had begun, or whose outputs cannot be trusted: exit code 1."""


class TooManyFailedError(RunError):
    """A run that was ended because so many images failed that something else is wrong: exit code 3."""


class BundleError(ConfigurationError):
    """A model bundle that is missing, incomplete, altered, or does not fit what it is used for."""


@contextmanager
def underway() -> Iterator[None]:
    """For a run that has begun to write: a ConfigurationError becomes a RunError.

    A bundle may have changed meanwhile, or a worker lacks what the driver has: that is no wrong command line any more,
    and its exit code must not say that nothing was written.
    """
    try:
        yield
    except ConfigurationError as error:
        raise RunError(f"the run broke off: {error}") from error
