from pathlib import Path

import pytest

from jobs import command
from jobs.maintain_output import main
from model.errors import ConfigurationError
from pipelines import storage
from pipelines.storage.lock import locked
from tests.catalogs import tree
from tests.nights import contents, images, night, row


@pytest.fixture
def output(tmp_path: Path) -> str:
    """Two nights, and an image of a killed run."""
    output = str(tmp_path / "out")
    night(output, "1", {"a": "a1"})
    night(output, "2", {"a": "a2", "b": "b2"})
    row(output, "a", "of a killed run")
    return output


LINES = {
    "rollback": ((), "return to  1: 1 rows, 1 corrected, 0 passthrough, 0 rejected, 0 failed"),
    "clean": (("--keep-runs", "1"), "images     2 that no manifest names, 17 bytes; 2 stay"),
    "erase": (("--image-id", "a"), "images    3, 19 bytes"),
}


@pytest.mark.parametrize("verb", LINES)
def test_what_would_be_done_is_printed_and_done_only_when_asked(
    verb: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags, line = LINES[verb]
    before = tree(Path(output))
    assert main([verb, "--output", output, *flags]) == command.EXIT_OK
    said = capsys.readouterr().out.splitlines()
    assert line in said
    assert said[-1] == "nothing was changed: --apply does it"
    assert tree(Path(output)) == before
    assert main([verb, "--output", output, *flags, "--apply"]) == command.EXIT_OK
    done = capsys.readouterr().out.splitlines()
    assert (done[:-1], done[-1]) == (said[:-1], "done")
    assert (
        contents(output)
        == {
            "rollback": {"a": "a1"},
            "clean": {"a": "a2", "b": "b2"},
            "erase": {"a": None, "b": "b2"},
        }[verb]
    )
    assert (
        images(output)
        == {
            "rollback": {"a1", "a2", "b2", "of a killed run"},
            "clean": {"a2", "b2"},
            "erase": {"b2"},
        }[verb]
    )
    assert not (Path(output) / ".lock").exists()


@pytest.mark.parametrize("verb", LINES)
@pytest.mark.parametrize("apply", [(), ("--apply",)])
def test_nothing_is_done_while_a_run_is_at_work(verb: str, apply: tuple[str, ...], output: str) -> None:
    with locked(output):
        before = tree(Path(output))
        with pytest.raises(ConfigurationError, match="another run is at work there"):
            main([verb, "--output", output, *LINES[verb][0], *apply])
        assert tree(Path(output)) == before


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["clean"], "clean needs --keep-runs"),
        (["erase", "--keep-runs", "3"], "--keep-runs is for clean, not for erase"),
        (["erase"], "erase needs --image-id"),
        (["clean", "--keep-runs", "2", "--to", "1"], "--to is for rollback, not for clean"),
        (["clean", "--keep-runs", "2", "--allow-unknown"], "--allow-unknown is for erase, not for clean"),
        (["rollback", "--to", "3"], "--to 3: no such manifest is kept; there are 1"),
    ],
)
def test_flags_that_do_not_fit_are_named(words: list[str], complaint: str, output: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        main([*words, "--output", output])


def test_an_id_of_which_nothing_is_there_is_erased_if_a_flag_says_so(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["erase", "--output", output, "--image-id", "of today"]
    with pytest.raises(ConfigurationError, match="add --allow-unknown"):
        main([*words, "--apply"])
    assert not (Path(output) / "erased.parquet").exists()
    assert main([*words, "--allow-unknown"]) == command.EXIT_OK
    assert "unknown   'of today': no later night will read them" in capsys.readouterr().out.splitlines()
    assert main([*words, "--allow-unknown", "--apply"]) == command.EXIT_OK
    assert (Path(output) / "erased.parquet").exists()


def test_a_folder_that_is_no_output_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--output .*/none: no manifest is published there"):
        main(["rollback", "--output", str(tmp_path / "none")])
    assert not storage.exists(str(tmp_path / "none"))
