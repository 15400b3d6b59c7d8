import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.preparation import totals as totals_module
from pipelines.preparation.totals import LISTED, OTHER_TYPES, SHOWN, Example, Totals, UnitRecord

QUALITIES = st.lists(st.floats(0, 1), max_size=80, unique=True)


def example(quality: float) -> Example:
    return Example(f"p{quality}", quality, "contrast", "given", b"s", b"m", b"c")


def record(qualities: list[float], threshold: float = 0.6) -> UnitRecord:
    unit = UnitRecord()
    for quality in qualities:
        accepted = quality >= threshold
        if unit.wants(quality, f"p{quality}", accepted):
            unit.show(example(quality), accepted)
    return unit


@settings(deadline=None)
@given(QUALITIES, st.integers(1, 7))
def test_the_pairs_closest_to_the_threshold_are_kept_however_units_are_divided(
    qualities: list[float], step: int
) -> None:
    merged = UnitRecord()
    for start in range(0, len(qualities), step):
        merged.merge(UnitRecord.from_bytes(record(qualities[start : start + step]).to_bytes()))
    assert [e.quality for e in merged.accepted] == sorted(q for q in qualities if q >= 0.6)[:SHOWN]
    rejected = sorted((q for q in qualities if q < 0.6), reverse=True)
    assert [e.quality for e in merged.rejected] == rejected[:SHOWN]
    assert merged.accepted == record(qualities).accepted


def test_a_record_survives_being_stored() -> None:
    totals = Totals()
    totals.add_unreadable("bad\ud800".encode("utf-8", "replace").decode(), "corrupt", "no picture")
    totals.counts["entries/prepared"] = 3
    totals.fingerprint = 2**255 + 1
    stored = UnitRecord(totals, ["part-0.parquet"], [example(0.7)], [example(0.2)])
    assert UnitRecord.from_bytes(stored.to_bytes()) == stored


def test_many_unreadable_images_are_counted_and_a_few_named() -> None:
    totals = Totals()
    for number in range(LISTED + 5):
        totals.add_unreadable(f"p{number:03}", "corrupt", "no picture")
    assert totals.counts["entries/unreadable"] == LISTED + 5
    assert [item[0] for item in totals.unreadable] == [f"p{number:03}" for number in range(LISTED)]


def test_counts_do_not_grow_with_sellers_product_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totals_module, "MOST_COUNTS", 40)
    total = Totals()
    for unit in range(30):
        part = Totals()
        part.counts["entries/prepared"] = 9
        for number in range(10):
            part.counts[f"rows/watermark/paired/train/title {unit}-{number}"] = 1
        part.counts["rows/watermark/paired/test/shirt"] = 5
        total.merge(part)
    rows = {key: n for key, n in total.counts.items() if key.startswith("rows/")}
    assert len(total.counts) <= 40
    assert sum(rows.values()) == 30 * 15
    assert rows["rows/watermark/paired/test/shirt"] == 150
    assert rows[f"rows/watermark/paired/train/{OTHER_TYPES}"] > 200
    assert total.counts["entries/prepared"] == 270
