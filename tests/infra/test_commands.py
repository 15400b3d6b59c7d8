"""The job commands for clusters are real: each runs here with --dry-run, on local stand-ins for its URIs."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.bundle import save_bundle
from model.config import GeneratorConfig
from model.generator import Generator
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import CATALOG, REFERENCE
from tests.hostile_images import drawing, encode
from tests.infra.commands import command, names
from tests.training_data import write_dataset

# Flags that name storage, and which of the stand-ins below takes the bucket's place.
STORAGE = {
    "--catalog": "catalog",
    "--data": "dataset",
    "--model": "bundle",
    "--output": "output",
    "--reference": "reference",
}


@pytest.fixture
def stand_ins(tmp_path: Path) -> dict[str, str]:
    """Flag -> a local path of the right kind: small tables, a small bundle, a free folder."""
    image = encode(drawing(), "PNG")
    upload = {"image_id": "1", "image": image, "labels": [{"label": "watermark", "score": 0.9}]}
    write_row(tmp_path / "catalog", CATALOG, upload)
    write_row(tmp_path / "reference", REFERENCE, {"image_id": "2", "image": image})
    write_dataset(tmp_path / "dataset", photos=64)  # enough for an update of many workers
    small = GeneratorConfig(n_groups=2, n_types=3, width=4, n_blocks=1, n_before_eta=0)
    save_bundle(tmp_path / "bundle", Generator(small), LabelMap.default().to_yaml(), 32, "", {})
    return {flag: str(tmp_path / name) for flag, name in STORAGE.items()} | {"--allow-uri": str(tmp_path)}


def write_row(folder: Path, schema: pa.Schema, row: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([row], schema=schema), folder / "part-0.parquet")


def test_every_job_kind_is_among_the_commands() -> None:
    jobs = [Path(command(name)[1]).name for name in names()]
    assert jobs.count("correct_catalog.py") >= 2
    assert jobs.count("train.py") >= 2


@pytest.mark.parametrize("name", names())
def test_commands_run_dry(name: str, stand_ins: dict[str, str], repository: Path) -> None:
    python, script, *arguments = command(name)
    assert python == "python"
    local = [
        stand_ins[flag] if value.startswith("s3://") else value
        for flag, value in zip([script, *arguments], arguments, strict=False)
    ]
    assert not [value for value in local if "://" in value], "a URI behind a flag that STORAGE does not know"
    done = subprocess.run(
        [sys.executable, str(repository / script.removeprefix("/app/")), *local, "--dry-run"],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout  # the plan
    assert not Path(stand_ins["--output"]).exists(), "a dry run wrote"
