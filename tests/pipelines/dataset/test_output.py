import json
from pathlib import Path
from typing import Any

import pytest

from model.errors import ConfigurationError
from pipelines.dataset.known import KnownIds
from pipelines.dataset.output import Places, Start, begin, differences
from pipelines.dataset.plan import Plan, make_plan
from pipelines.dataset.records import Entry, Locator

IDENTITY: dict[str, Any] = {"--photos": ["a.parquet"], "--seed": 0, "--max-side": 384, "--limit": None}


def unfinished(places: Places, generation: int = 0, **identity: Any) -> Plan:
    return make_plan(
        places.plan(generation),
        lambda: [Entry("p", Locator("p.jpg"))],
        KnownIds(),
        lambda _: None,
        generation=generation,
        identity={**IDENTITY, **identity},
        size_of_units=lambda _: 1,
        notes=list,
    )


def finished(places: Places, **changes: Any) -> None:
    summary = {"identity": IDENTITY, "generations": [{"generation": 0}], "fingerprint": "f", **changes}
    Path(places.summary).write_text(json.dumps(summary))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(str(tmp_path))


def test_an_empty_folder_is_begun(places: Places) -> None:
    assert begin(places, IDENTITY, [], append=False, overwrite=False) == Start("new")
    assert begin(places, IDENTITY, [], append=True, overwrite=False) == Start("new")


@pytest.mark.parametrize("append", [False, True])
def test_an_unfinished_run_goes_on_with_its_own_plan(places: Places, append: bool) -> None:
    plan = unfinished(places)
    assert begin(places, IDENTITY, ["shards"], append, overwrite=False) == Start("continues", 0, plan)


def test_a_run_that_was_killed_while_it_planned_is_begun_again(places: Places) -> None:
    unfinished(places)
    Path(places.plan(0), "plan.json").unlink()
    assert begin(places, IDENTITY, [places.work], append=False, overwrite=False) == Start("new")
    with pytest.raises(ConfigurationError, match="shards exists"):
        begin(places, IDENTITY, [places.work, places.shards], append=False, overwrite=False)
    Path(places.done(0)).mkdir(parents=True)
    Path(places.done(0), "000000.parquet").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="work exists"):
        begin(places, IDENTITY, [places.work], append=False, overwrite=False)


def test_a_removal_that_is_broken_off_leaves_no_plan_among_half_of_the_shards(places: Places) -> None:
    order = places.owned
    assert order.index(places.summary) < order.index(places.work) < order.index(places.shards)


def test_an_unfinished_run_of_another_configuration_names_the_difference(places: Places) -> None:
    unfinished(places)
    other = {**IDENTITY, "--max-side": 512, "--limit": 5}
    expected = r"unfinished.*--limit is 5 and was not given; --max-side is 512 and was 384;.*--overwrite"
    with pytest.raises(ConfigurationError, match=expected):
        begin(places, other, ["shards"], append=False, overwrite=False)
    assert begin(places, other, ["shards"], append=False, overwrite=True).mode == "replaces"


def test_a_finished_dataset_is_left_alone_unless_asked(places: Places) -> None:
    finished(places)
    with pytest.raises(ConfigurationError, match=r"shards exists; .*--append .*--overwrite"):
        begin(places, IDENTITY, ["shards"], append=False, overwrite=False)
    assert begin(places, IDENTITY, ["shards"], append=True, overwrite=False) == Start("appends", 1)
    assert begin(places, IDENTITY, ["shards"], append=False, overwrite=True) == Start("replaces")


def test_photos_are_added_from_anywhere_but_with_the_same_settings(places: Places) -> None:
    finished(places)
    elsewhere = {**IDENTITY, "--photos": ["b.parquet"], "--limit": 9}
    assert begin(places, elsewhere, ["shards"], append=True, overwrite=False).mode == "appends"
    with pytest.raises(ConfigurationError, match=r"--append: .*--seed is 1 and was 0"):
        begin(places, {**IDENTITY, "--seed": 1}, ["shards"], append=True, overwrite=False)


def test_an_unfinished_addition_goes_on(places: Places) -> None:
    finished(places)
    plan = unfinished(places, 1)
    assert begin(places, IDENTITY, ["shards"], append=True, overwrite=False) == Start("continues", 1, plan)


def test_what_an_earlier_version_made_cannot_be_added_to(places: Places) -> None:
    Path(places.summary).write_text('{"fingerprint": "f"}')
    with pytest.raises(ConfigurationError, match=r"earlier version.*--overwrite"):
        begin(places, IDENTITY, ["shards"], append=True, overwrite=False)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_dataset_is_told(places: Places, text: str) -> None:
    Path(places.summary).write_text(text)
    with pytest.raises(ConfigurationError, match=r"dataset\.json is damaged"):
        begin(places, IDENTITY, ["shards"], append=True, overwrite=False)


def test_what_json_cannot_tell_apart_is_no_difference() -> None:
    written = json.loads(json.dumps({"--benchmark": ("paired4", "root"), "--synthesis": {"a": "b"}}))
    assert differences(written, {"--benchmark": ("paired4", "root"), "--synthesis": {"a": "b"}}) == []
