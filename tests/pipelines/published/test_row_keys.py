from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.contracts.label_map import Route
from pipelines.published.row_keys import (
    KEY,
    IdSums,
    KeySet,
    column_keys,
    id_buckets,
    id_keys,
    key_of,
    keys_column,
    route_text,
    row_key,
    to_keys,
    work_key,
)

PARTS = st.lists(st.none() | st.text(st.characters(codec=None), max_size=4), max_size=4)
IDS = st.lists(st.text(max_size=3), max_size=30)


@settings(deadline=None)
@given(PARTS, PARTS)
def test_different_parts_have_different_keys(one: list[str | None], other: list[str | None]) -> None:
    assert (key_of(*one) == key_of(*other)) == (one == other)
    assert len(key_of(*one)) == 16


def test_an_input_that_cannot_be_told_from_another_has_no_key() -> None:
    work = work_key("a", "watermark", "identity")
    assert row_key(work, None, None, None) is None
    assert row_key(work, None, None, "etag:1:2") != row_key(work, None, None, "etag:1:3")


def test_unknown_labels_count_only_where_they_fail() -> None:
    known, unknown = Route(("watermark",), ()), Route(("watermark",), ("dots",))
    assert route_text(known, False) == route_text(unknown, False)
    assert route_text(known, True) != route_text(unknown, True)


@settings(deadline=None)
@given(st.lists(st.sampled_from([bytes(16), b"a" * 15 + b"\0", b"a" * 16, b"\xff" * 16]), max_size=12))
def test_a_set_counts_its_keys_and_arrow_carries_them(keys: list[bytes]) -> None:
    key_set = KeySet(to_keys(keys))
    asked = [bytes(16), b"a" * 15 + b"\0", b"a" * 16, b"\xff" * 16, b"b" * 16]
    assert key_set.copies(to_keys(asked)).tolist() == [keys.count(key) for key in asked]
    column = keys_column(to_keys(keys))
    assert column.to_pylist() == keys
    chunked = pa.chunked_array([pa.array([None, *keys, None], KEY).slice(1)])
    assert column_keys(chunked).tobytes() == b"".join(keys)


@settings(deadline=None)
@given(IDS, IDS)
def test_sums_are_equal_exactly_where_the_ids_are(one: list[str], other: list[str]) -> None:
    sums = []
    for ids in (one, other):
        whole, part = IdSums(), IdSums()
        whole.add(id_keys(ids[: len(ids) // 2]))
        part.add(id_keys(ids[len(ids) // 2 :]))
        whole.merge(IdSums.from_bytes(part.to_bytes()))
        assert whole.rows == len(ids)
        sums.append(whole)
    different = set(sums[0].different(sums[1]))
    wrong = [*(Counter(one) - Counter(other)), *(Counter(other) - Counter(one))]
    assert different == set(id_buckets(id_keys(wrong)).tolist())


def test_buckets_are_even() -> None:
    counts = np.bincount(id_buckets(id_keys(f"{n}" for n in range(50_000))), minlength=1024)
    assert counts.min() > 15
    assert counts.max() < 100
