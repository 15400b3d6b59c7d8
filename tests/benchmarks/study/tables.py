"""Tables of docs/study.md, from the results alone."""
from pathlib import Path
from tests.benchmarks.study.plan import Study
def write(page: Path, results: Path, study: Study) -> None:
    """placeholder"""
