from pathlib import Path
from typing import Any

import pytest

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.dataset.output import Places, Start, find_start
from pipelines.dataset.plan import Plan, make_plan
from pipelines.dataset.records import Entry, Locator

IDENTITY: dict[str, Any] = {
    "--photos": ["a.parquet"],
    "--benchmark": ("paired4", "root"),
    "--synthesis": {"a": "b"},
    "--seed": 0,
    "--max-side": 384,
    "--limit": None,
}


def unfinished(places: Places, **identity: Any) -> Plan:
    return make_plan(
        places.plan,
        lambda: [Entry("p", Locator("p.jpg"))],
        lambda _: None,
        identity={**IDENTITY, **identity},
        size_of_units=lambda _: 1,
        notes=list,
    )


def with_shards(folder: Path) -> None:
    storage.write_bytes(str(folder / "shards" / "part-000000-000.parquet"), b"rows")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(str(tmp_path / "out"), str(tmp_path / "held-back"))


def test_an_empty_folder_is_begun(places: Places) -> None:
    assert find_start(places, IDENTITY, overwrite=False) == Start()
    assert find_start(places, IDENTITY, overwrite=True).mode == "new"


def test_an_unfinished_run_goes_on_with_its_own_plan(places: Places) -> None:
    unfinished(places)
    with_shards(Path(places.output))
    start = find_start(places, IDENTITY, overwrite=False)
    assert start.mode == "continues"
    assert start.plan is not None
    assert start.plan.planned == 1


def test_a_run_that_was_killed_while_it_planned_is_begun_again(places: Places) -> None:
    unfinished(places)
    Path(places.plan, "plan.json").unlink()
    assert find_start(places, IDENTITY, overwrite=False) == Start()
    foreign = Path(places.work, "notes.txt")
    foreign.write_text("mine")
    with pytest.raises(ConfigurationError, match="work exists"):
        find_start(places, IDENTITY, overwrite=False)
    foreign.unlink()
    with_shards(Path(places.output))
    with pytest.raises(ConfigurationError, match="shards exists"):
        find_start(places, IDENTITY, overwrite=False)


def test_a_removal_that_is_broken_off_leaves_no_plan_among_half_of_the_shards(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished(places)
    with_shards(Path(places.output))
    remove = storage.remove

    def killed(uri: str) -> None:
        if uri == places.shards:
            raise KeyboardInterrupt
        remove(uri)

    monkeypatch.setattr(storage, "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        places.remove()
    with pytest.raises(ConfigurationError, match="shards exists"):
        find_start(places, IDENTITY, overwrite=False)


def test_an_unfinished_run_of_another_configuration_names_the_difference(places: Places) -> None:
    unfinished(places)
    other = {**IDENTITY, "--max-side": 512, "--limit": 5}
    expected = (
        r"unfinished.*out: --limit is 5 and was not given; --max-side is 512 and was 384; .*--overwrite"
    )
    with pytest.raises(ConfigurationError, match=expected):
        find_start(places, other, overwrite=False)
    assert find_start(places, other, overwrite=True).mode == "replaces"


def test_a_finished_dataset_is_left_alone_unless_asked(places: Places, tmp_path: Path) -> None:
    unfinished(places)
    storage.write_bytes(places.summary, b"{}")
    with_shards(Path(places.output))
    storage.write_bytes(str(tmp_path / "held-back" / "catalog" / "a.parquet"), b"rows")
    with pytest.raises(ConfigurationError, match=r"dataset\.json, .*shards, .*catalog exists; .*--overwrite"):
        find_start(places, IDENTITY, overwrite=False)
    start = find_start(places, IDENTITY, overwrite=True)
    assert [Path(uri).name for uri in start.replaces] == ["dataset.json", "work", "shards", "catalog"]
    places.remove()
    assert find_start(places, IDENTITY, overwrite=False) == Start()


def test_an_output_that_is_a_file_is_refused(places: Places, tmp_path: Path) -> None:
    (tmp_path / "held-back").write_text("a file")
    with pytest.raises(ConfigurationError, match=r"--test-catalog .*held-back: is a file"):
        find_start(places, IDENTITY, overwrite=True)
