"""Read flags from a YAML file (--config), so that a long command line can be kept, reviewed and shared.

The configuration that a job prints before it starts, or with --dry-run, is such a file too: JSON is YAML, and only the
part under the key `flags` is read if there is one.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import yaml

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.contracts.names import suggestion

FLAG = "--config"
#: Key of the flags in a file that contains more than flags.
PART = "flags"
#: First words of a file that a job has written.
FIRST_WORDS = "# The flags of the last run of"
#: Flags that are meant for one run, and must not be repeated by a file that is used again.
_ONCE = {"help", "config", "dry_run", "apply", "overwrite", "break_lock"}
#: Flags whose values are neither kept nor shown.
_SECRET = {"notify"}


class _Loader(yaml.SafeLoader):
    """Load YAML, but keep numbers as text, for the command line; YAML would read 1:8 as 68, a number to the base 60."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that occurs twice: YAML's own loader would silently keep the last one."""
        names = [key.value for key, _ in node.value]
        twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(problem=f"{twice!r} occurs twice")
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith((":int", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def add(p: argparse.ArgumentParser) -> None:
    """Add --config to the parser."""
    p.add_argument(
        FLAG,
        metavar="YAML",
        help="file or URI with flags: keys are the flags without the leading dashes, such as max-failed (a list for "
        "several values, true for a switch, null for no value). Flags on the command line win; those that can be "
        "repeated are added. A switch that is on in the file stays on",
    )


def expand(p: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """Return the words of a command line, preceded by those of the file that --config names.

    Raises ConfigurationError that names the file and the key.
    """
    uri = _named(words)
    if uri is None:
        return list(words)
    with storage.as_configuration_error(uri, FLAG, "read"):
        data = storage.read_bytes(storage.absolute(uri))
    try:
        content = yaml.load(data, _Loader)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{FLAG} {uri}: not YAML ({_what_is_wrong(error)})") from None
    if isinstance(content, dict) and isinstance(content.get(PART), dict):
        content = content[PART]
    if not isinstance(content, dict):
        raise ConfigurationError(f"{FLAG} {uri}: give flags and their values, as in 'batch-size: 8'")
    return [word for key, value in content.items() for word in _words(p, uri, key, value)] + list(words)


def _what_is_wrong(error: yaml.YAMLError) -> str:
    """Return an error of syntax without the line in which it is, which may hold a secret."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark = error.problem_mark
    return f"{error.problem}, line {mark.line + 1}, column {mark.column + 1}"


def flags(p: argparse.ArgumentParser, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return all flags of a parsed command line with their values, defaults included."""
    values: dict[str, Any] = {}
    for action in p._actions:
        value = getattr(arguments, action.dest, None)
        if action.dest in _ONCE | _SECRET or not action.option_strings or value is None or value == []:
            continue
        name = next(one for one in action.option_strings if one.startswith("--")).removeprefix("--")
        is_switch = action.nargs == 0 and not isinstance(action, argparse.BooleanOptionalAction)
        if is_switch and value != action.const:
            continue
        is_range = isinstance(value, tuple)  # MIN:MAX; one number if both are equal
        values[name] = ":".join(map(str, dict.fromkeys(value))) if is_range else value
    return values


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
    """Return one entry of the file as words of a command line."""
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
    # YAML reads on, off, yes and no as truth values.
    remedy = "put a word such as 'off' in quotes" if isinstance(value, bool) else f"see {p.prog} --help"
    shown = "such value" if key in _SECRET else repr(value)
    raise ConfigurationError(f"{FLAG} {uri}: {flag} takes no {shown}; {remedy}")
