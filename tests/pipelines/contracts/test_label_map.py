import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import BundleError, ConfigurationError
from pipelines.contracts.label_map import Defect, LabelMap, Route, Rule

DESIGN = """\
version: 1
groups: {background: 0, angle: 1}
defects:
  wrong_angle:          {id: 2, group: angle,      order: 1}
  watermark:            {id: 1, group: background, order: 2}
  non_white_background: {id: 0, group: background, order: 3}
rules:
  - {label: non_white_background, defect: non_white_background, min_score: 0.5}
  - {label: cluttered_background, defect: non_white_background, min_score: 0.7, product_types: [shirt, dress]}
  - {label: watermark, defect: watermark, min_score: 0.5}
  - {label: wrong_angle, defect: wrong_angle, min_score: 0.5}
  - {label: clean, defect: null}
unknown_labels: passthrough
"""

names = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9_-]{0,10}", fullmatch=True)
texts = st.text(min_size=1, max_size=12).filter(str.strip)
scores = st.floats(0, 1)


@st.composite
def label_maps(draw: st.DrawFn) -> LabelMap:
    groups = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    defects = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    size = len(defects)
    numbers = st.lists(st.integers(0, 99), min_size=size, max_size=size, unique=True)
    ids, orders = (
        draw(numbers),
        draw(st.lists(st.integers(-9, 99), min_size=size, max_size=size, unique=True)),
    )
    rule = st.builds(
        Rule, texts, st.none() | st.sampled_from(defects), scores, st.lists(texts, max_size=3).map(tuple)
    )
    rules = draw(
        st.lists(
            rule, min_size=1, max_size=8, unique_by=lambda r: (r.label, r.defect, frozenset(r.product_types))
        )
    )
    return LabelMap(
        groups=dict(
            zip(groups, draw(st.lists(st.integers(0, 9), min_size=3, max_size=3, unique=True)), strict=False)
        ),
        defects={
            name: Defect(name, ids[i], draw(st.sampled_from(groups)), orders[i])
            for i, name in enumerate(defects)
        },
        rules=tuple(rules),
        unknown_labels=draw(st.sampled_from(["passthrough", "fail"])),
        cycle_groups=draw(st.none() | st.lists(st.sampled_from(groups), max_size=3, unique=True).map(tuple)),
    )


def complaints(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        LabelMap.parse(text, "map.yaml")
    message = str(caught.value)
    assert message.startswith("map.yaml")
    return [line.strip() for line in message.splitlines() if "line " in line]


def test_the_documented_map_is_read() -> None:
    label_map = LabelMap.parse(DESIGN, "map.yaml")
    assert label_map.groups == {"background": 0, "angle": 1}
    assert label_map.defects["watermark"] == Defect("watermark", 1, "background", 2)
    assert label_map.rules[1] == Rule("cluttered_background", "non_white_background", 0.7, ("shirt", "dress"))
    assert label_map.unknown_labels == "passthrough"
    assert LabelMap.parse(DESIGN.encode(), "map.yaml") == label_map


def test_the_default_map_has_the_three_defects_and_a_rule_for_each() -> None:
    default = LabelMap.default()
    assert LabelMap.parse(default.to_yaml(), "default") == default
    documented = LabelMap.parse(DESIGN, "map.yaml")
    assert (default.groups, default.defects) == (documented.groups, documented.defects)
    for name in default.defects:
        assert default.route([(name, 0.5)], None) == Route((name,), ())
    assert default.route([("clean", 1.0)], "shirt") == Route((), ())


@settings(max_examples=60, deadline=None)
@given(label_maps())
def test_a_map_survives_its_yaml(label_map: LabelMap) -> None:
    text = label_map.to_yaml()
    assert LabelMap.parse(text, "map") == label_map
    assert LabelMap.parse(text.encode(), "map").to_yaml() == text


def test_routing_by_score_product_type_and_order() -> None:
    route = LabelMap.parse(DESIGN, "map").route
    both = [("non_white_background", 0.9), ("wrong_angle", 0.6)]
    assert route(both, None).defects == ("wrong_angle", "non_white_background")
    assert route([("watermark", 0.5)], None).defects == ("watermark",)
    assert route([("watermark", 0.49999)], None).defects == ()
    assert route([("watermark", None)], None).defects == ("watermark",)
    assert route([("cluttered_background", 0.8)], "dress").defects == ("non_white_background",)
    assert route([("cluttered_background", 0.8)], "mug") == Route((), ())
    assert route([("cluttered_background", 0.8)], None) == Route((), ())
    assert route([("cluttered_background", 0.8), ("non_white_background", 0.8)], "shirt").defects == (
        "non_white_background",
    )
    assert route([("watermark", math.nan)], None) == Route((), ())
    assert route([("sticker", 0.2), ("blur", 0.9), ("sticker", 0.9)], None) == Route((), ("blur", "sticker"))
    assert route([], "shirt") == Route((), ())


@pytest.mark.parametrize(
    ("line", "cyclic"),
    [
        ("", {"background"}),  # without the key: all but the geometric groups
        ("cycle_groups: []", set()),
        ("cycle_groups: [angle]", {"angle"}),
        ("cycle_groups: [background, angle]", {"background", "angle"}),
    ],
)
def test_the_map_decides_which_groups_pairs_enter_cycle_and_identity(line: str, cyclic: set[str]) -> None:
    assert LabelMap.parse(f"{DESIGN}{line}\n", "map").cyclic({"angle"}) == cyclic
    assert LabelMap.default().cyclic(()) == {"background"}


@pytest.mark.parametrize("score", [0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_a_score_equal_to_the_rules_satisfies_it_also_as_float32(score: float) -> None:
    """Catalogs store scores as float32."""
    rule = Rule("stamp", "watermark", score)
    assert rule.matches("stamp", float(np.float32(score)), None)
    assert not rule.matches("stamp", score - 1e-4, None)


def test_several_rules_of_one_label_all_count() -> None:
    text = DESIGN.replace(
        "  - {label: clean, defect: null}",
        "  - {label: mess, defect: watermark, min_score: 0.9}\n"
        "  - {label: mess, defect: wrong_angle, min_score: 0.3}",
    )
    route = LabelMap.parse(text, "map").route
    assert route([("mess", 0.95)], None).defects == ("wrong_angle", "watermark")
    assert route([("mess", 0.5)], None).defects == ("wrong_angle",)


labels = st.lists(st.tuples(st.sampled_from("abcd"), scores | st.just(math.nan)), max_size=5)
rules = st.lists(
    st.builds(
        Rule,
        st.sampled_from("abc"),
        st.sampled_from(["x", "y", None]),
        scores,
        st.sampled_from([(), ("shirt",)]),
    ),
    max_size=6,
).map(tuple)


def small_map(rules: tuple[Rule, ...]) -> LabelMap:
    return LabelMap({"g": 0}, {"x": Defect("x", 0, "g", 2), "y": Defect("y", 1, "g", 1)}, rules)


@given(rules, labels, st.sampled_from([None, "shirt", "mug"]), st.randoms())
def test_the_labels_order_does_not_matter(rules, labels, product_type, random) -> None:
    shuffled = random.sample(labels, len(labels))
    label_map = small_map(rules)
    route = label_map.route(labels, product_type)
    assert label_map.route(shuffled, product_type) == route
    assert list(route.defects) == sorted(set(route.defects), key=lambda name: label_map.defects[name].order)


@given(rules, labels, st.sampled_from([None, "shirt"]), scores)
def test_a_higher_score_never_loses_a_defect(rules, labels, product_type, raised) -> None:
    label_map = small_map(rules)
    higher = [(label, score if math.isnan(score) else max(score, raised)) for label, score in labels]
    before, after = label_map.route(labels, product_type), label_map.route(higher, product_type)
    assert set(before.defects) <= set(after.defects)
    assert before.unknown == after.unknown


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("version: 1", "version: 2", "line 1, version: must be 1"),
        ("version: 1", "version: '1'", "line 1, version: must be 1"),
        ("version: 1\n", "", "line 1, version: is missing"),
        (
            "unknown_labels: passthrough",
            "unknown_label: fail",
            "line 13, unknown_label: unknown key; did you mean 'unknown_labels'",
        ),
        (
            "unknown_labels: passthrough",
            "unknown_labels: drop",
            "line 13, unknown_labels: must be 'passthrough' or 'fail'",
        ),
        ("angle: 1}", "angle: 0}", "line 2, groups.angle: has the id of 'background'"),
        ("angle: 1}", "angle: -1}", "line 2, groups.angle: must be at least 0"),
        ("angle: 1}", "angle: true}", "line 2, groups.angle: must be a valid integer"),
        ("{background: 0, angle: 1}", "[background]", "line 2, groups: must be a mapping"),
        ("{id: 1,", "{id: 2,", "line 5, defects.watermark.id: is the id of 'wrong_angle'"),
        ("{id: 1,", "{id: 1.5,", "line 5, defects.watermark.id: must be a valid integer"),
        ("{id: 1,", "{", "line 5, defects.watermark.id: is missing"),
        ("{id: 1,", "{id: !!int abc,", "line 5, defects.watermark.id: must be a valid integer"),
        (
            "order: 2}",
            "order: 3}",
            "line 6, defects.non_white_background.order: is the order of 'watermark'",
        ),
        ("order: 2}", "order: 2, id: 7}", "line 5, defects.watermark.id: appears twice, first in line 5"),
        ("  watermark:   ", "  wrong_angle: ", "line 5, defects.wrong_angle: appears twice, first in line 4"),
        ("  watermark:   ", "  ../x: ", "line 5, defects.../x: a name has"),
        (
            "group: angle, ",
            "group: angel, ",
            "line 4, defects.wrong_angle.group: the label map has no group 'angel'; did you mean 'angle'?",
        ),
        ("min_score: 0.7", "min_score: 1.01", "line 9, rules[1].min_score: must be at most 1"),
        ("min_score: 0.7", "min_score: .nan", "line 9, rules[1].min_score: must be a finite number"),
        ("min_score: 0.7", "min_score: high", "line 9, rules[1].min_score: must be a valid number"),
        (
            "min_score: 0.7",
            "min_scores: 0.7",
            "line 9, rules[1].min_scores: unknown key; did you mean 'min_score'",
        ),
        ("[shirt, dress]", "shirt", "line 9, rules[1].product_types: must be a list"),
        ("[shirt, dress]", "[]", "line 9, rules[1].product_types: must not be empty"),
        (
            "[shirt, dress]",
            "[shirt, 7]",
            "line 9, rules[1].product_types[1]: must be text; write '7' in quotes",
        ),
        ("label: clean", "label: no", "line 12, rules[4].label: must be text; write 'no' in quotes"),
        ("label: clean", "label: ' '", "line 12, rules[4].label: must not be blank"),
        ("{label: clean, defect: null}", "{label: clean}", "line 12, rules[4].defect: is missing"),
        ("{label: clean, defect: null}", "clean", "line 12, rules[4]: must be a mapping"),
        ("defect: null", "defect: blur", "line 12, rules[4].defect: the label map has no defect 'blur'"),
        (
            "{label: clean, defect: null}",
            "{label: watermark, defect: watermark}",
            "line 12, rules[4]: means the same as item [2]",
        ),
        (
            "id: 1,",
            "id: !!python/object/apply:os.getcwd [],",
            "line 5, defects.watermark.id: must be a valid integer",
        ),
        (
            "version: 1",
            "version: 1\ncycle_groups: [backgrund]",
            "line 2, cycle_groups[0]: the label map has no group 'backgrund'; did you mean 'background'?",
        ),
        (
            "version: 1",
            "version: 1\ncycle_groups: [angle, angle]",
            "line 2, cycle_groups[1]: is the same as item [0]",
        ),
        ("version: 1", "version: 1\ncycle_groups: angle", "line 2, cycle_groups: must be a list"),
        ("version: 1", "version: 1\ncycle_group: [angle]", "did you mean 'cycle_groups'?"),
        ("version: 1", "version: 1\n? [a]\n: 2", "line 2: a key must be text"),
        ("version: 1", "version: [1", "line 2"),
    ],
)
def test_each_mistake_is_named_with_its_line_and_key(old: str, new: str, expected: str) -> None:
    assert DESIGN.count(old) == 1
    mistakes = complaints(DESIGN.replace(old, new))
    assert expected in mistakes[0]
    # A wrong name in its definition is also reported where it is used.
    assert all("the label map has no" in line for line in mistakes[1:])


def test_all_mistakes_are_reported_at_once_in_the_order_of_lines() -> None:
    text = DESIGN.replace("version: 1", "version: 9").replace("min_score: 0.7", "min_score: 7")
    text = text.replace("group: angle, ", "group: angel, ").replace("passthrough", "maybe")
    mistakes = complaints(text)
    assert [line.split(",")[0] for line in mistakes] == ["line 1", "line 4", "line 9", "line 13"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing",
        "[]",
        "just text",
        "a: 1\n---\nb: 2",
        "\0",
        "&a [*a, *b]",
        "[" * 5000,
        "defects: {}",
        "rules: []",
    ],
)
def test_a_text_that_is_not_a_label_map_is_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"map\.yaml"):
        LabelMap.parse(text, "map.yaml")


def test_bytes_of_another_encoding_are_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match=r"map\.yaml is not valid YAML"):
        LabelMap.parse("größe: 1".encode("latin-1"), "map.yaml")


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(DESIGN) - 1), st.text(max_size=3), st.integers(0, 3))
def test_an_edited_map_is_read_or_refused_but_never_crashes(at: int, inserted: str, dropped: int) -> None:
    text = DESIGN[:at] + inserted + DESIGN[at + dropped :]
    try:
        label_map = LabelMap.parse(text, "map.yaml")
    except ConfigurationError:
        return
    assert LabelMap.parse(label_map.to_yaml(), "again") == label_map


def test_a_bundle_must_know_each_defect_by_the_same_ids() -> None:
    bundle = LabelMap.default()
    LabelMap.parse(DESIGN, "map").check_bundle(bundle)
    fewer = "".join(line for line in DESIGN.splitlines(keepends=True) if "wrong_angle" not in line)
    LabelMap.parse(fewer, "map").check_bundle(bundle)  # a model may know more defects than the map

    swapped = DESIGN.replace("{id: 1,", "{id: 7,").replace(
        "background: 0, angle: 1", "background: 1, angle: 0"
    )
    with pytest.raises(BundleError) as caught:
        LabelMap.parse(swapped, "map").check_bundle(bundle)
    for name in ("wrong_angle", "watermark", "non_white_background", "--model"):
        assert name in str(caught.value)
    blur = DESIGN.replace("unknown_labels", "  - {label: b, defect: blur}\nunknown_labels")
    blur = blur.replace("rules:", "  blur: {id: 3, group: angle, order: 9}\nrules:")
    with pytest.raises(BundleError, match="'blur' is unknown to the model"):
        LabelMap.parse(blur, "map").check_bundle(bundle)
