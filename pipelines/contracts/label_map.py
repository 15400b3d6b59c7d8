"""Reads the label map: the meanings of a detector's labels, the defects, and the order of their correction.

It is a YAML file, read and validated as a whole before any image. A defect that the model knows needs one line in
`defects` and one in `rules`, but no code.
"""

import re
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from model.errors import BundleError
from pipelines import storage
from pipelines.contracts.names import not_in_label_map
from pipelines.contracts.yaml_reader import (
    Share,
    StrictModel,
    Text,
    VersionedFile,
    Whole,
    YamlFile,
    context_of,
    mistake_at,
)

UnknownLabels = Literal["passthrough", "fail"]

#: Defects become folders of the output, and groups and defects occur in file names and metric labels.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")

#: Tolerance for scores in a catalog's float32: 0.7 is 0.69999999 there, and must still satisfy a rule of 0.7.
_ROUNDING = 1e-6


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("a name has 1 to 64 letters, digits, _ or -, and no - in front (it names a folder)")
    return name


def _check_known(kind: str, name: str, info: ValidationInfo) -> str:
    known = context_of(info, f"{kind}s")
    if name not in known:
        raise ValueError(not_in_label_map(kind, name, known))
    return name


#: Names in YAML files: any name of a defect or a group; and one that the label map has, whose names are in the
#: validation's context under "defects" and "groups".
Name = Annotated[Text, AfterValidator(_check_name)]
KnownDefect = Annotated[Text, AfterValidator(lambda name, info: _check_known("defect", name, info))]
KnownGroup = Annotated[Text, AfterValidator(lambda name, info: _check_known("group", name, info))]


@dataclass(frozen=True)
class Defect:
    """Describe a defect that the generator corrects: `id` indexes its type condition, lower `order` comes first."""

    name: str
    id: int
    group: str
    order: int


@dataclass(frozen=True)
class Rule:
    """State that `label` with at least `min_score`, on one of `product_types` (empty: all), means `defect`.

    `defect` None: the label is known and needs no correction.
    """

    label: str
    defect: str | None
    min_score: float = 0.0
    product_types: tuple[str, ...] = ()

    def matches(self, label: str, score: float, product_type: str | None) -> bool:
        """Return True if the rule applies. A NaN score reaches no threshold."""
        applies = not self.product_types or product_type in self.product_types
        return label == self.label and score >= self.min_score - _ROUNDING and applies


@dataclass(frozen=True)
class Route:
    """Hold one image's `defects` in the order of correction, and its labels that no rule names, sorted."""

    defects: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class LabelMap:
    """Hold a valid label map; build it with `parse`. groups: name to id of the generator's group condition.

    cycle_groups: see `cyclic`. Only a training uses it.
    """

    groups: dict[str, int]
    defects: dict[str, Defect]
    rules: tuple[Rule, ...]
    unknown_labels: UnknownLabels = "passthrough"
    cycle_groups: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, text: str | bytes, name: str) -> "LabelMap":
        """Read a label map. name: its name in messages (a path, or "bundle X").

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

        Raises ConfigurationError with all mistakes at once, each with its line and key.
        """
        file = YamlFile(text, name)
        content = file.parse(_File, {kind: _names_in(file.content, kind) for kind in ("groups", "defects")})
        return cls(
            groups=content.groups,
            defects={
                name: Defect(name, entry.id, entry.group, entry.order)
                for name, entry in content.defects.items()
            },
            rules=tuple(
                Rule(rule.label, rule.defect, rule.min_score, rule.product_types) for rule in content.rules
            ),
            unknown_labels=content.unknown_labels,
            cycle_groups=content.cycle_groups,
        )

    @classmethod
    def default(cls) -> "LabelMap":
        """Return a map with the starter bundle's three defects, a rule for each one's own name, and `clean`."""
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
        """Return the generator's (group id, type id) by defect."""
        return {name: (self.groups[defect.group], defect.id) for name, defect in self.defects.items()}

    def cyclic(self, geometric: Collection[str]) -> frozenset[str]:
        """Return the groups whose pairs also enter the cycle and identity terms, as unpaired images always do.

        They are the map's own `cycle_groups`. Without that key, they are all groups except `geometric`, those that
        concern the product's position: for the paper's three defects, the background's (Li et al., 2022).
        """
        return (
            frozenset(self.groups) - set(geometric)
            if self.cycle_groups is None
            else frozenset(self.cycle_groups)
        )

    def route(self, labels: Sequence[tuple[str, float | None]], product_type: str | None) -> Route:
        """Return the defects that one image's `labels` (label, score) mean; their order does not matter.

        A label without a score (None) has score 1. A defect counts once, even if several rules lead to it. A label that
        a rule names is known, even if the rule does not apply to its score or the product type.
        """
        scored = [(label, 1.0 if score is None else score) for label, score in labels]
        defects = {
            rule.defect
            for rule in self.rules
            for label, score in scored
            if rule.defect is not None and rule.matches(label, score, product_type)
        }
        known = {rule.label for rule in self.rules}
        return Route(
            defects=tuple(sorted(defects, key=lambda name: self.defects[name].order)),
            unknown=tuple(sorted({label for label, _ in scored} - known)),
        )

    def check_bundle(self, bundle_map: "LabelMap", flag: str = "--model") -> None:
        """Raise BundleError, naming each defect that the bundle of `flag` does not know by the same ids."""
        problems = []
        for defect in self.defects.values():
            trained = bundle_map.defects.get(defect.name)
            if trained is None:
                known = ", ".join(bundle_map.defects)
                problems.append(f"defect {defect.name!r} is unknown to the model (it knows {known})")
                continue
            map_ids = (defect.id, self.groups[defect.group])
            model_ids = (trained.id, bundle_map.groups[trained.group])
            if map_ids != model_ids:
                problems.append(
                    f"defect {defect.name!r} has id {map_ids[0]} and group {defect.group!r} (id {map_ids[1]}), "
                    f"the model was trained with id {model_ids[0]} and group {trained.group!r} (id {model_ids[1]})"
                )
        if problems:
            raise BundleError(
                f"the label map does not fit the model bundle: {'; '.join(problems)}; use the ids of the "
                f"bundle's label_map.yaml, remove the defect, or choose another bundle ({flag})"
            )

    def to_yaml(self) -> str:
        """Return this map as YAML; deterministic, and `parse` reads an equal map from it."""
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
        # Non-ASCII text is escaped: PyYAML would fold some Unicode line breaks in raw text to blanks.
        return yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=110)


def _names_in(content: Any, key: str) -> tuple[str, ...]:
    """Return the names of groups or defects, even if their entries have mistakes."""
    entries = content.get(key) if isinstance(content, dict) else None
    return tuple(entries) if isinstance(entries, dict) else ()


def _rule_document(rule: Rule) -> dict[str, Any]:
    document: dict[str, Any] = {"label": rule.label, "defect": rule.defect}
    if rule.min_score:
        document["min_score"] = rule.min_score
    if rule.product_types:
        document["product_types"] = list(rule.product_types)
    return document


class _DefectEntry(StrictModel):
    id: Annotated[Whole, Field(ge=0)]
    group: KnownGroup
    order: Whole


class _RuleEntry(StrictModel):
    label: Text
    defect: KnownDefect | None
    min_score: Share = 0.0
    product_types: Annotated[tuple[Text, ...], Field(min_length=1)] = ()


class _File(VersionedFile):
    groups: Annotated[dict[Name, Annotated[Whole, Field(ge=0)]], Field(min_length=1)]
    defects: Annotated[dict[Name, _DefectEntry], Field(min_length=1)]
    rules: Annotated[tuple[_RuleEntry, ...], Field(min_length=1)]
    cycle_groups: tuple[KnownGroup, ...] | None = None
    unknown_labels: UnknownLabels = "passthrough"

    @field_validator("groups")
    @classmethod
    def _groups_differ(cls, groups: dict[str, int]) -> dict[str, int]:
        _check_unique("has the id of", [((name,), number) for name, number in groups.items()])
        return groups

    @field_validator("defects")
    @classmethod
    def _defects_differ(cls, defects: dict[str, _DefectEntry]) -> dict[str, _DefectEntry]:
        for field in ("id", "order"):
            values = [((name, field), getattr(entry, field)) for name, entry in defects.items()]
            _check_unique(f"is the {field} of", values)
        return defects

    @field_validator("rules")
    @classmethod
    def _rules_differ(cls, rules: tuple[_RuleEntry, ...]) -> tuple[_RuleEntry, ...]:
        meanings = [(rule.label, rule.defect, frozenset(rule.product_types)) for rule in rules]
        _check_unique("means the same as", [((index,), meaning) for index, meaning in enumerate(meanings)])
        return rules

    @field_validator("cycle_groups")
    @classmethod
    def _cycle_groups_differ(cls, groups: tuple[str, ...] | None) -> tuple[str, ...] | None:
        _check_unique("is the same as", [((index,), name) for index, name in enumerate(groups or ())])
        return groups


def _check_unique(what: str, values: Iterable[tuple[Sequence[int | str], Hashable]]) -> None:
    """Raise a mistake for the first of `values`, (keys in the file, value), that equals an earlier one."""
    first: dict[Hashable, int | str] = {}
    for keys, value in values:
        if value in first:
            other = first[value]
            text = f"item [{other}]" if isinstance(other, int) else repr(other)
            raise mistake_at(keys, f"{what} {text}; change or remove one of them")
        first[value] = keys[0]
