"""In a job that was submitted with its working directory, no flag takes a path in there."""

import argparse
import contextlib
from pathlib import Path

import pytest

from jobs import (
    check_dataset,
    correct_flags,
    evaluate,
    make_sample_catalog,
    prepare_dataset,
    train_detector,
    train_flags,
)
from tests.submitted import submit

PARSERS = {
    "correct_catalog": correct_flags.parser(None),
    "prepare_dataset": prepare_dataset.parser(),
    "check_dataset": check_dataset.parser(),
    "train": train_flags.parser(""),
    "train_detector": train_detector.parser(),
    "evaluate": evaluate.parser(),
    "make_sample_catalog": make_sample_catalog.parser(),
}
#: What the flags that name a place call their value.
PLACES = ("URI", "PATH", "FILE", "BUNDLE", "PREFIX")
FLAGS = [
    (job, action.option_strings[-1])
    for job, parser in PARSERS.items()
    for action in parser._actions
    if set(str(action.metavar).split("|")) & set(PLACES)
]


def test_the_flags_of_all_jobs_are_looked_at() -> None:
    assert len(FLAGS) > 25
    for flag in ("--output", "--catalog", "--data", "--photos", "--bundle", "--label-map", "--allow-uri"):
        assert flag in [name for _, name in FLAGS]


@pytest.mark.parametrize(("job", "flag"), FLAGS)
def test_a_path_that_goes_with_the_job_is_refused_by_its_flag(
    job: str,
    flag: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    submit(tmp_path, monkeypatch)
    with pytest.raises(SystemExit) as caught:
        PARSERS[job].parse_args([flag, "sub/network.onnx"])
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert f"argument {flag}: 'sub/network.onnx' lies in the copy of --working-dir" in told
    assert "s3://" in told
    with contextlib.suppress(SystemExit):  # for want of other flags
        PARSERS[job].parse_args([flag, str(tmp_path / "network.onnx")])
    assert f"argument {flag}" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("job", "flag", "name"),
    [
        ("correct_catalog", "--gates", "off"),
        ("correct_catalog", "--profile", "amazon"),
        ("prepare_dataset", "--saliency", "classical"),
    ],
)
def test_a_name_is_no_path(
    job: str, flag: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(tmp_path, monkeypatch)
    (action,) = [action for action in PARSERS[job]._actions if flag in action.option_strings]
    assert callable(action.type)
    assert action.type(name) == name
    with pytest.raises(argparse.ArgumentTypeError):
        action.type("file.onnx")
