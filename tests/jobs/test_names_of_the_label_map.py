"""A name that the label map lacks is refused by whatever flag takes names of groups or defects, in every job."""

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import (
    check_dataset,
    command,
    correct_catalog,
    correct_flags,
    evaluate,
    make_sample_catalog,
    prepare_dataset,
    train,
    train_detector,
    train_flags,
)
from model.errors import ConfigurationError
from pipelines.contracts.schemas import CATALOG
from pipelines.images.encode import encode_image
from tests.training_data import write_dataset

Main = Callable[[Sequence[str] | None], int]
#: By job: its parser, its main, and what it needs besides the flag in question.
JOBS: dict[str, tuple[argparse.ArgumentParser, Main, list[str]]] = {
    "check_dataset": (check_dataset.parser(), check_dataset.main, ["--data", "data"]),
    "correct_catalog": (correct_flags.parser(None), correct_catalog.main, ["--catalog", "catalog.parquet"]),
    "evaluate": (evaluate.parser(), evaluate.main, ["--data", "data", "--bundle", "bundle"]),
    "make_sample_catalog": (make_sample_catalog.parser(), make_sample_catalog.main, []),
    "prepare_dataset": (prepare_dataset.parser(), prepare_dataset.main, ["--photos", "photos.parquet"]),
    "train": (train_flags.parser(""), train.main, ["--data", "data", "--width", "4", "--blocks", "1"]),
    "train_detector": (train_detector.parser(), train_detector.main, ["--data", "data"]),
}
#: Values of flags that name a group or a defect, right ones and misspelt ones. A value that ends in .yaml is a file of
#: FILES. A flag that comes to take names belongs here.
RIGHT, WRONG = "right", "wrong"
VALUES: dict[tuple[str, str], dict[str, list[str]]] = {
    ("train", "--geometric-groups"): {RIGHT: ["angle"], WRONG: ["background", "angel"]},
    ("train", "--repeat"): {RIGHT: ["watermark=2"], WRONG: ["watermark=2", "watermrk=2"]},
    ("train", "--flip"): {RIGHT: ["non_white_background"], WRONG: ["non_white_background", "watermrk"]},
    ("prepare_dataset", "--synthesis"): {RIGHT: ["watermark=blur"], WRONG: ["watermrk=blur"]},
    ("prepare_dataset", "--sources"): {RIGHT: ["sources.yaml"], WRONG: ["misspelt-sources.yaml"]},
    ("correct_catalog", "--gates"): {RIGHT: ["gates.yaml"], WRONG: ["misspelt-gates.yaml"]},
}
FILES = {
    "sources.yaml": "version: 1\nsources: [{reader: unpaired, source: pictures, defect: watermark}]\n",
    "misspelt-sources.yaml": "version: 1\nsources: [{reader: unpaired, source: pictures, defect: watermrk}]\n",
    "gates.yaml": "version: 1\ndefect_remains: {watermark: 0.9}\n",
    "misspelt-gates.yaml": "version: 1\nwhite_background: [watermark]\ndefect_remains: {watermrk: 0.9}\n",
}
#: What a metavar says of a flag that takes names.
TAKES_NAMES = re.compile(r"\b(DEFECT|GROUP|LABEL)\b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("inputs")
    write_dataset(found / "data")
    image = encode_image(np.zeros((8, 8, 3), np.uint8), "png")
    pq.write_table(pa.table({"image_id": ["1"], "image": [image]}), found / "photos.parquet")
    upload = {"image_id": "1", "image": image, "labels": [{"label": "watermark", "score": 0.9}]}
    pq.write_table(pa.Table.from_pylist([upload], CATALOG), found / "catalog.parquet")
    (found / "pictures").mkdir()
    (found / "pictures" / "1.png").write_bytes(image)
    for name, text in FILES.items():
        (found / name).write_text(text)
    return found


def test_every_flag_that_takes_names_is_looked_at_here() -> None:
    found = {
        (job, action.option_strings[0])
        for job, (parser, _, _) in JOBS.items()
        for action in parser._actions
        if TAKES_NAMES.search(str(action.metavar))
    }
    assert found <= set(VALUES), "show above that these refuse a name that the label map lacks"


@pytest.mark.parametrize(("job", "flag"), VALUES)
def test_a_misspelt_name_is_refused_and_the_right_one_suggested(
    job: str, flag: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    _, main, needed = JOBS[job]
    line = [*needed, "--output", str(tmp_path / "out"), "--dry-run", flag]
    assert main([*line, *VALUES[job, flag][RIGHT]]) == command.EXIT_OK
    kind, name, meant = (
        ("group", "angel", "angle") if flag == "--geometric-groups" else ("defect", "watermrk", "watermark")
    )
    with pytest.raises(ConfigurationError) as caught:
        main([*line, *VALUES[job, flag][WRONG]])
    said = str(caught.value)
    assert f"the label map has no {kind} '{name}'; did you mean '{meant}'?" in said
    assert flag in said or "misspelt-" in said
