"""Sums over the units of a dataset: counts, and bounded lists of examples of each finding and of sampled rows."""

import heapq
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

#: Most examples of each finding, the first in the order of the shards; all are counted.
EXAMPLES = 100
#: Rows of each defect's sample sheet.
SAMPLES = 8

#: Bounds of the shorter side in pixels, and of width / height: a bin ends below its bound.
SIDES = (64, 128, 192, 256, 384, 512, 768, 1024, 2048)
ASPECTS = (0.5, 0.66, 0.79, 0.95, 1.0527, 1.266, 1.515, 2.0)


@dataclass(frozen=True, order=True)
class Example:
    """A row with a finding. unit: number of its unit. row: counted in its file. text: what is wrong."""

    unit: int
    row: int
    shard: str
    image_id: str
    defect: str
    text: str


@dataclass
class Tally:
    """Sums. counts: by key; its first part is what is counted. examples: by finding. samples: (hash, row) by defect."""

    counts: Counter[tuple[str, ...]] = field(default_factory=Counter)
    examples: dict[str, list[Example]] = field(default_factory=dict)
    samples: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def find(self, finding: str, example: Example) -> None:
        """Count a finding, with an example."""
        self.counts["finding", finding] += 1
        self._keep(finding, [example])

    def sample(self, defect: str, rows: Sequence[tuple[int, int]]) -> None:
        """Keep the rows with the smallest hashes; rows are numbered over all shards."""
        self.samples[defect] = heapq.nsmallest(SAMPLES, {*self.samples.get(defect, ()), *rows})

    def merge(self, other: "Tally", first_row: int) -> None:
        """Add the tally of a unit, whose samples count rows from 0. first_row: of the unit, counted over all shards."""
        self.counts.update(other.counts)
        for finding, examples in other.examples.items():
            self._keep(finding, examples)
        for defect, rows in other.samples.items():
            self.sample(defect, [(number, first_row + row) for number, row in rows])

    def _keep(self, finding: str, examples: Sequence[Example]) -> None:
        self.examples[finding] = sorted([*self.examples.get(finding, ()), *examples])[:EXAMPLES]

    def to_json(self) -> str:
        """Return the tally as JSON, for the way from a task to the driver."""
        return json.dumps(
            {
                "counts": [[*key, count] for key, count in self.counts.items()],
                "examples": {
                    name: [asdict(one) for one in examples] for name, examples in self.examples.items()
                },
                "samples": self.samples,
            }
        )

    @staticmethod
    def from_json(text: str) -> "Tally":
        """Return the tally that `to_json` gave."""
        values = json.loads(text)
        return Tally(
            Counter({tuple(key): count for *key, count in values["counts"]}),
            {name: [Example(**one) for one in examples] for name, examples in values["examples"].items()},
            {name: [(number, row) for number, row in rows] for name, rows in values["samples"].items()},
        )


def bin_of(value: float, bounds: Sequence[float]) -> int:
    """Return the bin of `value`: the number of bounds that are not above it."""
    return sum(value >= bound for bound in bounds)
