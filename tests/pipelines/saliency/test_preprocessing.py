import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ConfigurationError
from pipelines.saliency.preprocessing import Preprocessing, read_preprocessing

VALUE = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "a"])
JSON = VALUE | st.lists(VALUE, max_size=4) | st.fixed_dictionaries({"a": VALUE})


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["size", "mean", "std", "output", "sigmoid", "other"]), JSON))
def test_any_json_is_settings_or_a_complaint(content: dict[str, object]) -> None:
    try:
        found = read_preprocessing(json.dumps(content).encode())
    except ConfigurationError:
        return
    assert found.size is None or min(found.size) >= 1
    assert min(found.std) > 0


@settings(deadline=None)
@given(st.binary(max_size=30))
def test_any_bytes_are_settings_or_a_complaint(text: bytes) -> None:
    with contextlib.suppress(ConfigurationError):
        assert isinstance(read_preprocessing(text), Preprocessing)


def test_one_number_is_a_square() -> None:
    assert read_preprocessing(b'{"size": 1024}').size == (1024, 1024)
    assert read_preprocessing(b'{"size": [320, 240]}').size == (320, 240)
    assert read_preprocessing(b"{}") == Preprocessing()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"sise": 3}', "sise: unknown key; did you mean 'size'"),
        ('{"size": 0}', "size"),
        ('{"size": [1, 2, 3]}', "size"),
        ('{"size": 1e9}', "size"),
        ('{"std": [1, 0, 1]}', "std"),
        ('{"mean": [0.5, 0.5]}', "mean"),
        ('{"mean": [0.5, 0.5, NaN]}', "mean"),
        ('{"output": "last"}', "output"),
        ('{"sigmoid": 1}', "sigmoid"),
    ],
)
def test_a_wrong_value_is_named(text: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        read_preprocessing(text.encode())
