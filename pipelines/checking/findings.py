"""Collects the findings of a check for the page, for health.json and for --strict."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.checking.hashes import DECODED_SIDE
from pipelines.checking.inspect_unit import SIDE_NAMES
from pipelines.checking.look_again import FetchedImage
from pipelines.checking.similarity import SAME_PICTURE
from pipelines.checking.tally import ASPECTS, SIDES, Tally


@dataclass(frozen=True)
class Kind:
    """A kind of finding: its title, whether --strict fails on it, and the remedy."""

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
        "rows without an id", True, "Give every photo an id of its own: the split depends on it."
    ),
    "unknown_split": Kind("rows of neither split", False, "No job reads them: write 'train' or 'test'."),
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
        "Nothing can be learned from them: check their origin.",
    ),
    "different_size": Kind(
        "pairs of different sizes",
        False,
        "Both are resized to the training's square; check that they show the same.",
    ),
    "different_aspect": Kind(
        "pairs of different aspect",
        False,
        "Resized to a square, source and target are no longer aligned.",
    ),
}


@dataclass(frozen=True)
class Leak:
    """Two images of one picture, one in each split. distance: bits; similarity: -1..1; None if the bytes are equal."""

    test: FetchedImage
    train: FetchedImage
    distance: int | None = None
    similarity: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the leak as JSON values for health.json."""
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
    """The findings of a check. Their size is bounded, except for the names of product types and defects.

    counts: by kind. leaks: those that are named, by kind. twins: pairs of rows or images of the other duplicates, by
    kind. by_distance: pairs across the split with different ids and bytes, by bits. compared: number of candidates
    whose details were compared.
    """

    rows: int
    tally: Tally
    counts: Counter[str] = field(default_factory=Counter)
    leaks: dict[str, list[Leak]] = field(default_factory=dict)
    twins: dict[str, list[tuple[FetchedImage, FetchedImage]]] = field(default_factory=dict)
    by_distance: Counter[int] = field(default_factory=Counter)
    compared: int = 0

    def problems(self) -> dict[str, int]:
        """Return the findings that --strict fails on: title -> count."""
        return {
            kind.title: self.counts[name] for name, kind in KINDS.items() if kind.strict and self.counts[name]
        }

    def notes(self) -> dict[str, int]:
        """Return the findings that --strict does not fail on: title -> count."""
        return {
            kind.title: self.counts[name]
            for name, kind in KINDS.items()
            if not kind.strict and self.counts[name]
        }

    def table(self, first: str, *keys: int) -> Counter[tuple[str, ...]]:
        """Return the counts of `first` by these parts of the key, summed over the others."""
        sums: Counter[tuple[str, ...]] = Counter()
        for key, count in self.tally.counts.items():
            if key[0] == first:
                sums[tuple(key[1 + position] for position in keys)] += count
        return sums

    def histogram(self, what: str) -> dict[str, list[int]]:
        """Return the number of images per bin of 'size' or 'aspect', for source and target."""
        bins = 1 + len(SIDES if what == "size" else ASPECTS)
        counts = self.tally.counts
        return {side: [counts[what, side, str(number)] for number in range(bins)] for side in SIDE_NAMES}

    def to_dict(self, details: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of health.json, with `details` at its beginning."""
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
        finding: dict[str, Any] = {"count": self.counts[name], "fails_strict": KINDS[name].strict}
        if name in self.leaks:
            finding["leaks"] = [leak.to_dict() for leak in self.leaks[name]]
        elif name in self.twins:
            finding["examples"] = [
                [
                    {"image_id": one.image_id, "defect": one.defect, "shard": one.shard, "row": one.row}
                    for one in pair
                ]
                for pair in self.twins[name]
            ]
        else:
            finding["examples"] = [
                {
                    "image_id": one.image_id,
                    "defect": one.defect,
                    "shard": one.shard,
                    "row": one.row,
                    "text": one.text,
                }
                for one in self.tally.examples.get(name, [])
            ]
        return finding


def _nested(table: Counter[tuple[str, ...]]) -> dict[str, Any]:
    """Return the table as nested dictionaries, one level for each part of the key, sorted."""
    nested: dict[str, Any] = {}
    for key, count in sorted(table.items()):
        level = nested
        for part in key[:-1]:
            level = level.setdefault(part, {})
        level[key[-1]] = count
    return nested
