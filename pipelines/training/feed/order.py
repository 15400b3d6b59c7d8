"""Computes an epoch's order: a pure function of the index, the seed, the epoch, the worker and the number of workers.

The row groups of all datasets together are permuted; each worker gets an equal run of the epoch's draws and shuffles it
within a window. Nothing here touches pixels. So a resumed training computes its position at no cost, and reads only
the rows after it.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.config import require, require_choice
from pipelines.shards.index import PAIRED, SOURCE, TARGET, Index

SAMPLERS = ("proportional", "balanced")
#: The images of a row: its columns in a shard, and the attributes of `Row` and `Decoded`.
SIDES = ("source", "target")
#: Real targets kept per defect as partners of unpaired sources; a bound on memory, not a tuning knob.
TARGET_POOL = 64
#: How many of these are read before an epoch's first row, so that a rare defect's first sources have partners.
PREFILL = 16
#: The turn of rows that are read for this.
PREFILL_TURN = -1
#: Rows kept after they were drawn: at the end of an epoch nothing else can replace a broken row.
RECENT = 8


@dataclass(frozen=True)
class SamplingConfig:
    """Configure how often an epoch draws which rows, and how well it shuffles them."""

    # `proportional` (the paper's) draws every row once; `balanced` draws every defect equally often. Use the latter if
    # one defect has a hundred times another's photos and the small one does not learn.
    sampler: str = "proportional"
    # (defect's type id, N): its rows are drawn N times an epoch. For a defect that is harder than the others.
    repeat: tuple[tuple[int, int], ...] = ()
    # Decoded rows to shuffle among, per worker: 2 * 3 * image_size^2 bytes each.
    shuffle_rows: int = 512
    # What the method learns from. Pairs that no loss term compares are drawn as if they were unpaired.
    pairs: bool = True
    unpaired: bool = True

    def __post_init__(self) -> None:
        require_choice("sampler", self.sampler, SAMPLERS)
        require(self.shuffle_rows >= 1, f"shuffle_rows must be 1 or more, got {self.shuffle_rows}")


class Row:
    """Hold a row during an epoch. source, target: uint8 (side, side, 3), or None until they are decoded.

    defects, changed, theta: see `shards.reading.Decoded`. turn: number of this draw among the row's draws in the epoch.
    """

    __slots__ = ("changed", "defects", "number", "source", "target", "theta", "turn", "type")

    def __init__(self, number: int, type_: int, turn: int = 0) -> None:
        self.number, self.type, self.turn = number, type_, turn
        self.source: NDArray[np.uint8] | None = None
        self.target: NDArray[np.uint8] | None = None
        self.defects: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self.changed: NDArray[np.uint8] | None = None
        self.theta: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Draw:
    """Hold one training sample: x from the row `source`, y from the row `target` (the same row if paired).

    chance: (2, 3) floats in [0, 1), for x and y: vertical and horizontal crop position, and whether to mirror. Both are
    alike for a pair.
    """

    source: Row
    target: Row
    paired: bool
    chance: NDArray[np.float64] = field(repr=False)


@dataclass(frozen=True)
class Part:
    """Name rows to read from one row group. rows: their numbers in the index, ascending. drawn: which become sources.

    turn: a row that is drawn three times in the epoch is in three parts, with the turns 0, 1 and 2.
    """

    unit: int
    rows: NDArray[np.int64]
    drawn: NDArray[np.bool_]
    turn: int = 0


def drawable(index: Index, config: SamplingConfig) -> NDArray[np.bool_]:
    """Return (N,) flags: the rows that become a sample's x."""
    training = index.training
    paired = (index.kinds & PAIRED).astype(bool) & (config.pairs | config.unpaired)
    source = (index.kinds & SOURCE).astype(bool) & config.unpaired
    drawn = training & (paired | source)
    if config.unpaired:  # a source whose defect has no real image at all would have no partner
        for type_ in np.unique(index.types[drawn]):
            if not index.having(int(type_), TARGET).any():
                drawn &= index.types != type_
    return drawn


def row_uses(index: Index, config: SamplingConfig, rng: np.random.Generator) -> NDArray[np.int32]:
    """Return (N,) counts: how often an epoch draws each row.

    The sum does not depend on the rng, which only decides which rows get the remainder of a fractional count. A defect
    with more unpaired targets than sources draws its sources more often, so that an epoch is max(|X|, |Y|).
    """
    drawn = drawable(index, config)
    repeat = dict(config.repeat)
    types = [int(type_) for type_ in np.unique(index.types[drawn])]
    totals: dict[int, list[tuple[NDArray[np.int64], float]]] = {}
    for type_ in types:
        mine = drawn & (index.types == type_)
        pairs = np.flatnonzero(mine & (index.kinds & PAIRED > 0))
        sources = np.flatnonzero(mine & (index.kinds & PAIRED == 0))
        lonely = index.having(type_, TARGET) & (index.kinds & PAIRED == 0)
        each = max(1.0, int(lonely.sum()) / len(sources)) if len(sources) else 1.0
        times = repeat.get(type_, 1)
        totals[type_] = [(pairs, times), (sources, times * each)]
    sizes = {type_: sum(len(rows) * each for rows, each in kinds) for type_, kinds in totals.items()}
    most = max(sizes.values(), default=0.0)
    uses = np.zeros(len(index.types), np.int32)
    for type_, kinds in totals.items():
        scale = most / sizes[type_] if config.sampler == "balanced" else 1.0
        for rows, each in kinds:
            if len(rows):
                whole, rest = divmod(round(len(rows) * each * scale), len(rows))
                uses[rows] = whole
                uses[rng.permutation(rows)[:rest]] += 1
    return uses


def epoch_draws(index: Index, config: SamplingConfig) -> int:
    """Return the number of samples of an epoch over all workers: the same in every epoch."""
    return int(row_uses(index, config, np.random.default_rng(0)).sum())


class WorkerEpoch:
    """Compute one worker's share of one epoch: `parts` yields what to read, and `draws` the samples, both in order."""

    def __init__(
        self, index: Index, config: SamplingConfig, seed: int, epoch: int, rank: int = 0, workers: int = 1
    ) -> None:
        shared = np.random.default_rng((seed, epoch))  # every worker draws the same permutation
        self.index, self.config = index, config
        self.rng = np.random.default_rng((seed, epoch, workers, rank))
        uses = row_uses(index, config, shared)
        self.size = int(uses.sum()) // workers
        self.unpaired_types = self._types_with_unpaired(uses)
        self._first = rank * self.size
        self._uses = uses
        self._entries = self._permuted(shared)
        self._prefill = self._drawn_targets()
        self.window: list[Row] = []
        self.recent: deque[Row] = deque(maxlen=RECENT)
        self.pools: dict[int, list[Row]] = {}

    def _types_with_unpaired(self, uses: NDArray[np.int32]) -> list[int]:
        """Return the defects with samples that need another row's target."""
        if not self.config.unpaired:
            return []
        alone = uses > 0
        if self.config.pairs:
            alone &= self.index.kinds & PAIRED == 0
        return [int(type_) for type_ in np.unique(self.index.types[alone])]

    def _kept(self) -> NDArray[np.bool_]:
        """Return (N,) flags: rows that are read but are no sample's x, the real targets of defects that need them."""
        wanted = self.index.training & np.isin(self.index.types, self.unpaired_types)
        return wanted & (self.index.kinds & TARGET > 0) & (self._uses == 0)

    def _permuted(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return (E, 3): unit, pass, number of draws before it in the epoch.

        Pass k has the rows that are used more than k times. A unit's passes are spread over the epoch, and so are the
        draws of a row that is drawn often.
        """
        read = np.flatnonzero((self._uses > 0) | self._kept())
        uses, unit_of = self._uses[read], self._units_of(read)
        units = np.unique(unit_of)
        # Rows that are read but not drawn belong to pass 0, and add nothing to its number of draws.
        entries = [np.stack([units, np.zeros_like(units)], axis=1)]
        counts = [np.bincount(unit_of[uses > 0], minlength=len(self.index.units))[units]]
        turn = 1
        # Each pass computes with its own rows only: a rare defect may be drawn thousands of times beside a large one.
        while (again := uses > turn).any():
            uses, unit_of = uses[again], unit_of[again]
            units, draws = np.unique(unit_of, return_counts=True)
            entries.append(np.stack([units, np.full_like(units, turn)], axis=1))
            counts.append(draws)
            turn += 1
        table, sizes = np.concatenate(entries), np.concatenate(counts)
        order = rng.permutation(len(table))
        before = np.concatenate([[0], np.cumsum(sizes[order])])[:-1] if len(order) else sizes
        return np.column_stack([table[order], before])

    def _units_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row group of each row."""
        return np.searchsorted(self.index.starts, rows, side="right") - 1

    def _drawn_targets(self) -> list[Part]:
        """Return parts with a few real targets of each defect that needs them, from as few row groups as possible."""
        parts = []
        for type_ in self.unpaired_types:
            rows = np.flatnonzero(self.index.having(type_, TARGET))
            units = self._units_of(rows)
            left = PREFILL
            for unit in self.rng.permutation(np.unique(units)):
                chosen = self.rng.permutation(rows[units == unit])[:left]
                parts.append(Part(int(unit), np.sort(chosen), np.zeros(len(chosen), bool), PREFILL_TURN))
                left -= len(chosen)
                if left <= 0:
                    break
        return parts

    def parts(self) -> Iterator[Part]:
        """Yield the rows that this worker reads, in order."""
        yield from self._prefill
        kept, last = self._kept(), self._first + self.size
        for unit, turn, before in self._entries:
            rows = np.arange(self.index.starts[unit], self.index.starts[unit + 1])
            drawn = self._uses[rows] > turn
            position = before + np.cumsum(drawn) - 1  # of each draw in the whole epoch
            mine = drawn & (position >= self._first) & (position < last)
            # Rows that are read but not drawn go to the worker with that section of the epoch.
            others = kept[rows] & (turn == 0) & (position + 1 >= self._first) & (position < last)
            chosen = mine | others
            if chosen.any():
                yield Part(int(unit), rows[chosen], mine[chosen], int(turn))

    def draws(self, rows: Iterator[Row]) -> Iterator[Draw]:
        """Yield the epoch's samples in order. rows: the rows of `parts`, with or without pixels."""
        for part in self.parts():
            for drawn in part.drawn:
                row = next(rows)
                if row.type in self.unpaired_types and self.index.kinds[row.number] & TARGET:
                    self._keep(row)
                if not drawn:
                    continue
                self.window.append(row)
                if len(self.window) >= self.config.shuffle_rows:
                    yield self._draw()
        while self.window:
            yield self._draw()

    def live(self) -> list[Row]:
        """Return the rows read so far that later draws may need."""
        pooled = (row for pool in self.pools.values() for row in pool)
        rows = {id(row): row for row in (*self.window, *self.recent, *pooled)}
        return sorted(rows.values(), key=lambda row: (row.turn, row.number))

    def repaired(self, draw: Draw) -> Draw | None:
        """Return the draw just made, with pixels; if an image could not be decoded, another draw in its place.

        It uses another row in memory, if possible of the same defect and kind. Later draws do not change, and the
        choice depends on `live` alone, so a resumed epoch makes the same one. None if no row can replace it.
        """
        if draw.source.source is not None and draw.target.target is not None:
            return draw
        kinds = self.index.kinds

        def differs(row: Row) -> tuple[bool, bool]:
            mine, other = (bool(kinds[one.number] & PAIRED) for one in (draw.source, row))
            return row.type != draw.source.type, mine != other

        in_memory = [*self.window, *self.recent]
        for source in [draw.source, *sorted(in_memory, key=differs)]:
            paired = self.config.pairs and bool(kinds[source.number] & PAIRED)
            targets = [source] if paired else [draw.target, *self.pools.get(source.type, [])]
            for target in targets:
                decoded = source.source is not None and target.target is not None
                if decoded and target.type == source.type:
                    return Draw(source, target, paired, draw.chance[[0, 0]] if paired else draw.chance)
        return None

    def _keep(self, row: Row) -> None:
        """Keep a real target; in a full pool it replaces a random one."""
        pool = self.pools.setdefault(row.type, [])
        if len(pool) < TARGET_POOL:
            pool.append(row)
        else:
            pool[int(self.rng.integers(TARGET_POOL))] = row

    def _draw(self) -> Draw:
        chosen = int(self.rng.integers(len(self.window)))
        self.window[chosen], self.window[-1] = self.window[-1], self.window[chosen]
        row = self.window.pop()
        self.recent.append(row)
        chance = self.rng.random((2, 3))
        if self.config.pairs and self.index.kinds[row.number] & PAIRED:
            chance[1] = chance[0]
            return Draw(row, row, True, chance)
        pool = self.pools[row.type]
        return Draw(row, pool[int(self.rng.integers(len(pool)))], False, chance)
