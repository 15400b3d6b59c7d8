"""The sums over units do not depend on their order."""

from itertools import permutations

from pipelines.checking.tally import ASPECTS, EXAMPLES, SAMPLES, SIDES, Example, Tally, bin_of


def unit(number: int, findings: int) -> Tally:
    tally = Tally()
    for row in range(findings):
        tally.find("unreadable", Example(number, row, f"part-{number}", f"p{row}", "watermark", "empty"))
        tally.sample("watermark", [((row * 7 + number * 3) % 11, row)])
        tally.counts["rows", "train", "watermark", "paired"] += 1
    return tally


def test_the_order_of_units_does_not_matter_and_lists_stay_short() -> None:
    units = {number: unit(number, 60) for number in range(3)}
    totals = []
    for order in permutations(units):
        total = Tally()
        for number in order:
            total.merge(Tally.from_json(units[number].to_json()), first_row=100 * number)
        totals.append(total)
    assert all(total == totals[0] for total in totals)
    examples = totals[0].examples["unreadable"]
    assert [(one.unit, one.row) for one in examples] == [(n, r) for n in (0, 1) for r in range(60)][:EXAMPLES]
    assert totals[0].counts["finding", "unreadable"] == 180
    everything = sorted(((row * 7 + n * 3) % 11, 100 * n + row) for n in range(3) for row in range(60))
    assert totals[0].samples["watermark"] == everything[:SAMPLES]


def test_a_bin_ends_below_its_bound() -> None:
    assert [bin_of(side, SIDES) for side in (63, 64, 255, 256, 9999)] == [0, 1, 3, 4, len(SIDES)]
    assert bin_of(1.0, ASPECTS) == 4
    assert bin_of(3 / 4, ASPECTS) == 2
    assert bin_of(4 / 3, ASPECTS) == 6
