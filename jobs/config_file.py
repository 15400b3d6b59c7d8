"""--config: a YAML file of flags, so that a long command line can be kept, reviewed and shared.

What a job prints before it starts, or with --dry-run, is such a file, too: JSON is YAML, and of a file with the key
`flags` that part alone counts.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import yaml

from model.errors import ConfigurationError
from pipelines.contracts.names import suggestion
from pipelines.storage import objects as storage

FLAG = "--config"
#: Key of a file that says more than flags.
PART = "flags"
#: How a file begins that a job has written.
FIRST_WORDS = "# The flags of the last run of"
#: Flags of one occasion, which a file that is used again must not repeat.
_ONCE = {"help", "config", "dry_run", "overwrite", "break_lock"}
#: Flags whose values are neither kept nor shown.
_SECRET = {"notify"}


class _Loader(yaml.SafeLoader):
    """YAML whose numbers stay as they are written: they become words, and 1:8 would be 68, a number to the base 60."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that stands there twice: YAML's own reader would keep the last one in silence."""
        names = [key.value for key, _ in node.value]
        twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(problem=f"{twice!r} stands there twice")
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith((":int", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def add(p: argparse.ArgumentParser) -> None:
    """Add --config."""
    p.add_argument(
        FLAG,
        metavar="YAML",
        help="file or URI whose keys are flags without their dashes and whose values are theirs (a list for several, "
        "true for a switch, null for nothing); flags on the command line win, or add up where they can be repeated; a "
        "switch that is on in the file stays on",
    )


def expand(p: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """The words of a command line, those of the file that --config names before them.

    Raises ConfigurationError naming the file and the key.
    """
    uri = _named(words)
    if uri is None:
        return list(words)
    with storage.as_configuration_error(uri, FLAG, "read"):
        data = storage.read_bytes(storage.absolute(uri))
    try:
        found = yaml.load(data, _Loader)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{FLAG} {uri}: no YAML ({' '.join(str(error).split())})") from error
    if isinstance(found, dict) and isinstance(found.get(PART), dict):
        found = found[PART]
    if not isinstance(found, dict):
        raise ConfigurationError(f"{FLAG} {uri}: give flags and their values, as in 'batch-size: 8'")
    return [word for key, value in found.items() for word in _words(p, uri, key, value)] + list(words)


def flags(p: argparse.ArgumentParser, arguments: argparse.Namespace) -> dict[str, Any]:
    """The flags of a parsed command line with their values, defaults included: a file of them gives the same."""
    found: dict[str, Any] = {}
    for action in p._actions:
        value = getattr(arguments, action.dest, None)
        if action.dest in _ONCE | _SECRET or not action.option_strings or value is None or value == []:
            continue
        name = next(one for one in action.option_strings if one.startswith("--")).removeprefix("--")
        is_switch = action.nargs == 0 and not isinstance(action, argparse.BooleanOptionalAction)
        if is_switch and value != action.const:
            continue
        is_range = isinstance(value, tuple)  # MIN:MAX, where one number stands for both
        found[name] = ":".join(map(str, dict.fromkeys(value))) if is_range else value
    return found


def to_yaml(p: argparse.ArgumentParser, arguments: argparse.Namespace) -> str:
    """Return the flags of a parsed command line as a file for --config."""
    plain = json.loads(json.dumps(flags(p, arguments), default=str))
    comment = f"{FIRST_WORDS} {p.prog} here. To use them again: {p.prog} {FLAG} THIS_FILE\n"
    return comment + yaml.safe_dump(plain, allow_unicode=True)


def _named(words: Sequence[str]) -> str | None:
    named = [words[number + 1] for number, word in enumerate(words[:-1]) if word == FLAG]
    named += [word.removeprefix(f"{FLAG}=") for word in words if word.startswith(f"{FLAG}=")]
    if len(named) > 1:
        raise ConfigurationError(f"{FLAG} is given {len(named)} times; put the flags into one file")
    return named[0] if named else None


def _words(p: argparse.ArgumentParser, uri: str, key: Any, value: Any) -> list[str]:
    """One entry as words of a command line."""
    actions = {flag: action for action in p._actions for flag in action.option_strings}
    flag = f"--{key}"
    if flag not in actions or flag in (FLAG, "--help"):
        meant = suggestion(flag, [name for name in actions if name.startswith("--")])
        raise ConfigurationError(f"{FLAG} {uri}: there is no flag {flag}; {meant or f'see {p.prog} --help'}")
    if value is None:
        return []
    if isinstance(value, bool) and (actions[flag].nargs == 0 or actions[flag].const is not None):
        if value:
            return [flag]
        return [f"--no-{key}"] if f"--no-{key}" in actions[flag].option_strings else []
    if isinstance(value, list) and actions[flag].nargs not in (None, 0, "?"):
        return [flag, *map(str, value)]
    if isinstance(value, list) and isinstance(actions[flag], argparse._AppendAction):
        return [f"{flag}={one}" for one in value]
    if isinstance(value, (str, int, float)) and not isinstance(value, bool) and actions[flag].nargs != 0:
        return [f"{flag}={value}"] if actions[flag].nargs in (None, "?") else [flag, str(value)]
    # YAML takes on, off, yes and no for truth values.
    remedy = "put a word such as 'off' in quotes" if isinstance(value, bool) else f"see {p.prog} --help"
    shown = "such value" if key in _SECRET else repr(value)
    raise ConfigurationError(f"{FLAG} {uri}: {flag} takes no {shown}; {remedy}")
