"""Reads a YAML file key by key and collects every complaint with its line, instead of stopping at the first.

Works on the node tree, which knows lines and keeps duplicate keys, and constructs only text, numbers and
null: no tag in the file can make an object.
"""

from collections.abc import Sequence

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from model.errors import ConfigurationError
from pipelines.names import suggestion

_TEXT, _INTEGER, _NUMBER, _NULL = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "null"))


class YamlReader:
    """One file being read. After a complaint a method returns None or less; `finish` raises all complaints.

    `name` is how messages call the file, `key` a dotted path in it for messages: `defects.watermark.id`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._complaints: list[tuple[int, str]] = []

    def root(self, text: str | bytes) -> Node:
        """The document's top node. Raises ConfigurationError where the text is not one YAML document."""
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
            raise ConfigurationError(f"{self.name}: {line}{error.problem or error.context}") from error
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise ConfigurationError(f"{self.name} is not a YAML text: {error}") from error
        if node is None:
            raise ConfigurationError(f"{self.name} is empty")
        return node

    def complain(self, node: Node, key: str, problem: str) -> None:
        """Note that the value at `node` has a problem."""
        place = f"line {node.start_mark.line + 1}"
        self._complaints.append(
            (node.start_mark.line, f"{place}, {key}: {problem}" if key else f"{place}: {problem}")
        )

    def finish(self) -> None:
        """Raise ConfigurationError with every complaint in the order of lines, if there is one."""
        if self._complaints:
            texts = [text for _, text in sorted(self._complaints, key=lambda complaint: complaint[0])]
            raise ConfigurationError(
                f"{self.name}: {texts[0]}"
                if len(texts) == 1
                else f"{self.name} has {len(texts)} problems:\n  " + "\n  ".join(texts)
            )

    def entries(self, node: Node, key: str, empty: str = "") -> dict[str, Node]:
        """A mapping with free keys (text, unique); `empty` is the complaint about one without any."""
        if not isinstance(node, MappingNode):
            self.complain(node, key, "must be a mapping (key: value)")
            return {}
        if empty and not node.value:
            self.complain(node, key, empty)
        found: dict[str, Node] = {}
        lines: dict[str, int] = {}
        for key_node, value in node.value:
            name = self.text(key_node, f"{key} (a key)" if key else "a key")
            if name is None:
                continue
            if name in found:
                self.complain(key_node, _below(key, name), f"appears twice, first in line {lines[name]}")
                continue
            found[name], lines[name] = value, key_node.start_mark.line + 1
        return found

    def fields(
        self, node: Node, key: str, required: Sequence[str], optional: Sequence[str] = ()
    ) -> dict[str, Node]:
        """A mapping with known keys; unknown keys get a suggestion."""
        found = self.entries(node, key)
        known = (*required, *optional)
        for name in [name for name in found if name not in known]:
            hint = suggestion(name, known) or f"known keys: {', '.join(known)}"
            self.complain(found.pop(name), _below(key, name), f"unknown key; {hint}")
        if isinstance(node, MappingNode):
            for name in required:
                if name not in found:
                    self.complain(node, _below(key, name), "is missing")
        return found

    def items(self, node: Node, key: str, empty: str = "") -> list[Node]:
        """The items of a list; `empty` is the complaint about an empty one, which may be without it."""
        if not isinstance(node, SequenceNode):
            self.complain(node, key, "must be a list")
            return []
        if empty and not node.value:
            self.complain(node, key, empty)
        return list(node.value)

    def text(self, node: Node, key: str) -> str | None:
        """A text that is not blank. YAML reads `no`, `on`, `12` and `1.5` as other things than text."""
        if not isinstance(node, ScalarNode) or node.tag != _TEXT:
            written = (
                f"; write {node.value!r} in quotes" if isinstance(node, ScalarNode) and node.value else ""
            )
            self.complain(node, key, f"must be text{written}")
            return None
        if not node.value.strip():
            self.complain(node, key, "must not be blank")
            return None
        return str(node.value)

    def integer(self, node: Node, key: str, minimum: int | None = None) -> int | None:
        """A whole number, at least `minimum`."""
        number = _constructed(node, (_INTEGER,))
        if not isinstance(number, int) or (minimum is not None and number < minimum):
            bound = "" if minimum is None else f" of at least {minimum}"
            self.complain(node, key, f"must be a whole number{bound}")
            return None
        return number

    def number(self, node: Node, key: str, low: float, high: float) -> float | None:
        """A number in [low, high]."""
        number = _constructed(node, (_INTEGER, _NUMBER))
        if not isinstance(number, (int, float)) or not low <= number <= high:  # NaN fails the comparison
            self.complain(node, key, f"must be a number from {low:g} to {high:g}")
            return None
        return float(number)

    def is_null(self, node: Node) -> bool:
        """True for `null`, `~` or nothing."""
        return node.tag == _NULL


def _constructed(node: Node, tags: tuple[str, ...]) -> object:
    """The number that a plain scalar of one of `tags` means, else None."""
    if not isinstance(node, ScalarNode) or node.tag not in tags:
        return None
    try:
        return SafeConstructor().construct_object(node)
    except (ValueError, yaml.YAMLError):  # `!!int abc`
        return None


def _below(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
