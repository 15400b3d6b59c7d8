import inspect

from model import errors
from model.errors import BundleError, CatalogRepairError, ConfigurationError


def test_one_base_class_catches_every_error() -> None:
    classes = [c for c in vars(errors).values() if inspect.isclass(c) and c.__module__ == errors.__name__]
    assert {ConfigurationError, BundleError} <= set(classes)
    assert all(issubclass(value, CatalogRepairError) for value in classes)


def test_a_bad_bundle_is_a_configuration_error() -> None:
    """A job then exits with 2, before it touches any image."""
    assert issubclass(BundleError, ConfigurationError)
