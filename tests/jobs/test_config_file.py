import argparse
import json
from pathlib import Path

import pytest

from jobs import command, config_file, correct_flags
from model.errors import ConfigurationError
from tests.job_parsers import parser_of

#: Every job, and a command line that it takes.
JOBS = {
    "correct_catalog": [
        "--catalog",
        "a",
        "b",
        "--output",
        "o",
        "--actors",
        "1:8",
        "--no-fid",
        "--ai-tag",
    ],
    "prepare_dataset": ["--photos", "a", "--output", "o", "--synthesis", "a=b", "--draws", "2"],
    "check_dataset": ["--data", "a", "--output", "o", "--strict"],
    "train": [
        "--data",
        "a",
        "--output",
        "o",
        "--workers",
        "1:4",
        "--set",
        "objective.geometry=4",
        "--epochs",
        "3",
    ],
    "train_detector": ["--data", "a", "--output", "o", "--workers", "0", "--flip-half"],
    "evaluate": ["--data", "a", "--output", "o", "--bundle", "x", "y"],
    "maintain_output": ["clean", "--output", "o", "--keep-runs", "7"],
    "make_sample_catalog": ["--output", "o", "--images", "8"],
}


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
        ("steps: [", r"not YAML \(.*line 1, column 9\)"),
        ("steps: {a: 1}", r"--steps takes no \{'a': '1'\}"),
        ("steps: 1\nrate: 2\nsteps: 3", "'steps' occurs twice"),
        ("crop: 1", "--crop takes no '1'"),
        ("title: off", r"--title takes no False; put a word such as 'off' in quotes"),
        ("steps: [1, 2]", r"--steps takes no \['1', '2'\]"),
    ],
)
def test_what_no_flag_takes_is_refused_by_file_and_key(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        parsed(tmp_path, text, "--data", "a")


def test_an_error_of_syntax_does_not_repeat_the_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parsed(tmp_path, 'notify: "https://example.com/T0KEN')
    assert "T0KEN" not in str(caught.value)


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


def test_what_a_job_shows_is_a_file_that_gives_the_same_flags(tmp_path: Path) -> None:
    words = ["--data", "a", "b", "--rate", "1e-3", "--crop", "--no-freeze", "--set", "x.y=1", "--title=--odd"]
    given = parser().parse_args([*words, "--allow-uri", "/mnt", "--allow-uri", "s3://b"])
    shown = {"plan": {"rows": 3}, config_file.PART: config_file.flags(parser(), given)}
    assert shown[config_file.PART]["steps"] == 7  # defaults, too
    again = parsed(tmp_path, json.dumps(shown))
    assert {**vars(again), "config": None} == vars(given)


@pytest.mark.parametrize(("name", "words"), JOBS.items())
def test_every_job_reads_what_it_shows(name: str, words: list[str], tmp_path: Path) -> None:
    dry = [] if name == "maintain_output" else ["--dry-run"]
    given = parser_of(name).parse_args([*words, *dry])
    (tmp_path / "shown.json").write_text(json.dumps({"flags": config_file.flags(parser_of(name), given)}))
    verb = words[:1] if name == "maintain_output" else []
    again = parser_of(name).parse_args([*verb, "--config", str(tmp_path / "shown.json"), *dry])
    assert {**vars(again), "config": None} == vars(given)


def test_overwrite_is_not_repeated() -> None:
    p = parser()
    p.add_argument("--overwrite", action="store_true")
    assert "overwrite" not in config_file.flags(p, p.parse_args(["--data", "a", "--overwrite"]))


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("true", ["all"]),
        ("false", None),
        ("missing", ["missing"]),
        ("[missing, corrupt]", ["missing", "corrupt"]),
    ],
)
def test_a_flag_that_may_stand_alone_is_a_switch_or_has_values(
    text: str, codes: list[str] | None, tmp_path: Path
) -> None:
    words = ["--catalog", "a", "--output", str(tmp_path), "--config", str(tmp_path / "night.yaml")]
    (tmp_path / "night.yaml").write_text(f"retry-failed: {text}\n")
    given = correct_flags.parser(None).parse_args(words)
    assert given.retry_failed == codes
    (tmp_path / "night.yaml").write_text(config_file.to_yaml(correct_flags.parser(None), given))
    assert correct_flags.parser(None).parse_args(words[-2:]).retry_failed == codes


def test_a_range_is_no_number_to_the_base_60(tmp_path: Path) -> None:
    (tmp_path / "night.yaml").write_text("catalog: [a]\noutput: o\nactors: 1:8\nmax-failed: 0.02\n")
    found = correct_flags.parser(None).parse_args(["--config", str(tmp_path / "night.yaml")])
    assert (found.actors, found.max_failed) == ((1, 8), 0.02)


def test_the_flags_that_a_job_keeps_in_its_output_are_its_flags(tmp_path: Path) -> None:
    words = ["--catalog", "ä", "b", "--output", str(tmp_path), "--actors", "1:8", "--gates", "off"]
    given = correct_flags.parser(None).parse_args([*words, "--max-failed", "1e-5", "--ai-tag", "--overwrite"])
    command.keep_flags(correct_flags.parser(None), given)
    kept = tmp_path / command.FLAGS_FILE
    again = correct_flags.parser(None).parse_args(["--config", str(kept)])
    assert vars(again) == {**vars(given), "config": str(kept), "overwrite": False}


def test_flags_that_cannot_be_kept_end_no_job_and_replace_nothing_of_anybody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    given = correct_flags.parser(None).parse_args(["--catalog", "a", "--output", str(tmp_path / "file")])
    command.keep_flags(correct_flags.parser(None), given)
    assert "cannot write the flags to" in caplog.text
    (tmp_path / command.FLAGS_FILE).write_text("# mine\ncatalog: a\n")
    given = correct_flags.parser(None).parse_args(["--catalog", "a", "--output", str(tmp_path)])
    command.keep_flags(correct_flags.parser(None), given)
    assert (tmp_path / command.FLAGS_FILE).read_text().startswith("# mine")
    assert "was not written by a job" in caplog.text
