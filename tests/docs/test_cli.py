"""The generated pages are those of the present command lines and error codes."""

import subprocess
import sys
from pathlib import Path


def test_generated_pages_are_up_to_date(repository: Path) -> None:
    """Where this fails, a help text or an error code has changed: run `python docs/make_cli.py`."""
    done = subprocess.run(
        [sys.executable, str(repository / "docs/make_cli.py"), "--check"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_job_is_on_the_page(repository: Path) -> None:
    page = (repository / "docs/cli.md").read_text(encoding="utf-8")
    jobs = {path.name for path in (repository / "jobs").glob("*.py") if "__main__" in path.read_text()}
    assert {line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")} == jobs
