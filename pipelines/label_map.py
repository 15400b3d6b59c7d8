"""The label map: what a detector's labels mean, which defects there are, and in which order to correct them.

A YAML file, read and validated whole before any image. A defect that the model knows is one line in `defects`
and one in `rules`; no code.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import yaml
from yaml.nodes import Node

from model.errors import BundleError
from pipelines import storage
from pipelines.names import not_in_label_map
from pipelines.yaml_reader import YamlReader

UnknownLabels = Literal["passthrough", "fail"]

#: Defects name folders of the output, groups and defects both travel in file names and metric labels.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")

#: What a catalog's float32 may take from a score: 0.7 is 0.69999999 there, and reaches a rule of 0.7.
_ROUNDING = 1e-6


def is_name(text: str) -> bool:
    """True where a defect or a group may be called `text`: 1 to 64 letters, digits, _ or -, no - in front."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True)
class Defect:
    """A defect that the generator corrects: `id` indexes its type condition, lower `order` comes first."""

    name: str
    id: int
    group: str
    order: int


@dataclass(frozen=True)
class Rule:
    """`label` scored at least `min_score`, on one of `product_types` (empty: on all), means `defect`.

    `defect` None: the label is known and asks for nothing.
    """

    label: str
    defect: str | None
    min_score: float = 0.0
    product_types: tuple[str, ...] = ()

    def matches(self, label: str, score: float, product_type: str | None) -> bool:
        """True where the rule applies. A NaN score reaches no threshold."""
        wanted = not self.product_types or product_type in self.product_types
        return label == self.label and score >= self.min_score - _ROUNDING and wanted


@dataclass(frozen=True)
class Route:
    """One image's `defects` in the order of correction, and its labels that no rule names, sorted."""

    defects: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class LabelMap:
    """A valid label map; build it with `parse`. `groups`: name to id of the generator's group condition.

    cycle_groups: see `cyclic`. Of interest to a training alone.
    """

    groups: dict[str, int]
    defects: dict[str, Defect]
    rules: tuple[Rule, ...]
    unknown_labels: UnknownLabels = "passthrough"
    cycle_groups: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, text: str | bytes, name: str) -> "LabelMap":
        """Read a label map; `name` is how messages call it (a path, or "bundle X").

        The format, with every key (optional: min_score 0, product_types all, unknown_labels passthrough, and
        cycle_groups, see `cyclic`):

            version: 1
            groups: {background: 0, angle: 1}
            cycle_groups: [background]         # or: []
            defects:
              watermark: {id: 1, group: background, order: 2}
            rules:
              - {label: stamp, defect: watermark, min_score: 0.5, product_types: [shirt, dress]}
              - {label: clean, defect: null}
            unknown_labels: passthrough        # or: fail

        Raises ConfigurationError with every complaint at once, each with its line and key.
        """
        return _read(text, name)

    @classmethod
    def default(cls) -> "LabelMap":
        """The starter bundle's three defects, a rule for each one's own name, and `clean`."""
        defects = (
            Defect("wrong_angle", id=2, group="angle", order=1),
            Defect("watermark", id=1, group="background", order=2),
            Defect("non_white_background", id=0, group="background", order=3),
        )
        rules = [Rule(defect.name, defect.name, min_score=0.5) for defect in defects]
        return cls(
            groups={"background": 0, "angle": 1},
            defects={defect.name: defect for defect in defects},
            rules=(*rules, Rule("clean", None)),
            cycle_groups=("background",),
        )

    @classmethod
    def read(cls, uri: str) -> "LabelMap":
        """Read the label map that --label-map names. Raises ConfigurationError; see `parse`."""
        with storage.as_configuration_error(uri, "--label-map", "read"):
            data = storage.read_bytes(uri)
        return cls.parse(data, uri)

    @property
    def conditions(self) -> dict[str, tuple[int, int]]:
        """Defect to the generator's (group id, type id)."""
        return {name: (self.groups[defect.group], defect.id) for name, defect in self.defects.items()}

    def cyclic(self, geometric: Collection[str]) -> frozenset[str]:
        """Groups whose trusted pairs also enter the cycle and identity terms; what is unpaired always does.

        They are the map's own `cycle_groups`. A map without that key means all groups that are not in `geometric`,
        those of how the product stands: of the paper's three defects, the background's (section 3 of the method).
        """
        return (
            frozenset(self.groups) - set(geometric)
            if self.cycle_groups is None
            else frozenset(self.cycle_groups)
        )

    def route(self, labels: Sequence[tuple[str, float | None]], product_type: str | None) -> Route:
        """The defects that `labels` (label, score) of one image mean, whatever the labels' order.

        A label without a score (None) counts as 1. A defect counts once, however many rules lead to it. A
        label that a rule names is known, even where its score or the product type keeps the rule back.
        """
        scored = [(label, 1.0 if score is None else score) for label, score in labels]
        found = {
            rule.defect
            for rule in self.rules
            for label, score in scored
            if rule.defect is not None and rule.matches(label, score, product_type)
        }
        known = {rule.label for rule in self.rules}
        return Route(
            defects=tuple(sorted(found, key=lambda name: self.defects[name].order)),
            unknown=tuple(sorted({label for label, _ in scored} - known)),
        )

    def check_bundle(self, bundle_map: "LabelMap") -> None:
        """Raise BundleError, naming each defect, unless the bundle knows all of them by the same ids."""
        complaints = []
        for defect in self.defects.values():
            trained = bundle_map.defects.get(defect.name)
            if trained is None:
                known = ", ".join(bundle_map.defects)
                complaints.append(f"defect {defect.name!r} is unknown to the model (it knows {known})")
                continue
            ours = (defect.id, self.groups[defect.group])
            theirs = (trained.id, bundle_map.groups[trained.group])
            if ours != theirs:
                complaints.append(
                    f"defect {defect.name!r} has id {ours[0]} and group {defect.group!r} (id {ours[1]}), "
                    f"the model was trained with id {theirs[0]} and group {trained.group!r} (id {theirs[1]})"
                )
        if complaints:
            raise BundleError(
                f"the label map does not fit the model bundle: {'; '.join(complaints)}; use the ids of the "
                "bundle's label_map.yaml, remove the defect, or choose another bundle (--model)"
            )

    def to_yaml(self) -> str:
        """This map as YAML: deterministic, and `parse` reads an equal map back."""
        document = {
            "version": 1,
            "groups": dict(self.groups),
            **({} if self.cycle_groups is None else {"cycle_groups": list(self.cycle_groups)}),
            "defects": {
                defect.name: {"id": defect.id, "group": defect.group, "order": defect.order}
                for defect in self.defects.values()
            },
            "rules": [_rule_document(rule) for rule in self.rules],
            "unknown_labels": self.unknown_labels,
        }
        # Escaped, not raw: PyYAML folds some Unicode line breaks in raw text to blanks.
        return yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=110)


def _rule_document(rule: Rule) -> dict[str, Any]:
    document: dict[str, Any] = {"label": rule.label, "defect": rule.defect}
    if rule.min_score:
        document["min_score"] = rule.min_score
    if rule.product_types:
        document["product_types"] = list(rule.product_types)
    return document


def _read(text: str | bytes, name: str) -> LabelMap:
    reader = YamlReader(name)
    required, optional = ("version", "groups", "defects", "rules"), ("cycle_groups", "unknown_labels")
    top = reader.fields(reader.root(text), "", required, optional)
    if "version" in top and reader.integer(top["version"], "version") not in (None, 1):
        reader.complain(top["version"], "version", "this release reads version 1 only")
    group_nodes = _named(reader, top.get("groups"), "groups")
    defect_nodes = _named(reader, top.get("defects"), "defects")
    groups = _read_groups(reader, group_nodes)
    defects = _read_defects(reader, defect_nodes, tuple(group_nodes))
    rules = _read_rules(reader, top.get("rules"), tuple(defect_nodes))
    unknown = _read_unknown_labels(reader, top.get("unknown_labels"))
    cyclic = _read_cycle_groups(reader, top.get("cycle_groups"), tuple(group_nodes))
    reader.finish()
    return LabelMap(groups, defects, rules, unknown, cyclic)


def _named(reader: YamlReader, node: Node | None, key: str) -> dict[str, Node]:
    """The entries of `groups` or `defects`: at least one, with names that can be folders."""
    if node is None:
        return {}
    entries = reader.entries(node, key, empty="must have at least one entry")
    for name, value in entries.items():
        if not is_name(name):
            reader.complain(
                value, f"{key}.{name}", "a name has 1 to 64 letters, digits, _ or - (it names a folder)"
            )
    return entries


def _read_groups(reader: YamlReader, nodes: dict[str, Node]) -> dict[str, int]:
    groups: dict[str, int] = {}
    for name, node in nodes.items():
        number = reader.integer(node, f"groups.{name}", minimum=0)
        if number is None:
            continue
        _check_unique(reader, node, f"groups.{name}", "id", number, groups)
        groups[name] = number
    return groups


def _read_defects(reader: YamlReader, nodes: dict[str, Node], groups: Sequence[str]) -> dict[str, Defect]:
    ids: dict[str, int] = {}
    orders: dict[str, int] = {}
    defects: dict[str, Defect] = {}
    for name, node in nodes.items():
        key = f"defects.{name}"
        fields = reader.fields(node, key, ("id", "group", "order"))
        for field, values, minimum in (("id", ids, 0), ("order", orders, None)):
            number = reader.integer(fields[field], f"{key}.{field}", minimum) if field in fields else None
            if number is not None:
                _check_unique(reader, fields[field], f"{key}.{field}", field, number, values)
                values[name] = number
        group = reader.text(fields["group"], f"{key}.group") if "group" in fields else None
        if group is not None and group not in groups:
            reader.complain(
                fields["group"], f"{key}.group", f"unknown group {group!r}; groups: {', '.join(groups)}"
            )
        if group is not None and name in ids and name in orders:
            defects[name] = Defect(name, ids[name], group, orders[name])
    return defects


def _check_unique(
    reader: YamlReader, node: Node, key: str, what: str, number: int, others: dict[str, int]
) -> None:
    for other, taken in others.items():
        if taken == number:
            reader.complain(node, key, f"{what} {number} is taken by {other!r}")


def _read_rules(reader: YamlReader, node: Node | None, defects: Sequence[str]) -> tuple[Rule, ...]:
    if node is None:
        return ()
    items = reader.items(node, "rules", empty="must have at least one rule, or nothing would be corrected")
    rules: dict[tuple[Any, ...], int] = {}
    read = []
    for index, item in enumerate(items):
        rule = _read_rule(reader, item, f"rules[{index}]", defects)
        if rule is None:
            continue
        same = (rule.label, rule.defect, frozenset(rule.product_types))
        if same in rules:
            reader.complain(item, f"rules[{index}]", f"repeats the rule of line {rules[same]}")
        rules.setdefault(same, item.start_mark.line + 1)
        read.append(rule)
    return tuple(read)


def _read_rule(reader: YamlReader, node: Node, key: str, defects: Sequence[str]) -> Rule | None:
    fields = reader.fields(node, key, ("label", "defect"), ("min_score", "product_types"))
    label = reader.text(fields["label"], f"{key}.label") if "label" in fields else None
    defect, min_score = None, 0.0
    if "defect" in fields and not reader.is_null(fields["defect"]):
        defect = reader.text(fields["defect"], f"{key}.defect")
        if defect is not None and defect not in defects:
            known = f"defects: {', '.join(defects)}; null: nothing to correct"
            reader.complain(fields["defect"], f"{key}.defect", f"unknown defect {defect!r}; {known}")
    if "min_score" in fields:
        min_score = reader.number(fields["min_score"], f"{key}.min_score", 0, 1) or 0.0
    product_types: tuple[str, ...] = ()
    if "product_types" in fields:
        items = reader.items(fields["product_types"], f"{key}.product_types", empty="is empty; leave it out")
        names = [reader.text(item, f"{key}.product_types[{i}]") for i, item in enumerate(items)]
        product_types = tuple(name for name in names if name is not None)

    return None if label is None else Rule(label, defect, min_score, product_types)


def _read_unknown_labels(reader: YamlReader, node: Node | None) -> UnknownLabels:
    if node is None:
        return "passthrough"
    choice = reader.text(node, "unknown_labels")
    if choice not in (None, "passthrough", "fail"):
        reader.complain(node, "unknown_labels", f"must be passthrough or fail, not {choice!r}")
    return cast(UnknownLabels, choice)


def _read_cycle_groups(
    reader: YamlReader, node: Node | None, groups: Sequence[str]
) -> tuple[str, ...] | None:
    if node is None:
        return None
    found: list[str] = []
    for index, item in enumerate(reader.items(node, "cycle_groups")):
        key = f"cycle_groups[{index}]"
        name = reader.text(item, key)
        if name is None:
            continue
        if name not in groups:
            reader.complain(item, key, not_in_label_map("group", name, groups))
        if name in found:
            reader.complain(item, key, f"{name!r} is named twice")
        found.append(name)
    return tuple(found)
