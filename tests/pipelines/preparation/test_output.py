from pathlib import Path
from typing import Any

import pytest

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.preparation.entries import Entry, Locator
from pipelines.preparation.output import Layout, Start, find_start
from pipelines.preparation.plan.plan import Plan, make_plan

IDENTITY: dict[str, Any] = {
    "--photos": ["a.parquet"],
    "--benchmark": ("paired4", "root"),
    "--synthesis": {"a": "b"},
    "--seed": 0,
    "--max-side": 384,
    "--limit": None,
}


def unfinished(layout: Layout, **identity: Any) -> Plan:
    return make_plan(
        layout.plan,
        lambda: [Entry("p", Locator("p.jpg"))],
        lambda _: None,
        identity={**IDENTITY, **identity},
        size_of_units=lambda _: 1,
        notes=list,
    )


def with_shards(folder: Path) -> None:
    storage.write_bytes(str(folder / "shards" / "part-000000-000.parquet"), b"rows")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(str(tmp_path / "out"), str(tmp_path / "held-back"))


def test_an_empty_folder_is_begun(layout: Layout) -> None:
    assert find_start(layout, IDENTITY, overwrite=False) == Start()
    assert find_start(layout, IDENTITY, overwrite=True).mode == "new"


def test_an_unfinished_run_goes_on_with_its_own_plan(layout: Layout) -> None:
    unfinished(layout)
    with_shards(Path(layout.output))
    start = find_start(layout, IDENTITY, overwrite=False)
    assert start.mode == "continues"
    assert start.plan is not None
    assert start.plan.planned == 1


def test_a_run_that_was_killed_while_planning_begins_again(layout: Layout) -> None:
    unfinished(layout)
    Path(layout.plan, "plan.json").unlink()
    assert find_start(layout, IDENTITY, overwrite=False) == Start()
    foreign = Path(layout.work, "notes.txt")
    foreign.write_text("mine")
    with pytest.raises(ConfigurationError, match="work exists"):
        find_start(layout, IDENTITY, overwrite=False)
    foreign.unlink()
    with_shards(Path(layout.output))
    with pytest.raises(ConfigurationError, match="shards exists"):
        find_start(layout, IDENTITY, overwrite=False)


def test_a_removal_that_is_interrupted_leaves_no_plan_among_some_of_the_shards(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished(layout)
    with_shards(Path(layout.output))
    remove = storage.remove

    def killed(uri: str) -> None:
        if uri == layout.shards:
            raise KeyboardInterrupt
        remove(uri)

    monkeypatch.setattr(storage, "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        layout.remove()
    with pytest.raises(ConfigurationError, match="shards exists"):
        find_start(layout, IDENTITY, overwrite=False)


def test_other_settings_than_the_unfinished_runs_are_named(layout: Layout) -> None:
    unfinished(layout)
    other = {**IDENTITY, "--max-side": 512, "--limit": 5}
    expected = (
        r"unfinished.*out: --limit is 5 and was not given; --max-side is 512 and was 384; .*--overwrite"
    )
    with pytest.raises(ConfigurationError, match=expected):
        find_start(layout, other, overwrite=False)
    assert find_start(layout, other, overwrite=True).mode == "replaces"


def test_a_finished_dataset_is_left_alone_unless_asked(layout: Layout, tmp_path: Path) -> None:
    unfinished(layout)
    storage.write_bytes(layout.summary, b"{}")
    with_shards(Path(layout.output))
    storage.write_bytes(str(tmp_path / "held-back" / "catalog" / "a.parquet"), b"rows")
    with pytest.raises(ConfigurationError, match=r"dataset\.json, .*shards, .*catalog exists; .*--overwrite"):
        find_start(layout, IDENTITY, overwrite=False)
    start = find_start(layout, IDENTITY, overwrite=True)
    assert [Path(uri).name for uri in start.replaces] == ["dataset.json", "work", "shards", "catalog"]
    layout.remove()
    assert find_start(layout, IDENTITY, overwrite=False) == Start()


def test_an_output_that_is_a_file_is_refused(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "held-back").write_text("a file")
    with pytest.raises(ConfigurationError, match=r"--test-catalog .*held-back: is a file"):
        find_start(layout, IDENTITY, overwrite=True)
