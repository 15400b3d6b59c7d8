"""What a check found, in one place for the page, for programs and for --strict."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.checking.hashes import DECODED_SIDE
from pipelines.checking.inspect_unit import SIDE_NAMES
from pipelines.checking.look_again import Seen
from pipelines.checking.similarity import SAME_PICTURE
from pipelines.checking.tally import ASPECTS, SIDES, Tally


@dataclass(frozen=True)
class Kind:
    """A kind of finding: what is counted, whether --strict fails on it, and what to do."""

    title: str
    strict: bool
    remedy: str


#: In the order of the report.
KINDS = {
    "near_duplicates_across": Kind(
        "near-duplicates across the split",
        True,
        "Give the copies one image_id (or remove them) and prepare again: the split is by hash of the id.",
    ),
    "same_bytes_across": Kind(
        "identical images across the split",
        True,
        "Give the copies one image_id (or remove them) and prepare again: the split is by hash of the id.",
    ),
    "ids_across": Kind(
        "ids on both sides of the split",
        True,
        "Let jobs/prepare_dataset.py split by the id, or correct the split column.",
    ),
    "not_compared": Kind(
        "candidates for near-duplicates that were not compared",
        True,
        "Raise --compare-at-most, which takes longer, or lower --near-duplicate-distance.",
    ),
    "unreadable": Kind("unreadable images", True, "Replace or remove them; training leaves such rows out."),
    "unknown_defect": Kind(
        "rows whose defect the label map lacks", True, "Add the defect to label_map.yaml, or remove the rows."
    ),
    "wrong_group": Kind(
        "rows of another group than the label map's",
        True,
        "Correct the group, in the rows or in label_map.yaml.",
    ),
    "missing_image": Kind(
        "rows that lack an image", True, "A pair needs source and target, an unpaired row one of them."
    ),
    "unknown_pairing": Kind("rows of unknown pairing", True, "Write 'paired' or 'unpaired'."),
    "no_image_id": Kind(
        "rows without an id", True, "Give every photo a text of its own: the split depends on it."
    ),
    "unknown_split": Kind("rows of neither split", False, "Nobody reads them: write 'train' or 'test'."),
    "repeated_keys": Kind(
        "repeated (image_id, defect)",
        False,
        "Such rows count twice in training and in the figures; keep one of them unless they differ on purpose.",
    ),
    "same_bytes_within": Kind(
        "identical images of several ids on one side",
        False,
        "Harmless for figures; the training sees them more often.",
    ),
    "identical_pair": Kind(
        "pairs with identical source and target",
        False,
        "Nothing can be learned from them: check where they come from.",
    ),
    "different_size": Kind(
        "pairs of different sizes",
        False,
        "Both are resized to the training's square; check that they show the same.",
    ),
    "different_aspect": Kind(
        "pairs of different aspect",
        False,
        "Resized to a square, source and target no longer lie on each other.",
    ),
}


@dataclass(frozen=True)
class Leak:
    """Two images of one picture on the two sides. distance: bits, similarity: -1..1; None where the bytes are equal."""

    test: Seen
    train: Seen
    distance: int | None = None
    similarity: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        images = {
            name: {
                "image_id": one.image_id,
                "defect": one.defect,
                "image": one.side,
                "shard": one.shard,
                "row": one.row,
            }
            for name, one in (("test", self.test), ("train", self.train))
        }
        similarity = None if self.similarity is None else round(self.similarity, 3)
        return {**images, "distance": self.distance, "similarity": similarity}


@dataclass
class Findings:
    """Everything that a check found; bounded, but for the names of product types and defects that the rows have.

    counts: by kind. leaks: those named, by kind. twins: pairs of rows or images behind the other duplicates, by kind.
    by_distance: pairs of unlike ids and bytes across the split, by bits. compared: candidates whose details were
    compared.
    """

    rows: int
    tally: Tally
    counts: Counter[str] = field(default_factory=Counter)
    leaks: dict[str, list[Leak]] = field(default_factory=dict)
    twins: dict[str, list[tuple[Seen, Seen]]] = field(default_factory=dict)
    by_distance: Counter[int] = field(default_factory=Counter)
    compared: int = 0

    def problems(self) -> dict[str, int]:
        """What --strict fails on: title to count."""
        return {
            kind.title: self.counts[name] for name, kind in KINDS.items() if kind.strict and self.counts[name]
        }

    def notes(self) -> dict[str, int]:
        """What it does not fail on."""
        return {
            kind.title: self.counts[name]
            for name, kind in KINDS.items()
            if not kind.strict and self.counts[name]
        }

    def table(self, first: str, *keys: int) -> Counter[tuple[str, ...]]:
        """Counts of `first`, summed over all but these parts of the key."""
        found: Counter[tuple[str, ...]] = Counter()
        for key, count in self.tally.counts.items():
            if key[0] == first:
                found[tuple(key[1 + place] for place in keys)] += count
        return found

    def histogram(self, what: str) -> dict[str, list[int]]:
        """Images by bin of 'size' or 'aspect', for source and target."""
        bins = 1 + len(SIDES if what == "size" else ASPECTS)
        counts = self.tally.counts
        return {side: [counts[what, side, str(number)] for number in range(bins)] for side in SIDE_NAMES}

    def to_dict(self, details: Mapping[str, Any]) -> dict[str, Any]:
        """health.json."""
        return {
            **details,
            "healthy": not self.problems(),
            "rows": self.rows,
            "images": {side: self.tally.counts["images", side] for side in SIDE_NAMES},
            "problems": self.problems(),
            "notes": self.notes(),
            "findings": {name: self._finding(name) for name in KINDS},
            "unreadable_by_code": {
                key: count for (key,), count in sorted(self.table("unreadable", 0).items())
            },
            "rows_by": {
                "defect": _nested(self.table("rows", 1)),
                "pairing": _nested(self.table("rows", 2)),
                "split": _nested(self.table("rows", 0)),
                "product_type": _nested(self.table("products", 0)),
                "defect/split/pairing": _nested(self.table("rows", 1, 0, 2)),
                "product_type/defect": _nested(self.table("products", 0, 1)),
                "product_type/split": _nested(self.table("products", 0, 2)),
            },
            "shorter_side": {"bounds": list(SIDES), **self.histogram("size")},
            "aspect": {"bounds": list(ASPECTS), **self.histogram("aspect")},
            "near_duplicates": {
                "hash": f"64 bits of the cosine transform of luminance, from images of {DECODED_SIDE} pixels",
                "pairs_by_distance": {str(bits): self.by_distance[bits] for bits in sorted(self.by_distance)},
                "compared": self.compared,
                "not_compared_at_most": self.counts["not_compared"],
                "same_picture_from_similarity": SAME_PICTURE,
            },
        }

    def _finding(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = {"count": self.counts[name], "fails_strict": KINDS[name].strict}
        if name in self.leaks:
            found["leaks"] = [leak.to_dict() for leak in self.leaks[name]]
        elif name in self.twins:
            found["examples"] = [
                [
                    {"image_id": one.image_id, "defect": one.defect, "shard": one.shard, "row": one.row}
                    for one in pair
                ]
                for pair in self.twins[name]
            ]
        else:
            found["examples"] = [
                {
                    "image_id": one.image_id,
                    "defect": one.defect,
                    "shard": one.shard,
                    "row": one.row,
                    "text": one.text,
                }
                for one in self.tally.examples.get(name, [])
            ]
        return found


def _nested(table: Counter[tuple[str, ...]]) -> dict[str, Any]:
    """A table by its keys, one inside the other, sorted."""
    found: dict[str, Any] = {}
    for key, count in sorted(table.items()):
        place = found
        for part in key[:-1]:
            place = place.setdefault(part, {})
        place[key[-1]] = count
    return found
