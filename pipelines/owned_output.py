"""What a job owns in its --output: whether it is there already, whether an input lies in it, and its removal."""

from collections.abc import Iterable, Sequence

from model.errors import ConfigurationError
from pipelines import storage


def present(output: str, owned: Sequence[str]) -> list[str]:
    """Which of `owned` the folder holds. Raises ConfigurationError where it is a file or cannot be read."""
    with storage.as_configuration_error(output, "--output", "read"):
        fs, path = storage.resolve(output)
        if fs.isfile(path):
            raise ConfigurationError(f"--output {output} is a file; give a folder")
        return [name for name in owned if storage.exists(storage.join(output, name))]


def first_inside(inputs: Iterable[str], output: str, owned: Sequence[str]) -> str | None:
    """The first of `inputs` that is one of `owned` or lies in one, and would be written over; None where none does."""
    places = tuple(storage.resolve(storage.join(output, name))[1] + "/" for name in owned)
    return next((uri for uri in inputs if f"{storage.resolve(uri)[1]}/".startswith(places)), None)


def remove(output: str, owned: Sequence[str]) -> None:
    """Remove all of `owned` that is there. Raises ConfigurationError."""
    with storage.as_configuration_error(output, "--overwrite", "replace"):
        for name in owned:
            storage.remove(storage.join(output, name))
