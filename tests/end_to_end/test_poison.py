"""A catalog with images that kill the process that decodes them, through the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.catalogs import read_parquet, row, rows, write_bundle, write_catalog
from tests.poison import POISONOUS, poison

pytestmark = pytest.mark.ray

EXPECTED = {"kill": "decoder_crashed", "endless": "decode_timeout", "balloon": "decoder_out_of_memory"}


def test_poison_fails_alone_and_its_neighbours_are_corrected(repository: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", content=0.5, matte=0)
    catalog = rows(10)
    for kind in EXPECTED:
        catalog.insert(4, row(kind, "watermark", image=poison(kind)))
    write_catalog(tmp_path / "catalog" / "a.parquet", catalog, row_group_size=7)
    output = tmp_path / "out"
    flags = {"--catalog": tmp_path / "catalog", "--output": output, "--model": bundle, "--device": "cpu"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "jobs.correct_catalog", "--no-fid", "--max-failed", "0.5"),
            *("--max-decode-seconds", "2", "--max-megapixels", "1"),
            *(str(text) for item in flags.items() for text in item),
        ],
        cwd=repository,
        env={**os.environ, **POISONOUS, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {one["image_id"]: one for one in read_parquet(output / "manifest")}
    assert len(found) == len(catalog)
    assert {name: found.pop(name)["error_code"] for name in EXPECTED} == EXPECTED
    assert {one["status"] for one in found.values()} == {"corrected", "passthrough"}
    assert all(Path(one["output_uri"]).exists() for one in found.values() if one["status"] == "corrected")
