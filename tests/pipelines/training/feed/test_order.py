"""The order of an epoch: which rows are drawn, how often, by which worker, and with which partners."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.shards.index import PAIRED, SOURCE, TARGET, TEST, VALIDATION, Index
from pipelines.training.feed.order import Draw, Row, SamplingConfig, WorkerEpoch, epoch_draws, row_uses

PAIR = SOURCE | TARGET | PAIRED


def index_of(rows: list[tuple[int, int]], group_size: int = 4) -> Index:
    """Return an index of (type, kind) rows, in row groups of `group_size`."""
    starts = [*range(0, len(rows), group_size), len(rows)]
    return Index(
        ("file",),
        np.array([(0, number) for number in range(len(starts) - 1)], np.int32).reshape(-1, 2),
        np.array(starts, np.int64),
        np.array([type_ for type_, _ in rows], np.int16),
        np.array([kind for _, kind in rows], np.uint8),
    )


def draws(index: Index, config: SamplingConfig, *position: int) -> list[Draw]:
    """Return draws without pixels; position: seed, epoch, rank, workers."""
    epoch = WorkerEpoch(index, config, *position)
    rows = (Row(int(n), int(index.types[n])) for part in epoch.parts() for n in part.rows)
    return list(epoch.draws(rows))


def numbers(drawn: list[Draw]) -> list[int]:
    return [draw.source.number for draw in drawn]


HELD_BACK = TEST | VALIDATION
KINDS = st.sampled_from(
    [
        *(PAIR, SOURCE, TARGET, SOURCE | TARGET, PAIR | TEST, SOURCE | TEST),
        *(PAIR | VALIDATION, SOURCE | VALIDATION, TARGET | VALIDATION),
    ]
)
DATA = st.lists(st.tuples(st.integers(0, 2), KINDS), min_size=1, max_size=60)
CONFIGS = st.builds(
    SamplingConfig,
    sampler=st.sampled_from(["proportional", "balanced"]),
    shuffle_rows=st.integers(1, 20),
    pairs=st.booleans(),
    unpaired=st.booleans(),
)


@given(DATA, CONFIGS, st.integers(1, 4), st.integers(0, 2**31), st.integers(1, 7))
def test_workers_share_an_epoch_evenly_and_unpaired_sources_get_targets_of_their_defect(
    rows: list[tuple[int, int]], config: SamplingConfig, workers: int, seed: int, group_size: int
) -> None:
    index = index_of(rows, group_size)
    shares = [draws(index, config, seed, 3, rank, workers) for rank in range(workers)]
    assert {len(share) for share in shares} == {epoch_draws(index, config) // workers}
    for draw in (draw for share in shares for draw in share):
        kinds = index.kinds[[draw.source.number, draw.target.number]]
        assert not (kinds & HELD_BACK).any()
        assert kinds[1] & TARGET
        assert draw.source.type == draw.target.type
        assert draw.paired == (config.pairs and bool(kinds[0] & PAIRED))
        if draw.paired:
            assert draw.target is draw.source
            np.testing.assert_array_equal(draw.chance[0], draw.chance[1])


@given(DATA, st.integers(1, 20), st.integers(0, 2**31))
def test_an_epoch_draws_every_pair_once_and_loses_no_unpaired_source(
    rows: list[tuple[int, int]], window: int, seed: int
) -> None:
    index = index_of(rows)
    counts = Counter(numbers(draws(index, SamplingConfig(shuffle_rows=window), seed, 1)))
    targets = {type_ for type_, kind in rows if kind & TARGET and not kind & HELD_BACK}
    for number, (type_, kind) in enumerate(rows):
        if kind & HELD_BACK or not kind & SOURCE or (not kind & PAIRED and type_ not in targets):
            assert counts[number] == 0
        elif kind & PAIRED:
            assert counts[number] == 1
        else:
            assert counts[number] >= 1


def test_the_order_depends_on_seed_and_epoch() -> None:
    index = index_of([(0, PAIR)] * 200)
    config = SamplingConfig(shuffle_rows=16)
    orders = [numbers(draws(index, config, seed, epoch)) for seed, epoch in ((1, 1), (1, 1), (1, 2), (2, 1))]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] != orders[3] != orders[0]
    assert orders[0] != sorted(orders[0])


def test_unpaired_sources_get_other_targets_every_epoch_and_all_are_used_in_time() -> None:
    index = index_of([(0, SOURCE)] * 20 + [(0, TARGET)] * 30)
    used = [Counter(draw.target.number for draw in draws(index, SamplingConfig(), 0, e)) for e in range(1, 9)]
    assert used[0] != used[1]
    assert set().union(*used) == set(range(20, 50))


def test_an_unpaired_epoch_is_as_long_as_the_larger_side() -> None:
    assert epoch_draws(index_of([(0, SOURCE)] * 20 + [(0, TARGET)] * 50), SamplingConfig()) == 50
    assert epoch_draws(index_of([(0, SOURCE)] * 50 + [(0, TARGET)] * 20), SamplingConfig()) == 50


def test_balanced_draws_every_defect_equally_often_and_spreads_the_rare_one() -> None:
    index = index_of([(0, PAIR)] * 90 + [(1, PAIR)] * 7)
    drawn = draws(index, SamplingConfig(sampler="balanced", shuffle_rows=8), 0, 1)
    assert Counter(draw.source.type for draw in drawn) == {0: 90, 1: 90}
    counts = Counter(number for number in numbers(drawn) if number >= 90)
    assert set(counts.values()) == {12, 13}  # 90 over 7 rows
    thirds = [Counter(draw.source.type for draw in drawn[start : start + 60])[1] for start in (0, 60, 120)]
    assert min(thirds) > 10


def test_repeat_draws_a_defects_rows_more_often() -> None:
    index = index_of([(0, PAIR)] * 5 + [(1, PAIR)] * 5)
    uses = row_uses(index, SamplingConfig(repeat=((1, 3),)), np.random.default_rng(0))
    assert uses.tolist() == [1] * 5 + [3] * 5


@pytest.mark.parametrize(
    ("pairs", "unpaired", "drawn"), [(True, True, 8), (True, False, 5), (False, True, 8)]
)
def test_rows_that_no_loss_term_uses_are_not_drawn(pairs: bool, unpaired: bool, drawn: int) -> None:
    index = index_of([(0, PAIR)] * 5 + [(0, SOURCE)] * 3)
    result = draws(index, SamplingConfig(pairs=pairs, unpaired=unpaired), 0, 1)
    assert len(result) == drawn
    assert sum(draw.paired for draw in result) == (5 if pairs else 0)
