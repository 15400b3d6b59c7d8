"""What should be on one side of the split and is on both, found in the rows' hashes. Everything returned is bounded.

A leak is a picture that training sees and the test split asks about again under another id: figures measured on it
are too good. The same id under several defects is no leak, as long as all its rows are on one side.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.health.hashes import NO_HASH
from pipelines.health.inspect_unit import IS_TEST, IS_TRAIN, Rows
from pipelines.health.matching import near_pairs

#: Leaks and duplicates that the report names; all are counted.
NAMED = 200
#: Pairs of photos, the nearest first, whose details are compared; the others are counted. Each costs 20 ms, and two
#: images are read again for it.
CANDIDATES = 2000
#: Images of one perceptual hash that are paired with others: beyond them, thousands of hardly different tiles would
#: be millions of pairs that say the same.
MOST_ALIKE = 16


@dataclass(frozen=True)
class Pair:
    """Two images by their numbers (see `inspect_unit.Rows`), the first in the test split; bits that differ."""

    test: int
    train: int
    distance: int


@dataclass
class Duplicates:
    """count: how many there are. pairs: rows that stand for the first of them, by number."""

    count: int = 0
    pairs: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class NearPairs:
    """Pairs of images across the split whose hashes are near and whose ids and bytes differ.

    by_distance: how many, by bits. nearest: of each two photos the nearest pair, CANDIDATES at most; complete: that is
    all of them.
    """

    by_distance: Counter[int] = field(default_factory=Counter)
    nearest: list[Pair] = field(default_factory=list)
    complete: bool = True


def repeated_keys(rows: Rows) -> Duplicates:
    """Rows whose (image_id, defect) an earlier row has."""
    order = np.argsort(rows.keys, kind="stable")
    again = np.flatnonzero(rows.keys[order][1:] == rows.keys[order][:-1])
    pairs = sorted((int(order[place]), int(order[place + 1])) for place in again[:NAMED])
    return Duplicates(len(again), pairs)


def ids_on_both_sides(rows: Rows) -> Duplicates:
    """Ids with rows in training and in test; pairs are (test row, train row)."""
    test, train = np.flatnonzero(rows.splits == IS_TEST), np.flatnonzero(rows.splits == IS_TRAIN)
    test_ids, test_first = np.unique(rows.ids[test], return_index=True)
    train_ids, train_first = np.unique(rows.ids[train], return_index=True)
    shared, in_test, in_train = np.intersect1d(test_ids, train_ids, assume_unique=True, return_indices=True)
    found = zip(test[test_first[in_test]].tolist(), train[train_first[in_train]].tolist(), strict=True)
    return Duplicates(len(shared), sorted(found)[:NAMED])


@dataclass
class SameBytes:
    """Contents that several ids have. across: on both sides of the split, pairs are images (test, train).

    within: on one side, pairs are images.
    """

    across: Duplicates
    within: Duplicates


def same_bytes(rows: Rows) -> SameBytes:
    """Images of equal bytes under different ids."""
    present = np.flatnonzero(rows.contents)
    order = present[np.argsort(rows.contents[present], kind="stable")]
    contents = rows.contents[order]
    starts = np.flatnonzero(np.concatenate([[True], contents[1:] != contents[:-1]])) if len(order) else order
    ids, splits = rows.ids[order // 2], rows.splits[order // 2]
    several = _reduce(np.maximum, ids, starts) != _reduce(np.minimum, ids, starts)
    has_test = _reduce(np.maximum, (splits == IS_TEST).astype(np.uint8), starts) > 0
    has_train = _reduce(np.maximum, (splits == IS_TRAIN).astype(np.uint8), starts) > 0
    both = has_test & has_train
    ends = np.append(starts[1:], len(order))
    found = SameBytes(Duplicates(int((several & both).sum())), Duplicates(int((several & ~both).sum())))
    for group in np.flatnonzero(several & both)[:NAMED]:
        found.across.pairs.append(_strangers(rows, order[starts[group] : ends[group]]))
    for group in np.flatnonzero(several & ~both)[:NAMED]:
        members = order[starts[group] : ends[group]]
        other = members[rows.ids[members // 2] != rows.ids[members[0] // 2]][0]
        found.within.pairs.append((int(members[0]), int(other)))
    found.across.pairs.sort()
    found.within.pairs.sort()
    return found


def _reduce(what: np.ufunc, values: NDArray, starts: NDArray[np.int64]) -> NDArray:
    return what.reduceat(values, starts) if len(starts) else values


def _strangers(rows: Rows, images: NDArray[np.int64]) -> tuple[int, int]:
    """A test and a train image of different ids; the images have both splits and two ids at least."""
    splits, ids = rows.splits[images // 2], rows.ids[images // 2]
    test, train = images[splits == IS_TEST], images[splits == IS_TRAIN]
    for first in test[np.unique(ids[splits == IS_TEST], return_index=True)[1]][:2]:
        others = train[rows.ids[train // 2] != rows.ids[first // 2]]
        if len(others):
            return int(first), int(others[0])
    # A third id is in neither split: then these two share theirs, which `ids_on_both_sides` reports.
    return int(test[0]), int(train[0])


def near_across(rows: Rows, distance: int) -> NearPairs:
    """Pairs across the split whose perceptual hashes differ in at most `distance` bits."""
    test, train = _distinct(rows, IS_TEST), _distinct(rows, IS_TRAIN)
    found = NearPairs()
    kept = np.empty((0, 3), np.int64)  # distance, test image, train image
    for matches in near_pairs(rows.looks[test], rows.looks[train], distance):
        left, right = test[matches.first], train[matches.second]
        strangers = (rows.ids[left // 2] != rows.ids[right // 2]) & (
            rows.contents[left] != rows.contents[right]
        )
        found.by_distance.update(dict(enumerate(np.bincount(matches.distances[strangers]).tolist())))
        fresh = np.stack([matches.distances, left, right], axis=1)[strangers]
        if len(kept) == CANDIDATES:  # most are farther than all that are kept: sorting them would be in vain
            near = fresh[:, 0] <= kept[-1, 0]
            found.complete &= bool(near.all())
            fresh = fresh[near]
        kept, dropped = _nearest(np.concatenate([kept, fresh]), rows)
        found.complete &= not dropped
    found.by_distance = +found.by_distance
    found.nearest = [Pair(left, right, bits) for bits, left, right in kept.tolist()]
    return found


def _distinct(rows: Rows, split: int) -> NDArray[np.int64]:
    """Images of a split that have a hash: one of each (hash, id), and MOST_ALIKE at most of each hash."""
    images = np.flatnonzero((np.repeat(rows.splits, 2) == split) & (rows.looks != NO_HASH))
    images = images[np.lexsort((images, rows.ids[images // 2], rows.looks[images]))]
    looks, ids = rows.looks[images], rows.ids[images // 2]
    if not len(images):
        return images
    new = np.concatenate([[True], (looks[1:] != looks[:-1]) | (ids[1:] != ids[:-1])])
    images, looks = images[new], looks[new]
    starts = np.flatnonzero(np.concatenate([[True], looks[1:] != looks[:-1]]))
    lengths = np.diff(np.append(starts, len(images)))
    place = np.arange(len(images)) - np.repeat(starts, lengths)
    return np.sort(images[place < MOST_ALIKE])


def _nearest(pairs: NDArray[np.int64], rows: Rows) -> tuple[NDArray[np.int64], bool]:
    """Of each two photos the nearest pair, CANDIDATES of them at most; whether some were dropped."""
    pairs = pairs[np.lexsort((pairs[:, 2], pairs[:, 1], pairs[:, 0]))]
    # Multiplied, so that (a, b) and (b, a) differ; the product wraps around.
    photos = rows.ids[pairs[:, 1] // 2] * np.uint64(3) ^ rows.ids[pairs[:, 2] // 2]
    first = np.sort(np.unique(photos, return_index=True)[1])
    return pairs[first[:CANDIDATES]], len(first) > CANDIDATES
