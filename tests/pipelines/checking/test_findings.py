"""What health.json says: nothing that was counted is lost, and what spoils a training is a problem."""

import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipelines.checking.findings import KINDS, Findings, Leak
from pipelines.checking.look_again import FetchedImage
from pipelines.checking.tally import ASPECTS, SIDES, Example, Tally


def found(**counts: int) -> Findings:
    return Findings(6, Tally(), counts=Counter(counts))


def seen(image: int, image_id: str) -> FetchedImage:
    """The row of this image of the second shard, whose first row is the third of all; even numbers are sources."""
    return FetchedImage(
        image, "s3://b/part-1.parquet", image // 2 - 2, image_id, "watermark", "mug", b"pixels"
    )


def test_what_spoils_a_training_or_its_figures_is_a_problem_and_the_rest_a_note() -> None:
    both = found(**dict.fromkeys(KINDS, 2))
    assert len(both.problems()) + len(both.notes()) == len(KINDS)
    assert both.problems().keys() >= {
        "near-duplicates across the split",
        "identical images across the split",
        "ids on both sides of the split",
        "unreadable images",
        "candidates for near-duplicates that were not compared",
    }
    assert both.notes()["pairs of different sizes"] == 2
    assert (both.to_dict({})["healthy"], found(different_size=1).to_dict({})["healthy"]) == (False, True)
    assert found(unreadable=0).problems() == {}


SPLITS, DEFECTS, PAIRINGS = ("train", "test", "other"), ("watermark", "wrong_angle"), ("paired", "unpaired")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(SPLITS),
            st.sampled_from(DEFECTS),
            st.sampled_from(PAIRINGS),
            st.sampled_from(["mug", "shoe", "rows"]),
        ),
        max_size=30,
    )
)
def test_every_table_of_rows_adds_up_to_all_rows(rows: list[tuple[str, str, str, str]]) -> None:
    tally = Tally()
    for split, defect, pairing, kind in rows:
        tally.counts["rows", split, defect, pairing] += 1
        tally.counts["products", kind, defect, split] += 1
    by = Findings(len(rows), tally).to_dict({})["rows_by"]
    for table in by.values():
        assert total(table) == len(rows)
    assert by["split"] == dict(sorted(Counter(row[0] for row in rows).items()))
    for defect, split, pairing in {(row[1], row[0], row[2]) for row in rows}:
        expected = sum(row[:3] == (split, defect, pairing) for row in rows)
        assert by["defect/split/pairing"][defect][split][pairing] == expected
    for kind, split in {(row[3], row[0]) for row in rows}:
        expected = sum((row[3], row[0]) == (kind, split) for row in rows)
        assert by["product_type/split"][kind][split] == expected


def total(table: dict) -> int:
    return sum(total(value) if isinstance(value, dict) else value for value in table.values())


def test_a_histogram_has_a_bin_below_every_bound_and_one_above_all() -> None:
    tally = Tally(
        Counter(
            {("size", "source", "0"): 3, ("size", "target", str(len(SIDES))): 2, ("aspect", "source", "8"): 5}
        )
    )
    said = Findings(5, tally).to_dict({})
    assert said["shorter_side"]["bounds"] == list(SIDES)
    assert said["shorter_side"]["source"] == [3] + [0] * len(SIDES)
    assert said["shorter_side"]["target"] == [0] * len(SIDES) + [2]
    assert said["aspect"]["source"] == [0] * len(ASPECTS) + [5]


def test_leaks_twins_and_examples_name_shard_and_row() -> None:
    findings = found(near_duplicates_across=1, same_bytes_across=1, same_bytes_within=1, unreadable=1)
    findings.leaks = {
        "near_duplicates_across": [Leak(seen(7, "copy"), seen(4, "first"), 3, 0.98765)],
        "same_bytes_across": [Leak(seen(5, "copy"), seen(9, "first"))],
    }
    findings.twins = {"same_bytes_within": [(seen(6, "a"), seen(8, "b"))]}
    shard = "s3://b/part-1.parquet"
    findings.tally.find(
        "unreadable", Example(1, 4, shard, "broken", "watermark", "source: truncated: ends early")
    )
    findings.by_distance = Counter({10: 1, 3: 1})
    said = json.loads(json.dumps(findings.to_dict({"data": ["d"]})))
    assert said["data"] == ["d"]
    near = said["findings"]["near_duplicates_across"]
    assert (near["count"], near["fails_strict"]) == (1, True)
    assert near["leaks"] == [
        {
            "test": {"image_id": "copy", "defect": "watermark", "image": "target", "shard": shard, "row": 1},
            "train": {
                "image_id": "first",
                "defect": "watermark",
                "image": "source",
                "shard": shard,
                "row": 0,
            },
            "distance": 3,
            "similarity": 0.988,
        }
    ]
    (same,) = said["findings"]["same_bytes_across"]["leaks"]
    assert (same["distance"], same["similarity"]) == (None, None)
    within = said["findings"]["same_bytes_within"]
    assert not within["fails_strict"]
    assert [[one["image_id"], one["row"]] for one in within["examples"][0]] == [["a", 1], ["b", 2]]
    assert said["findings"]["unreadable"]["examples"] == [
        {
            "image_id": "broken",
            "defect": "watermark",
            "shard": shard,
            "row": 4,
            "text": "source: truncated: ends early",
        }
    ]
    assert said["near_duplicates"]["pairs_by_distance"] == {"3": 1, "10": 1}
    assert list(said["near_duplicates"]["pairs_by_distance"]) == ["3", "10"]  # as numbers, not as words
