"""A correction whose output disk fills up ends cleanly, names the remedy, and leaves no partial files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.catalogs import rows, write_bundle, write_catalog

pytestmark = pytest.mark.ray

# In a namespace of its own: no other process sees the small disk, and it vanishes with its processes.
SCRIPT = """
mount -t tmpfs -o size=64k none "$1" || exit 77
out=$2; shift 2
"$@"; code=$?
find "$out" -name '*.part' -o -name _SUCCESS -o -name .lock
exit $code
"""


def test_a_full_disk_ends_the_run_and_nothing_else(tmp_path: Path, repository: Path) -> None:
    write_catalog(tmp_path / "catalog" / "a.parquet", rows(40))
    write_bundle(tmp_path / "bundle")
    disk = tmp_path / "disk"
    disk.mkdir()
    flags = ["--catalog", str(tmp_path / "catalog"), "--model", str(tmp_path / "bundle"), "--no-fid"]
    flags += ["--output", str(disk / "out"), "--actors", "1:1", "--format", "png", "--gates", "off"]
    done = subprocess.run(
        [
            *("unshare", "--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh", disk, disk / "out"),
            *(sys.executable, "jobs/correct_catalog.py", *flags),
        ],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare:" in done.stderr:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 1, done.stderr
    assert not [line for line in done.stdout.splitlines() if line.startswith(str(disk))]
    assert "error: --output: cannot write" in done.stderr
    assert "no space is left" in done.stderr
    assert "give the same command again" in done.stderr
