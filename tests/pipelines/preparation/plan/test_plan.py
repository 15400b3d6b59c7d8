from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ConfigurationError, RunError
from pipelines.contracts.splits import split_of
from pipelines.preparation.entries import LEFT, Entry, Locator
from pipelines.preparation.plan import plan as plan_module
from pipelines.preparation.plan.plan import (
    LEAST_ENTRIES,
    LEAST_UNITS,
    Plan,
    in_test_catalog,
    load_plan,
    make_plan,
    read_entries,
    unit_entries,
)
from pipelines.preparation.unit.rows import RowSettings


def entry(name: str, **changes: Any) -> Entry:
    return Entry(name, **{"source": Locator(f"{name}.jpg"), **changes})


def plan(folder: Path, entries: Iterable[Entry], **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "check": lambda _: None,
        "identity": {"--seed": 0},
        "size_of_units": lambda _: 10,
        "notes": list,
        **changes,
    }
    return make_plan(str(folder), lambda: entries, values.pop("check"), **values)


def test_units_cover_all_entries_once_and_in_order_with_all_their_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "FILE_ENTRIES", 40)
    monkeypatch.setattr(plan_module, "GROUP_ENTRIES", 15)
    half = Locator("s3://b/t.parquet", 7, "image", LEFT)
    entries = [entry(f"p{i}", mask=half, product_type="hat", split="test") for i in range(103)]
    made = plan(tmp_path, entries, size_of_units=lambda count: 13)
    assert (made.units, made.planned) == (8, 103)
    read = [e for unit in range(made.units) for e in read_entries(str(tmp_path), made.span(unit))]
    assert read == entries
    assert load_plan(str(tmp_path)) == made


@settings(deadline=None)
@given(st.lists(st.sampled_from(["", "a", "b", "c", "d"]), max_size=20))
def test_every_listed_entry_is_planned_or_counted(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("plan")
    made = plan(folder, [entry(name) for name in names])
    planned = [e.image_id for e in read_entries(str(folder), range(made.planned))] if made.planned else []
    assert planned == [name for name in dict.fromkeys(names) if name]
    assert made.nameless == names.count("")
    assert made.listed == len(names) == made.planned + made.duplicates + made.nameless
    assert set(made.duplicate_examples) <= set(names) - {""}


def test_one_image_may_show_two_defects_in_given_pairs(tmp_path: Path) -> None:
    pairs = [entry("a", defect="watermark"), entry("a", defect="wrong_angle"), entry("a", defect="watermark")]
    assert (plan(tmp_path, pairs).planned, plan(tmp_path, pairs).duplicates) == (2, 1)


def test_an_uncommitted_plan_is_none_and_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> Iterator[Entry]:
        for number in range(40_000):
            yield entry(f"p{number}")
        raise OSError("the network went away")

    with pytest.raises(OSError, match="went away"):
        plan(tmp_path, broken())
    assert list(tmp_path.iterdir())
    assert load_plan(str(tmp_path)) is None
    assert plan(tmp_path, [entry("a")]).planned == 1
    assert len(list(tmp_path.glob("*.parquet"))) == 1


def test_an_entry_that_cannot_be_used_ends_the_planning(tmp_path: Path) -> None:
    def check(entry: Entry) -> None:
        if entry.image_id == "b":
            raise ConfigurationError("b cannot be")

    with pytest.raises(ConfigurationError, match="b cannot be"):
        plan(tmp_path, [entry("a"), entry("b")], check=check)
    assert load_plan(str(tmp_path)) is None


def test_a_damaged_plan_is_an_error(tmp_path: Path) -> None:
    made = plan(tmp_path, [entry(f"p{i}") for i in range(5)])
    with pytest.raises(RunError, match="damaged"):
        list(read_entries(str(tmp_path), range(made.planned + 1)))
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"plan\.json is damaged.*--overwrite"):
        load_plan(str(tmp_path))


@settings(deadline=None)
@given(st.integers(1, 10**8), st.sampled_from([32, 384, 4096]), st.integers(1, 10**9))
def test_units_are_many_for_few_images_and_fill_a_shard_for_many(n: int, side: int, shard: int) -> None:
    of_rows = RowSettings({"watermark": "background"}, {"watermark": "watermark"}, max_side=side)
    size = unit_entries(n, of_rows, shard)
    assert size >= LEAST_ENTRIES
    units = -(-n // size)
    assert units >= LEAST_UNITS / 2 or size == LEAST_ENTRIES
    estimate = size * 2 * 0.75 * side**2 * plan_module.BYTES_PER_PIXEL
    assert size == LEAST_ENTRIES or estimate <= shard


def test_the_test_catalog_takes_the_first_by_hash_in_any_order(tmp_path: Path) -> None:
    entries = [entry(f"p{i}") for i in range(200)]
    for size in (1, 5, 10_000):
        chosen = []
        for order in (entries, entries[::-1]):
            made = plan(tmp_path, order, test_limit=size)
            chosen.append({e.image_id for e in order if in_test_catalog(e, made.last_hash)})
        held_back = {e.image_id for e in entries if split_of(e.image_id) == "test"}
        assert chosen[0] == chosen[1] <= held_back
        assert len(chosen[0]) == min(size, len(held_back))
