from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.preparation.plan.known import KnownIds

IDS = st.lists(st.text(max_size=3), max_size=30)


@settings(deadline=None)
@given(st.lists(IDS, max_size=5))
def test_an_id_is_new_exactly_once_however_calls_divide_them(chunks: list[list[str]]) -> None:
    known, seen = KnownIds(), set()
    for chunk in chunks:
        expected = []
        for name in chunk:
            expected.append(name not in seen)
            seen.add(name)
        assert known.add(chunk).tolist() == expected
        assert known.has(chunk).all()
    assert known.hashes.nbytes == 8 * len(seen)
