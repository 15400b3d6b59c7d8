"""The flags that trainings share: what they accept, what they mean when left out, and what lists do."""

import argparse
import re
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import train_detector, train_flags
from jobs.train import resolve_method
from model.recipes import RECIPES, method_config
from pipelines.contracts.label_map import LabelMap
from pipelines.training.detector.settings import DetectorSettings
from pipelines.training.generator.settings import TrainSettings
from pipelines.training.settings import LoopSettings

LINE = ["--data", "d", "--output", "o"]


def parsed(*words: str) -> argparse.Namespace:
    return train_flags.parser(None).parse_args([*LINE, *words])


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_flag_that_is_left_out_leaves_the_recipe_s_own_constant(recipe: str) -> None:
    label_map = LabelMap.default()
    own = method_config(recipe, n_groups=2, n_types=3, image_size=256)
    assert resolve_method(parsed("--recipe", recipe), label_map) == own


def test_a_flag_that_is_left_out_leaves_the_architecture_s_own_width() -> None:
    given = {"architecture": "pretrained_unet"}
    own = method_config("proposed", n_groups=2, n_types=3, image_size=256, generator=given)
    assert resolve_method(parsed("--architecture", "pretrained_unet"), LabelMap.default()) == own
    assert own.generator.width != resolve_method(parsed(), LabelMap.default()).generator.width


def test_flags_and_set_reach_the_setting_that_they_name() -> None:
    method = resolve_method(
        parsed("--width", "8", "--blocks", "2", "--cycle", "0.5", "--set", "discriminator.width=16"),
        LabelMap.default(),
    )
    assert (method.generator.width, method.generator.n_blocks) == (8, 2)
    assert (method.objective.cycle, method.discriminator.width) == (0.5, 16)


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        ("--data", ["a", "b", "c"]),
        ("--repeat", ["watermark=2", "wrong_angle=3", "a=4"]),
        ("--flip", ["a", "b", "c"]),
        ("--geometric-groups", ["a", "b", "c"]),
        ("--set", ["objective.cycle=1", "objective.identity=2", "generator.width=8"]),
    ],
)
def test_a_list_may_be_given_at_once_or_bit_by_bit(flag: str, values: list[str]) -> None:
    name = flag[2:].replace("-", "_")
    line = ["--output", "o", *([] if flag == "--data" else ["--data", "d"])]
    at_once = train_flags.parser(None).parse_args([*line, flag, *values])
    by_and_by = train_flags.parser(None).parse_args([*line, flag, *values[:1], flag, *values[1:]])
    assert getattr(at_once, name) == getattr(by_and_by, name) == values
    # A parser's default list must not grow from one command line to the next.
    assert getattr(train_flags.parser(None).parse_args(LINE), name) in ([], None, ["d"])


def test_shared_flags_are_settings_of_every_training() -> None:
    """Those of a generator and of a detector; each holds the value that was given."""
    names = {field.name for field in fields(LoopSettings)}
    for parse, kind in (
        (train_flags.parser(None).parse_args, TrainSettings),
        (train_detector.parser().parse_args, DetectorSettings),
    ):
        shared = train_flags.shared_settings(
            parse([*LINE, "--seed", "7", "--image-size", "64", "--keep", "5"])
        )
        assert shared.keys() <= names & {field.name for field in fields(kind)}
        assert (shared["seed"], shared["image_size"], shared["keep"]) == (7, 64, 5)


@given(st.integers(0, 999), st.integers(0, 999))
def test_workers_are_a_number_or_a_range(low: int, high: int) -> None:
    assert train_flags.workers(str(low)) == (low, low)
    if 1 <= low <= high:
        assert train_flags.workers(f"{low}:{high}") == (low, high)
    else:
        with pytest.raises(argparse.ArgumentTypeError, match=rf"'{low}:{high}' is not a number of workers"):
            train_flags.workers(f"{low}:{high}")


@given(st.text("0123456789:-+. ax", max_size=6))
def test_what_is_no_number_of_workers_is_refused_by_name(text: str) -> None:
    if re.fullmatch(r" *\+?\d+ *(: *\+?\d+ *)?", text):
        return
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        train_flags.workers(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--steps", "3", "--epochs", "1"], "--epochs: not allowed with argument --steps"),
        (["--steps", "0"], "argument --steps"),
        (["--validate-every", "-1"], "argument --validate-every"),
        (["--workers", "4:2"], "argument --workers: '4:2' is not a number of workers such as 4"),
        (["--recipe", "none"], "argument --recipe: invalid choice"),
        (["--precision", "float8"], "argument --precision: invalid choice"),
        (["--stepz", "3"], "--stepz"),
    ],
)
def test_a_wrong_flag_is_named(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(*words)
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err


def test_the_help_shows_every_default_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train_flags.parser("What it does.").parse_args(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    for flag, default in (("--steps N", "20,000"), ("--image-size", "256"), ("--rate", "0.0002")):
        after = said.split(f" {flag} ")[-1]
        assert f"(default: {default})" in after[: after.index(")") + 1], flag
    assert "None" not in said
