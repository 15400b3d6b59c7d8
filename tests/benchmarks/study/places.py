"""Where the study's files are. What a machine may lose is in one folder, what must outlive it in another."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.study.plan import Run

ROOT = Path(__file__).resolve().parents[3]
#: The real photos, which most machines do not have.
SHARED = ROOT.parent / "shared" / "data"
PAGE = ROOT / "docs" / "study.md"


@dataclass(frozen=True)
class Places:
    """Folders of a study. work: data sets, checkpoints, bundles; results: scores and pictures, which are committed."""

    work: Path = ROOT / ".work" / "study"
    results: Path = ROOT / "docs" / "study"

    def data(self, name: str) -> Path:
        """Return the folder of a prepared data set."""
        return self.work / "data" / name

    def training(self, run: Run) -> Path:
        """Return the folder of a training."""
        return self.work / "runs" / run.name

    def sessions(self, run: Run) -> Path:
        """Return the file that lists when, and with which code, a run was at work."""
        return self.work / "runs" / f"{run.name}.sessions.jsonl"

    def failure(self, run: Run) -> Path:
        """Return the file that says why a run cannot be finished. Remove it to try again."""
        return self.work / "runs" / f"{run.name}.failed.txt"

    def evaluation(self, run: Run, test: str) -> Path:
        """Return the folder of an evaluation."""
        return self.work / "scores" / run.name / test

    def result(self, run: Run) -> Path:
        """Return the file with a run's scores. A run is finished once it exists."""
        return self.results / "results" / f"{run.name}.json"

    def picture(self, run: Run) -> Path:
        """Return the picture of a run's answers and attention maps for drawn scenes."""
        return self.results / "pictures" / f"{run.name}.jpg"


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def remove_folder(path: Path) -> None:
    """Remove a folder if it exists."""
    if path.exists():
        shutil.rmtree(path)
