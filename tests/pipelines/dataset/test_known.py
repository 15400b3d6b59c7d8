import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.dataset.known import KnownIds, hash_ids

IDS = st.lists(st.text(max_size=3), max_size=30)


@settings(deadline=None)
@given(st.lists(IDS, max_size=5))
def test_an_id_is_new_exactly_once_however_ids_are_cut_into_calls(chunks: list[list[str]]) -> None:
    known, seen = KnownIds(), set()
    for chunk in chunks:
        expected = []
        for name in chunk:
            expected.append(name not in seen)
            seen.add(name)
        assert known.add(chunk).tolist() == expected
        assert known.has(chunk).all()
    assert len(known.hashes) == len(seen)


@settings(deadline=None)
@given(IDS, IDS)
def test_what_is_kept_comes_back_without_what_was_taken_out(ids: list[str], removed: list[str]) -> None:
    known = KnownIds(hash_ids(ids)).without(hash_ids(removed))
    again = KnownIds.from_bytes(known.to_bytes())
    assert again.has(ids).tolist() == [name not in removed for name in ids]
    other = KnownIds()
    other.merge(again.hashes)
    np.testing.assert_array_equal(other.hashes, known.hashes)
    assert known.hashes.nbytes == 8 * len(set(ids) - set(removed))
