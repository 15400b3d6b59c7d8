import pytest

from model.errors import ConfigurationError
from pipelines.yaml_reader import YamlReader


def test_values_are_typed_as_yaml_means_them() -> None:
    reader = YamlReader("file")
    fields = reader.fields(
        reader.root("{a: 0x10, b: 2, c: '2', d: ~, e: [x]}"), "", ("a", "b", "c", "d", "e")
    )
    assert reader.integer(fields["a"], "a") == 16
    assert reader.number(fields["b"], "b", 0, 2) == 2.0
    assert reader.text(fields["c"], "c") == "2"
    assert reader.is_null(fields["d"])
    assert not reader.is_null(fields["c"])
    assert [reader.text(item, "e") for item in reader.items(fields["e"], "e", empty="empty")] == ["x"]
    reader.finish()


def test_complaints_come_together_sorted_by_line() -> None:
    reader = YamlReader("file")
    fields = reader.fields(reader.root("known: x\nalso: []\nknwon: 1\n"), "", ("known", "also", "absent"))
    assert reader.integer(fields["known"], "known") is None
    assert reader.items(fields["also"], "also", empty="is empty") == []
    with pytest.raises(ConfigurationError) as caught:
        reader.finish()
    assert str(caught.value).splitlines() == [
        "file has 4 problems:",
        "  line 1, absent: is missing",
        "  line 1, known: must be a whole number",
        "  line 2, also: is empty",
        "  line 3, knwon: unknown key; did you mean 'known'?",
    ]
