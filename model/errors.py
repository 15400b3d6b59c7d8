"""Exceptions. One base class, so that a job can tell our complaints from a defect in the code."""


class CatalogRepairError(Exception):
    """Base of every error that this project raises on purpose. Its message names the remedy."""


class ConfigurationError(CatalogRepairError):
    """A wrong flag, file or setting: the job exits with code 2 before it touches any image."""


class RunError(CatalogRepairError):
    """A run that broke off after it had begun, or whose outputs cannot be trusted: exit code 1."""


class BundleError(ConfigurationError):
    """A model bundle that is missing, incomplete, altered, or does not fit what it is used for."""
