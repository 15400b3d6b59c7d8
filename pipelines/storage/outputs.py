"""What a job owns in its --output: whether it is there already, whether an input lies in it, and its removal."""

from collections.abc import Iterable, Sequence

from model.errors import ConfigurationError
from pipelines import storage


def present(output: str, owned: Iterable[str], flag: str = "--output") -> list[str]:
    """Return which of `owned` the folder holds. Raises ConfigurationError where it is a file or cannot be read."""
    with storage.as_configuration_error(output, flag, "read"):
        fs, path = storage.resolve(output)
        if fs.isfile(path):
            raise ConfigurationError(f"{flag} {output}: is a file; give a folder")
        return [name for name in owned if storage.exists(storage.join(output, name))]


def lies_in(uri: str, places: Iterable[str]) -> bool:
    """Return whether `uri` is one of `places` or lies below one."""
    path = storage.resolve(uri)[1]
    return any(f"{path}/".startswith(f"{storage.resolve(place)[1]}/") for place in places)


def first_inside(inputs: Iterable[str], output: str, owned: Sequence[str]) -> str | None:
    """Return the first of `inputs` that is one of `owned` or lies in one, and would be written over; None where none
    does.
    """
    places = [storage.join(output, name) for name in owned]
    return next((uri for uri in inputs if lies_in(uri, places)), None)


def remove_unfinished(output: str, owned: Iterable[str]) -> None:
    """Remove the temporary files that killed runs left in `output` and, at any depth, in its folders `owned`.

    Call it only while holding the output's lock. Raises ConfigurationError.
    """
    with storage.as_configuration_error(output, "--output", "write"):
        storage.remove_unfinished(output)
        for name in owned:
            storage.remove_unfinished(storage.join(output, name), recursive=True)


def remove(output: str, owned: Iterable[str]) -> None:
    """Remove all of `owned` that is there. Raises ConfigurationError."""
    with storage.as_configuration_error(output, "--overwrite", "replace"):
        for name in owned:
            storage.remove(storage.join(output, name))
