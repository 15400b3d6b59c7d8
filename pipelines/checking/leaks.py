"""Finds ids and pictures that are on both sides of the split, by the rows' hashes. All results are of bounded size.

A leak is a picture that training sees and that the test split has under another id: figures measured on it are too
good. The same id under several defects is no leak, as long as all its rows are on one side.
"""

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.checking.hashes import NO_HASH
from pipelines.checking.inspect_unit import IS_TEST, IS_TRAIN, Rows
from pipelines.checking.matching import near_pairs

#: Most leaks and duplicates that the report names; all are counted.
NAMED = 200


@dataclass(frozen=True)
class Pair:
    """Numbers of two images (see `inspect_unit.Rows`), one in each split. distance: number of bits that differ."""

    test: int
    train: int
    distance: int


@dataclass
class Duplicates:
    """Duplicates. count: of all of them. pairs: numbers of two rows, or images, of each of the first ones."""

    count: int = 0
    pairs: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class NearPairs:
    """Pairs of images across the split with near hashes, but different ids and bytes.

    by_distance: number of pairs, by bits. nearest: the pairs to compare: the nearest pair of each two photos. left_out:
    upper bound of the number of others, because a pair that was met twice counts twice.
    """

    by_distance: Counter[int] = field(default_factory=Counter)
    nearest: list[Pair] = field(default_factory=list)
    left_out: int = 0


def repeated_keys(rows: Rows) -> Duplicates:
    """Find rows whose (image_id, defect) an earlier row has."""
    order = np.argsort(rows.keys, kind="stable")
    again = np.flatnonzero(rows.keys[order][1:] == rows.keys[order][:-1])
    pairs = sorted((int(order[at]), int(order[at + 1])) for at in again[:NAMED])
    return Duplicates(len(again), pairs)


def ids_on_both_sides(rows: Rows) -> Duplicates:
    """Find ids with rows in training and in test; pairs are (test row, train row)."""
    test, train = np.flatnonzero(rows.splits == IS_TEST), np.flatnonzero(rows.splits == IS_TRAIN)
    test_ids, test_first = np.unique(rows.ids[test], return_index=True)
    train_ids, train_first = np.unique(rows.ids[train], return_index=True)
    shared, in_test, in_train = np.intersect1d(test_ids, train_ids, assume_unique=True, return_indices=True)
    pairs = zip(test[test_first[in_test]].tolist(), train[train_first[in_train]].tolist(), strict=True)
    return Duplicates(len(shared), sorted(pairs)[:NAMED])


@dataclass
class SameBytes:
    """Contents that several ids share. across: on both sides of the split; pairs are images (test, train).

    within: on one side; pairs are images.
    """

    across: Duplicates
    within: Duplicates


def same_bytes(rows: Rows) -> SameBytes:
    """Find images of equal bytes under different ids."""
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
    same = SameBytes(Duplicates(int((several & both).sum())), Duplicates(int((several & ~both).sum())))
    for group in np.flatnonzero(several & both)[:NAMED]:
        same.across.pairs.append(_of_different_ids(rows, order[starts[group] : ends[group]]))
    for group in np.flatnonzero(several & ~both)[:NAMED]:
        members = order[starts[group] : ends[group]]
        other = members[rows.ids[members // 2] != rows.ids[members[0] // 2]][0]
        same.within.pairs.append((int(members[0]), int(other)))
    same.across.pairs.sort()
    same.within.pairs.sort()
    return same


def _reduce(what: np.ufunc, values: NDArray, starts: NDArray[np.int64]) -> NDArray:
    return what.reduceat(values, starts) if len(starts) else values


def _of_different_ids(rows: Rows, images: NDArray[np.int64]) -> tuple[int, int]:
    """Return a test and a train image of different ids. images: of both splits, with at least two ids."""
    splits, ids = rows.splits[images // 2], rows.ids[images // 2]
    test, train = images[splits == IS_TEST], images[splits == IS_TRAIN]
    for first in test[np.unique(ids[splits == IS_TEST], return_index=True)[1]][:2]:
        others = train[rows.ids[train // 2] != rows.ids[first // 2]]
        if len(others):
            return int(first), int(others[0])
    # The other id is in neither split. These two then share their id, which `ids_on_both_sides` reports.
    return int(test[0]), int(train[0])


def near_across(rows: Rows, distance: int, most: int) -> NearPairs:
    """Find pairs across the split whose hashes differ in at most `distance` bits, and name the `most` nearest."""
    # Thousands of similar tiles with the same hash would make millions of pairs, many more than `most`.
    alike = max(1, math.isqrt(most))
    (test, test_weights), (train, train_weights) = (
        _distinct(rows, split, alike) for split in (IS_TEST, IS_TRAIN)
    )
    near = NearPairs()
    unpaired = 0.0
    kept = np.empty((0, 3), np.int64)  # distance, test image, train image
    for matches in near_pairs(rows.looks[test], rows.looks[train], distance):
        left, right = test[matches.first], train[matches.second]
        different = (rows.ids[left // 2] != rows.ids[right // 2]) & (
            rows.contents[left] != rows.contents[right]
        )
        near.by_distance.update(dict(enumerate(np.bincount(matches.distances[different]).tolist())))
        # Pairs of one id count here too: the images that they stand for may have different ids.
        unpaired += float((test_weights[matches.first] * train_weights[matches.second] - 1).sum())
        fresh = np.stack([matches.distances, left, right], axis=1)[different]
        if len(kept) == most:  # most new pairs are farther than all kept ones: do not sort them
            far = fresh[:, 0] > kept[-1, 0]
            near.left_out += int((~np.isin(_photos(fresh[far], rows), _photos(kept, rows))).sum())
            fresh = fresh[~far]
        kept, dropped = _nearest(np.concatenate([kept, fresh]), rows, most)
        near.left_out += dropped
    near.left_out += math.ceil(unpaired - 1e-6)
    near.by_distance = +near.by_distance
    near.nearest = [Pair(left, right, bits) for bits, left, right in kept.tolist()]
    return near


def _distinct(rows: Rows, split: int, alike: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the images of a split that have a hash, one of each (hash, id), and at most `alike` of each hash.

    Also return for each image how many of its hash it stands for, itself included.
    """
    images = np.flatnonzero((np.repeat(rows.splits, 2) == split) & (rows.looks != NO_HASH))
    images = images[np.lexsort((images, rows.ids[images // 2], rows.looks[images]))]
    looks, ids = rows.looks[images], rows.ids[images // 2]
    if not len(images):
        return images, np.ones(0)
    new = np.concatenate([[True], (looks[1:] != looks[:-1]) | (ids[1:] != ids[:-1])])
    images, looks = images[new], looks[new]
    starts = np.flatnonzero(np.concatenate([[True], looks[1:] != looks[:-1]]))
    lengths = np.diff(np.append(starts, len(images)))
    kept = np.arange(len(images)) - np.repeat(starts, lengths) < alike
    weights = np.repeat(lengths / np.minimum(lengths, alike), lengths)
    order = np.argsort(images[kept])
    return images[kept][order], weights[kept][order]


def _nearest(pairs: NDArray[np.int64], rows: Rows, most: int) -> tuple[NDArray[np.int64], int]:
    """Return the nearest pair of each two photos, at most `most`, and the number of dropped pairs."""
    pairs = pairs[np.lexsort((pairs[:, 2], pairs[:, 1], pairs[:, 0]))]
    first = np.sort(np.unique(_photos(pairs, rows), return_index=True)[1])
    return pairs[first[:most]], max(0, len(first) - most)


def _photos(pairs: NDArray[np.int64], rows: Rows) -> NDArray[np.uint64]:
    """Return for each pair a number that stands for its two photos."""
    # Multiplied, so that (a, b) and (b, a) differ; the product wraps around.
    return rows.ids[pairs[:, 1] // 2] * np.uint64(3) ^ rows.ids[pairs[:, 2] // 2]
