from dataclasses import replace

from pipelines.correction.models import Model, Models

CURRENT = Model(None, "--model", "v1", 32, "stretch", "c1")
CANARY = Model("/b", "--canary", "v2", 48, "letterbox", "c2")
MODELS = Models("out", CURRENT, CANARY, 0.2)
IDS = [f"image {number}" for number in range(2000)]


def test_the_canary_gets_its_share_and_a_larger_share_has_all_ids_of_a_smaller() -> None:
    small = {name for name in IDS if MODELS.in_canary(name)}
    assert 300 < len(small) < 500
    assert small < {name for name in IDS if replace(MODELS, share=0.5).in_canary(name)}
    assert all(replace(MODELS, share=1.0).in_canary(name) for name in IDS)
    assert {MODELS.of(name) for name in small} == {CANARY}
    assert {MODELS.of(name) for name in IDS if name not in small} == {CURRENT}


def test_rows_of_the_canary_are_those_of_a_run_with_it_alone() -> None:
    promoted, before = Models("out", CANARY), Models("out", CURRENT)
    for name in IDS[:100]:
        same = promoted if MODELS.in_canary(name) else before
        assert MODELS.identity(MODELS.of(name)) == same.identity(same.of(name))
    assert (
        promoted.identity(CANARY)
        != before.identity(CURRENT)
        != replace(before, output="other").identity(CURRENT)
    )
    assert not any(before.in_canary(name) for name in IDS)
