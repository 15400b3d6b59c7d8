from typing import Annotated

import pytest
from pydantic import Field

from model.errors import ConfigurationError
from pipelines.contracts.yaml_reader import Number, StrictModel, Text, Whole, YamlFile


class Item(StrictModel):
    name: Text
    size: Number = 1.0


class Settings(StrictModel):
    count: Whole
    items: Annotated[tuple[Item, ...], Field(min_length=1)] = ()
    note: Text | None = None


def complaint(text: str | bytes) -> str:
    with pytest.raises(ConfigurationError) as caught:
        YamlFile(text, "file.yaml").parse(Settings)
    return str(caught.value)


def test_values_have_the_types_of_yaml() -> None:
    text = "{count: 0x10, items: [{name: '2', size: 2}, {name: 2026-11-22}], note: ~}"
    assert YamlFile(text, "file").parse(Settings) == Settings(
        count=16, items=(Item(name="2", size=2.0), Item(name="2026-11-22")), note=None
    )


def test_mistakes_are_reported_together_in_the_order_of_lines_with_key_and_remedy() -> None:
    text = """count: yes
items:
  - name: no
  - {size: big}
  - {name: x, name: y}
  - text
ntoe: x
1: x
"""
    assert complaint(text).splitlines() == [
        "file.yaml has 8 problems:",
        "  line 1, count: must be a valid integer",
        "  line 3, items[0].name: must be text; write 'no' in quotes",
        "  line 4, items[1].name: is missing",
        "  line 4, items[1].size: must be a valid number",
        "  line 5, items[2].name: appears twice, first in line 5",
        "  line 6, items[3]: must be a mapping (key: value)",
        "  line 7, ntoe: unknown key; did you mean 'note'?",
        "  line 8: a key must be text; write '1' in quotes",
    ]


def test_a_single_mistake_is_one_line() -> None:
    assert complaint("count: 1\nitems: x\n") == "file.yaml: line 2, items: must be a list"


def test_a_list_is_called_empty_only_without_items() -> None:
    assert complaint("{count: 1, items: []}") == "file.yaml: line 1, items: must not be empty"
    assert complaint("{count: 1, items: [{}]}") == "file.yaml: line 1, items[0].name: is missing"


def test_a_known_key_in_the_wrong_place_is_not_suggested() -> None:
    assert complaint("{count: 1, name: x}") == "file.yaml: line 1, name: unknown key; leave it out"


def test_aliases_stand_for_their_values() -> None:
    file = YamlFile("{count: 1, items: [&a {name: x}, *a]}", "file").parse(Settings)
    assert file.items == (Item(name="x"), Item(name="x"))


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "file.yaml is not valid YAML: more than 100000 values"),
        ("&a {count: *a}", "file.yaml is not valid YAML"),
        ("[" * 5000, "file.yaml is not valid YAML"),
        ("größe: 1".encode("latin-1"), "file.yaml is not valid YAML"),
        (b"\0", "file.yaml is not valid YAML"),
        ("", "file.yaml is empty"),
        ("count: 1\n- x", "file.yaml: line 2: "),
        ("count: 1\n---\ncount: 2", "file.yaml: line 2: "),
        ("count: *nobody", "file.yaml: line 1: "),
        ("count: !!int abc", "file.yaml: line 1, count: must be a valid integer"),
        ("count: !!int ''", "file.yaml: line 1, count: must be a valid integer"),
        ("count: " + "9" * 5000, "file.yaml: line 1, count: must be a valid integer"),
        ("{count: 1, note: !!python/name:os.system x}", "file.yaml: line 1, note: must be text"),
        ("count: !!python/object/apply:os.getcwd []", "file.yaml: line 1, count: must be a valid integer"),
    ],
)
def test_hostile_and_broken_texts_are_one_clear_error(text: str | bytes, message: str) -> None:
    actual = complaint(text)
    assert actual.startswith(message)
    assert "\n" not in actual
