"""Reads a YAML file into a pydantic model, and reports all mistakes at once, with line, key and remedy.

It works on the node tree, which has lines and keeps duplicate keys. It constructs only text, numbers, booleans and
null, so no tag in the file can create an object.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails, PydanticCustomError
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from model.errors import ConfigurationError
from pipelines.contracts.names import suggestion

#: Most values in a file. Aliases of aliases multiply: a kilobyte may stand for billions of values.
_MOST_VALUES = 100_000
_TAG = "tag:yaml.org,2002:"
_SCALARS = tuple(_TAG + kind for kind in ("int", "float", "bool", "null"))
#: Dates count as text.
_TEXTS = (f"{_TAG}str", f"{_TAG}timestamp")


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


#: Types of fields. They are strict: no conversion between numbers, text and booleans.
Text = Annotated[str, Strict(), AfterValidator(_not_blank)]
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Share = Annotated[Number, Field(ge=0, le=1)]


class StrictModel(BaseModel):
    """Describe a part of a file, in which keys other than the fields are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class VersionedFile(StrictModel):
    """Describe a whole file. This release reads version 1 of every format."""

    version: Literal[1]


_Model = TypeVar("_Model", bound=StrictModel)


def mistake_at(keys: Sequence[int | str], problem: str) -> PydanticCustomError:
    """Return an exception for validators: the problem is at `keys` below the validated value."""
    return PydanticCustomError("mistake_at", "{problem}", {"keys": tuple(keys), "problem": problem})


def context_of(info: ValidationInfo, key: str) -> Any:
    """Return the entry `key` of the context that was given to `YamlFile.parse`."""
    return (info.context or {})[key]


class YamlFile:
    """Hold the values of a YAML text. Raises ConfigurationError if it is not one YAML document.

    name: the file's name in messages. content: its values; for repeated keys, the first value.
    """

    def __init__(self, text: str | bytes, name: str) -> None:
        self.name = name
        self._mistakes: list[tuple[int, str]] = []
        self._values = 0
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
            if root is None:
                raise ConfigurationError(f"{name} is empty")
            self._root = root
            self.content = self._value(root, ())
        except yaml.MarkedYAMLError as error:
            line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
            raise ConfigurationError(f"{name}: {line}{error.problem or error.context}") from error
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise ConfigurationError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error

    def parse(self, model: type[_Model], context: Mapping[str, Any] | None = None) -> _Model:
        """Return the content as `model`. context: passed to its validators.

        Raises ConfigurationError with all mistakes, in the order of lines.
        """
        try:
            parsed = model.model_validate(self.content, context=context)
        except ValidationError as error:
            for keys, problem in problems(error, model):
                self._note(*self._find(keys), problem)
        if self._mistakes:
            texts = list(dict.fromkeys(text for _, text in sorted(self._mistakes, key=lambda one: one[0])))
            several = f" has {len(texts)} problems:\n  " + "\n  ".join(texts)
            raise ConfigurationError(self.name + (several if len(texts) > 1 else f": {texts[0]}"))
        return parsed

    def line(self, *keys: int | str) -> int:
        """Return the line, from 1, in which the value at `keys` begins."""
        return self._find(keys)[0].start_mark.line + 1

    def _value(self, node: Node, keys: tuple[int | str, ...]) -> Any:
        self._values += 1
        if self._values > _MOST_VALUES:
            raise ValueError(f"more than {_MOST_VALUES} values, where each use of an alias counts")
        if isinstance(node, MappingNode):
            return self._mapping(node, keys)
        if isinstance(node, SequenceNode):
            return [self._value(item, (*keys, index)) for index, item in enumerate(node.value)]
        if node.tag in _TEXTS:
            return node.value
        try:
            return SafeConstructor().construct_object(node) if node.tag in _SCALARS else object()
        except (ValueError, LookupError, ArithmeticError):  # `!!int abc`
            return object()  # which no field accepts

    def _mapping(self, node: MappingNode, keys: tuple[int | str, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode) or key.tag not in _TEXTS:
                self._note(key, keys, f"a key must be text{_quoted(key)}")
            elif key.value in values:
                self._note(key, (*keys, key.value), f"appears twice, first in line {lines[key.value]}")
            else:
                values[key.value] = self._value(value, (*keys, key.value))
                lines[key.value] = key.start_mark.line + 1
        return values

    def _note(self, node: Node, keys: Sequence[int | str], problem: str) -> None:
        line = node.start_mark.line + 1
        key = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")
        quoted = _quoted(node) if problem == _NO_TEXT else ""
        self._mistakes.append((line, f"line {line}{', ' if key else ''}{key}: {problem}{quoted}"))

    def _find(self, keys: Sequence[int | str]) -> tuple[Node, Sequence[int | str]]:
        """Return the node at `keys`, or the last one on the path to it; and `keys` without names that pydantic adds."""
        node, path = self._root, []
        for key in keys:
            inner: list[Node] = []
            if isinstance(node, MappingNode):
                inner = [value for name, value in node.value if name.value == key]
            elif isinstance(node, SequenceNode) and isinstance(key, int):
                inner = [node.value[key]]
            if inner or key == keys[-1] != "[key]":
                path.append(key)
            node = inner[0] if inner else node
        return node, path


_NO_TEXT = "must be text"
_NO_MAPPING = "must be a mapping (key: value)"
_PROBLEMS = {
    "missing": "is missing",
    "union_tag_not_found": "is missing",
    "string_type": _NO_TEXT,
    "dict_type": _NO_MAPPING,
    "model_type": _NO_MAPPING,
    "model_attributes_type": _NO_MAPPING,
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
}

_WORDS = {
    "Value error, ": "",
    "Input should": "must",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
}


def problems(error: ValidationError, model: type[BaseModel]) -> list[tuple[tuple[int | str, ...], str]]:
    """Return the keys and a description of each mistake."""
    schema = model.model_json_schema()
    parts = (schema, *schema.get("$defs", {}).values())
    known = {name for part in parts for name in part.get("properties", ())}
    errors = error.errors(include_url=False, include_input=False)
    # pydantic also reports a list as empty if all its items are mistakes.
    wrong_within = {one["loc"][:length] for one in errors for length in range(len(one["loc"]))}
    return [
        _problem(one, known) for one in errors if one["type"] != "too_short" or one["loc"] not in wrong_within
    ]


def _problem(details: ErrorDetails, known: set[str]) -> tuple[tuple[int | str, ...], str]:
    kind, keys, context = details["type"], details["loc"], details.get("ctx", {})
    if kind == "extra_forbidden":
        meant = suggestion(str(keys[-1]), known - {keys[-1]})
        return keys, f"unknown key; {meant or 'leave it out'}"
    if kind == "mistake_at":
        return (*keys, *context["keys"]), context["problem"]
    if kind.startswith("union_tag"):
        keys = (*keys, context["discriminator"].strip("'"))
    if kind == "union_tag_invalid":
        return keys, f"there is no {context['tag']!r}; choose one of {context['expected_tags']}"
    problem = details["msg"]
    for original, replacement in _WORDS.items():
        problem = problem.replace(original, replacement, 1)
    return keys, _PROBLEMS.get(kind, problem)


def _quoted(node: Node) -> str:
    """Return the advice to quote values such as `no`, `on`, `12` and `1.5` that are meant as text."""
    return f"; write {node.value!r} in quotes" if isinstance(node, ScalarNode) and node.value else ""
