"""What adds up over the units of a dataset: counts, a bounded list of examples of each finding, a bounded sample."""

import heapq
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

#: Examples kept of each finding, the first in the order of the shards; all are counted.
EXAMPLES = 100
#: Rows of each defect's sample sheet.
SAMPLES = 8

#: Bounds of the shorter side, pixels, and of width / height: a bin ends below its bound.
SIDES = (64, 128, 192, 256, 384, 512, 768, 1024, 2048)
ASPECTS = (0.5, 0.66, 0.79, 0.95, 1.0527, 1.266, 1.515, 2.0)


@dataclass(frozen=True, order=True)
class Example:
    """A row that a finding is about. unit, row: its place, the row counted in its file. text: what is wrong."""

    unit: int
    row: int
    shard: str
    image_id: str
    defect: str
    text: str


@dataclass
class Tally:
    """counts: by key, whose first part says what is counted. examples: by finding. samples: by defect, (hash, row)."""

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
        """Add a unit's, whose samples are numbered from its own first row, the `first_row`-th of all shards."""
        self.counts.update(other.counts)
        for finding, examples in other.examples.items():
            self._keep(finding, examples)
        for defect, rows in other.samples.items():
            self.sample(defect, [(number, first_row + row) for number, row in rows])

    def _keep(self, finding: str, examples: Sequence[Example]) -> None:
        self.examples[finding] = sorted([*self.examples.get(finding, ()), *examples])[:EXAMPLES]

    def to_json(self) -> str:
        """For the way from a task to the driver."""
        return json.dumps(
            {
                "counts": [[*key, count] for key, count in self.counts.items()],
                "examples": {name: [asdict(one) for one in found] for name, found in self.examples.items()},
                "samples": self.samples,
            }
        )

    @staticmethod
    def from_json(text: str) -> "Tally":
        """The inverse of `to_json`."""
        found = json.loads(text)
        return Tally(
            Counter({tuple(key): count for *key, count in found["counts"]}),
            {name: [Example(**one) for one in examples] for name, examples in found["examples"].items()},
            {name: [(number, row) for number, row in rows] for name, rows in found["samples"].items()},
        )


def bin_of(value: float, bounds: Sequence[float]) -> int:
    """Which bin `value` falls into: the number of bounds that are not above it."""
    return sum(value >= bound for bound in bounds)
