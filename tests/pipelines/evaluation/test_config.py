from pathlib import Path

import pytest

from model.errors import ConfigurationError
from pipelines.evaluation.config import EvaluationConfig, check_output, prepare_output


def config(output: Path, **changes: object) -> EvaluationConfig:
    return EvaluationConfig(("/data",), ("/bundle",), str(output), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"samples": 0}, "--samples must be 1 or more"),
        ({"device": "tpu"}, "--device"),
        ({"precision": "float16"}, "--precision"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        config(Path("out"), **changes)
    with pytest.raises(ConfigurationError, match="--bundle: name at least one"):
        EvaluationConfig(("/data",), (), "out")


def test_an_earlier_evaluation_is_replaced_only_when_asked_and_nothing_else_is_touched(
    tmp_path: Path,
) -> None:
    check_output(config(tmp_path))
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "dust.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"--output .* holds grids of an earlier .* --overwrite"):
        check_output(config(tmp_path))
    check_output(config(tmp_path, overwrite=True))
    prepare_output(config(tmp_path, overwrite=True))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_another_jobs_output_is_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "_SUCCESS").write_bytes(b"")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"--output .* holds another job's output .* another folder"):
        check_output(config(tmp_path, overwrite=overwrite))


def test_a_complete_evaluation_is_recognised_by_its_tables(tmp_path: Path) -> None:
    for name in ("_SUCCESS", "table.json"):
        (tmp_path / name).write_bytes(b"")
    check_output(config(tmp_path, overwrite=True))
    with pytest.raises(ConfigurationError, match="an earlier evaluation"):
        check_output(config(tmp_path))


def test_a_file_or_an_input_in_the_outputs_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match=r"--output .* is a file; give a folder"):
        check_output(config(tmp_path / "file"))
    inside = EvaluationConfig((str(tmp_path / "grids" / "set"),), ("/bundle",), str(tmp_path), overwrite=True)
    with pytest.raises(ConfigurationError, match=r"would write over .*/grids/set;"):
        check_output(inside)
