import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.contracts.sampling import Sample, Smallest, sample_hash
from pipelines.contracts.splits import split_of

numbers = st.integers(0, 2**64 - 1)


@given(st.lists(st.lists(numbers, max_size=20), max_size=10), st.integers(1, 30))
def test_exactly_the_smallest_are_kept_for_any_order_and_chunks(chunks: list[list[int]], n: int) -> None:
    forward, backward = Smallest(n), Smallest(n)
    for chunk in chunks:
        forward.add(chunk)
    for chunk in reversed(chunks):
        backward.add(np.array(chunk[::-1], np.uint64))
    expected = sorted(number for chunk in chunks for number in chunk)[:n]
    assert forward.values.tolist() == backward.values.tolist() == expected
    assert forward.threshold() == (expected[-1] if expected else None)


@given(st.sets(st.text(min_size=1), min_size=1, max_size=60), st.integers(1, 40))
def test_a_threshold_selects_the_sample(ids: set[str], n: int) -> None:
    smallest = Smallest(n)
    smallest.add(sample_hash(name) for name in ids)
    threshold = smallest.threshold()
    assert threshold is not None
    sample = Sample({"mugs": threshold})
    chosen = {name for name in ids if sample.has("mugs", name)}
    assert chosen == set(sorted(ids, key=sample_hash)[:n])
    assert not any(sample.has("shirts", name) for name in ids)


@given(st.lists(numbers, min_size=5, max_size=50), st.integers(1, 5))
def test_the_threshold_of_a_smaller_sample_comes_from_the_same_numbers(seen: list[int], n: int) -> None:
    smallest = Smallest(20)
    smallest.add(seen)
    assert smallest.threshold(n) == sorted(seen)[n - 1]


def test_without_numbers_there_is_no_sample() -> None:
    assert Smallest(3).threshold() is None


def test_the_sample_is_independent_of_the_split() -> None:
    ids = [f"image-{number}" for number in range(2000)]
    sampled = sorted(ids, key=sample_hash)[:400]
    test_share = sum(split_of(name) == "test" for name in sampled) / len(sampled)
    assert 0.1 < test_share < 0.3  # 0.2 expected, standard deviation 0.02


def test_only_some_sets() -> None:
    assert Sample({"a": 1, "b": 2}).only({"b", "c"}) == Sample({"b": 2})
