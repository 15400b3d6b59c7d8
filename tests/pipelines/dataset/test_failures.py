from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.dataset.failures import Failures, count_once
from pipelines.dataset.known import hash_ids
from pipelines.dataset.totals import Totals

RUN = st.dictionaries(st.sampled_from("abcde"), st.sampled_from([None, "corrupt", "missing"]))


@settings(deadline=None)
@given(st.lists(RUN, min_size=1, max_size=4), st.integers(0, 2))
def test_an_entry_is_counted_once_however_often_it_is_tried(
    runs: list[dict[str, str | None]], nameless: int
) -> None:
    """runs: of each generation, what was tried, and the code of what failed."""
    now: dict[str, str | None] = {}
    failures, whole = Failures(), Totals()
    for run in runs:
        latest, fresh = Totals(), Failures()
        for name, code in run.items():
            if code is not None:
                latest.add_unreadable(name, code, "no picture")
        if nameless:
            latest.add_unreadable("", "no_image_id", "image_id is empty", nameless)
        fresh.add([(name, code) for name, code in run.items() if code is not None])
        failures = Failures.from_bytes(fresh.after(failures, hash_ids(sorted(run))).to_bytes())
        whole.merge(latest)
        now |= run
    count_once(whole, failures, nameless, latest, ["blur"])
    failing = {name: code for name, code in now.items() if code is not None}
    assert whole.counts["entries/unreadable"] == len(failing) + nameless
    codes = {key.partition("/")[2]: n for key, n in whole.counts.items() if key.startswith("unreadable/")}
    expected = {code: list(failing.values()).count(code) for code in set(failing.values())}
    assert codes == {**expected, **({"no_image_id": nameless} if nameless else {})}
    assert {item[0] for item in whole.unreadable} == {*failing, *([""] if nameless else [])}
