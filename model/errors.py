"""Exceptions. They share one base class, so that a job can tell expected errors from defects in the code."""

from collections.abc import Iterator
from contextlib import contextmanager


class CatalogRepairError(Exception):
    """Base of every error that this project raises on purpose. Its message names the remedy.

    exit_code: what a job ends with that raises it.
    """

    exit_code = 1


class ConfigurationError(CatalogRepairError):
    """A wrong flag, file or setting: the job exits with code 2 before it touches any image."""

    exit_code = 2


class RunError(CatalogRepairError):
    """A run that failed after it had begun, or whose outputs cannot be trusted: exit code 1."""


class TooManyFailedError(RunError):
    """A run that was ended because the number of failed images points to another fault: exit code 3."""

    exit_code = 3


class BundleError(ConfigurationError):
    """A model bundle that is missing, incomplete, altered, or unfit for its use."""


@contextmanager
def underway() -> Iterator[None]:
    """Raise a ConfigurationError inside the block as a RunError, because the run has begun to write.

    A bundle may have changed since, or a worker may lack what the driver has. That is not a wrong command line, and its
    exit code must not mean that nothing was written.
    """
    try:
        yield
    except ConfigurationError as error:
        raise RunError(f"the run broke off: {error}") from error
