import argparse
from pathlib import Path

import pytest

from jobs import command
from model.errors import ConfigurationError


def parser() -> command.Parser:
    p = command.Parser("job")
    p.add_argument("--data", nargs="+", action="extend", required=True)
    p.add_argument("--steps", type=command.positive, default=7)
    p.add_argument("--rate", type=float)
    p.add_argument("--crop", action="store_true")
    p.add_argument("--freeze", action=argparse.BooleanOptionalAction)
    p.add_argument("--set", nargs="*", action="extend", default=[])
    p.add_argument("--title")
    p.add_argument("--allow-uri", action="append", default=[])
    return p


def parsed(folder: Path, text: str, *words: str) -> argparse.Namespace:
    (folder / "job.yaml").write_text(text)
    return parser().parse_args(["--config", str(folder / "job.yaml"), *words])


def test_a_file_says_what_the_command_line_would(tmp_path: Path) -> None:
    found = parsed(
        tmp_path,
        "data: [a, b]\nsteps: 3\nrate: 1.0e-3\ncrop: true\nfreeze: false\nset: [x.y=1]\ntitle: --odd\n",
    )
    assert (found.data, found.steps, found.rate, found.crop, found.freeze) == (
        ["a", "b"],
        3,
        1e-3,
        True,
        False,
    )
    assert (found.set, found.title) == (["x.y=1"], "--odd")
    assert parsed(tmp_path, "data: a\ncrop: false").crop is False


def test_the_command_line_wins_and_lists_add_up(tmp_path: Path) -> None:
    text = "data: [a]\nsteps: 3\nset: [x.y=1]\n"
    found = parsed(tmp_path, text, "--steps", "5", "--set", "x.z=2", "--data", "b")
    assert (found.steps, found.set, found.data) == (5, ["x.y=1", "x.z=2"], ["a", "b"])
    (tmp_path / "job.yaml").write_text(text)
    assert parser().parse_args([f"--config={tmp_path / 'job.yaml'}"]).steps == 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("step: 3", r"job\.yaml: there is no flag --step; did you mean '--steps'\?"),
        ("config: other.yaml", r"no flag --config"),
        ("- steps", "give flags and their values"),
        ("steps: [", "no YAML"),
        ("steps: {a: 1}", r"--steps takes no \{'a': 1\}"),
        ("crop: 1", "--crop takes no 1"),
        ("title: off", r"--title takes no False; put a word such as 'off' in quotes"),
        ("steps: [1, 2]", r"--steps takes no \[1, 2\]"),
    ],
)
def test_what_no_flag_takes_is_refused_by_file_and_key(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        parsed(tmp_path, text, "--data", "a")


def test_null_is_nothing_and_what_is_appended_may_be_a_list(tmp_path: Path) -> None:
    found = parsed(tmp_path, "data: a\nrate: ~\nallow-uri: [s3://a/, s3://b/]", "--allow-uri", "s3://c/")
    assert found.rate is None
    assert found.allow_uri == ["s3://a/", "s3://b/", "s3://c/"]


def test_two_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--config is given 2 times"):
        parsed(tmp_path, "data: a", "--config=other.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--config"):
        parser().parse_args(["--config", str(tmp_path / "none.yaml")])


def test_a_value_is_checked_as_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed(tmp_path, "data: a\nsteps: -1")
    assert "argument --steps" in capsys.readouterr().err
