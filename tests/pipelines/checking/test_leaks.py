"""Duplicates and leaks among rows made of numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.checking import matching
from pipelines.checking.hashes import content_hash
from pipelines.checking.inspect_unit import IS_NEITHER, IS_TEST, IS_TRAIN, Rows
from pipelines.checking.leaks import ids_on_both_sides, near_across, repeated_keys, same_bytes

TRAIN, TEST, NEITHER = IS_TRAIN, IS_TEST, IS_NEITHER
#: (id, split, hash of the source, its bytes, hash of the target, its bytes)
Row = tuple[int, int, int, int, int, int]


def rows(*given: Row) -> Rows:
    ids, splits, x, x_bytes, y, y_bytes = (list(column) for column in zip(*given, strict=True))
    return Rows(
        np.array(ids, np.uint64),
        np.array(ids, np.uint64),
        np.array(splits, np.uint8),
        np.array([x, y], np.uint64).T.ravel(),
        np.array([x_bytes, y_bytes], np.uint64).T.ravel(),
    )


def image(number: int, split: int, look: int, content: int | None = None) -> Row:
    """A row of one image."""
    return (number, split, look, content if content is not None else 1000 * number + look, 0, 0)


ROWS = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from([TRAIN, TEST, NEITHER]), *[st.integers(0, 3)] * 4),
    min_size=1,
    max_size=8,
)


@given(ROWS)
def test_equal_bytes_and_ids_are_counted_as_by_comparing_all_with_all(given: list[Row]) -> None:
    images = [(i, split, content) for i, split, _, a, _, b in given for content in (a, b)]
    across, within = set(), set()
    for content in {c for _, _, c in images} - {0}:
        ids = {i for i, _, c in images if c == content}
        sides = {split for _, split, c in images if c == content}
        if len(ids) > 1:
            (across if {TRAIN, TEST} <= sides else within).add(content)
    same = same_bytes(rows(*given))
    assert (same.across.count, same.within.count) == (len(across), len(within))
    assert {images[a][2] for a, _ in same.across.pairs} == across
    for test, train in same.across.pairs:
        assert (images[test][1], images[train][1]) == (TEST, TRAIN)
        assert images[test][2] == images[train][2]
    for a, b in same.within.pairs:
        assert images[a][0] != images[b][0]
    both = {i for i, split, *_ in given if split == TEST} & {i for i, split, *_ in given if split == TRAIN}
    assert ids_on_both_sides(rows(*given)).count == len(both)
    assert repeated_keys(rows(*given)).count == len(given) - len({i for i, *_ in given})


def test_near_pairs_are_of_different_ids_and_bytes_across_the_split() -> None:
    look = 0xFF00FF00FF00FF00
    near = near_across(
        rows(
            image(1, TEST, look),
            image(1, TRAIN, look ^ 1),  # the same id, which `ids_on_both_sides` reports
            image(2, TEST, look ^ 1),  # the same side
            image(3, TRAIN, look ^ 3),
            image(4, TRAIN, look, 1000 + look),  # the bytes of the first, which `same_bytes` reports
            image(5, NEITHER, look),
            image(6, TRAIN, 0),  # no hash
            image(7, TRAIN, ~look & (2**64 - 1)),
        ),
        2,
        100,
    )
    pairs = {(pair.test // 2, pair.train // 2, pair.distance) for pair in near.nearest}
    assert pairs == {(0, 3, 2), (2, 1, 0), (2, 3, 1), (2, 4, 1)}
    assert near.by_distance == {0: 1, 1: 2, 2: 1}
    assert near.left_out == 0


def test_of_two_photos_the_nearest_pair_stands_for_all() -> None:
    look = 0x0F0F0F0F0F0F0F0F
    near = near_across(rows((1, TEST, look, 1, look ^ 7, 2), (2, TRAIN, look ^ 3, 3, look ^ 7 ^ 16, 4)), 8, 1)
    assert [(pair.test, pair.train, pair.distance) for pair in near.nearest] == [(1, 2, 1)]
    assert sum(near.by_distance.values()) == 4


def test_more_pairs_than_are_compared_are_counted() -> None:
    test = [image(1, TEST, 0xFF)]
    train = [image(2 + n, TRAIN, 0xFF ^ (2 ** (n + 1) - 1)) for n in range(4)]
    near = near_across(rows(*train, *test), 8, 2)
    assert [pair.distance for pair in near.nearest] == [1, 2]
    assert near.left_out == 2
    assert near_across(rows(*train[:2], *test), 8, 2).left_out == 0


def test_a_tile_of_thousands_of_photos_makes_no_millions_of_pairs() -> None:
    tiles = [image(n, TEST if n % 2 else TRAIN, 0xFF) for n in range(1, 41)]
    near = near_across(rows(*tiles), 0, 9)
    assert near.by_distance == {0: 9}
    assert near.left_out == 20 * 20 - 9


LOOKS = st.lists(
    st.tuples(st.integers(1, 8), st.sampled_from([TRAIN, TEST]), st.sampled_from([7, 7, 7, 6, 15, 2**40])),
    max_size=14,
)


@settings(deadline=None, max_examples=40)
@given(LOOKS.filter(len), st.integers(1, 30), st.sampled_from([3, 1000]))
def test_every_pair_of_photos_is_named_or_counted(
    given: list[tuple[int, int, int]], most: int, chunk: int
) -> None:
    # Ids are hashes. With small numbers, or multiples of one, different pairs could look the same by accident.
    given = [(content_hash(b"%d" % n), split, look) for n, split, look in given]
    made = rows(*(image(n, split, look, 100 + position) for position, (n, split, look) in enumerate(given)))
    pairs = {
        (a[0], b[0])
        for a in given
        for b in given
        if a[1] == TEST and b[1] == TRAIN and a[0] != b[0] and (a[2] ^ b[2]).bit_count() <= 8
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(matching, "_CHUNK", chunk)
        near = near_across(made, 8, most)
    named = {(int(made.ids[pair.test // 2]), int(made.ids[pair.train // 2])) for pair in near.nearest}
    assert len(named) == len(near.nearest) <= most
    assert named <= pairs
    assert len(named) + near.left_out >= len(pairs)
    if most > len(given) ** 2:
        assert near.left_out == 0


def test_one_side_alone_has_no_leaks() -> None:
    alone = rows(image(1, TRAIN, 5), image(2, TRAIN, 5))
    assert near_across(alone, 8, 10).nearest == []
    assert ids_on_both_sides(alone).count == 0
