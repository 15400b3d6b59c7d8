"""Names the files that a run keeps below OUTPUT until it is published.

    OUTPUT/.run/run.json             the name of the run at work; later the record that is published with the manifest
    OUTPUT/.run/plan/*.parquet       the work that the catalog's rows need, see `inspect.pending`
    OUTPUT/.run/journal/NNN-<run>/*.parquet  manifest rows that attempt NNN has finished, a part per block
    OUTPUT/.run/begun/NNN-<run>/*.parquet    ids whose images attempt NNN may have replaced, a part per block
    OUTPUT/.run/refreshed/*.parquet  rows whose image was read and is unchanged, see `publish.staying`
    OUTPUT/.run/writing/             images on a local disk before they are renamed
    OUTPUT/.run/samples/*/NNN-<run>/*.parquet  images for FID and the report, of attempt NNN alone
    OUTPUT/.run/manifest/*.parquet   the next manifest, complete once publish.json exists
    OUTPUT/.run/aside/*/*.parquet    rows that are new and rows that are gone, see `publish.changes`
    OUTPUT/.run/changes/             what the next manifest changes, complete once publish.json exists
    OUTPUT/.run/report/              the next report
    OUTPUT/.run/publish.json         the run is being published

A killed run leaves its journal, and the next run adds its own. Of one id, the row of the latest journal counts, then
that of the manifest. `begun` covers images that were replaced although their rows reached no journal: earlier rows of
these ids describe an image that is gone, and must not count even if the next run has the same settings.

Folders of attempts also carry the run's name, which begins with the time. So tasks of a dead run that still write do
not write into a folder of the next run, even if they had written nothing when it chose its number.
"""

from dataclasses import dataclass, field

from pipelines.storage import objects as storage

RUN_FOLDER = ".run"
MANIFEST, REPORT, RUN, SUCCESS = "manifest", "report", "run.json", "_SUCCESS"
#: Folder of the records of all runs, see `report.record`. It is kept, even by --overwrite: it says what happened.
RUNS_FOLDER = "runs"
PLAN_FOLDER, REFRESHED_FOLDER, SAMPLES_FOLDER = "plan", "refreshed", "samples"
WRITING_FOLDER, ASIDE_FOLDER, CHANGES_FOLDER = "writing", "aside", "changes"
#: Tables of folders and CSV files (see `tabulate`) while a run reads them. Not in RUN_FOLDER, because a run removes
#: that at its beginning if it finishes the publication of a killed one.
CATALOG_FOLDER = ".catalog"
#: Folders that every attempt makes anew.
_OF_AN_ATTEMPT = (
    *(PLAN_FOLDER, REFRESHED_FOLDER, SAMPLES_FOLDER, WRITING_FOLDER, ASIDE_FOLDER),
    *(CHANGES_FOLDER, MANIFEST, REPORT),
)
_JOURNAL, _BEGUN = "journal", "begun"
#: Folders that killed attempts leave to the next one, in the order of their removal: the rows before the ids that
#: invalidate rows.
LEFT = (_JOURNAL, _BEGUN)
WORKING = (*_OF_AN_ATTEMPT, *LEFT)


@dataclass(frozen=True)
class Layers:
    """Files of finished rows by layer, the oldest first. rows: the manifest's parts, then those of each attempt's
    journal, which may have none. begun: files of ids, for each attempt. attempts: their names, in order.
    """

    rows: list[list[str]] = field(default_factory=lambda: [[]])
    begun: list[list[str]] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)

    def next_attempt(self, run: str) -> str:
        """Return the name of the next attempt. run: the run's name."""
        last = int(self.attempts[-1].partition("-")[0]) if self.attempts else -1
        return f"{last + 1:03}-{run}"


@dataclass(frozen=True)
class RunFolder:
    """URIs below one output folder."""

    output: str

    def at(self, *names: str) -> str:
        """Return a URI in OUTPUT/.run."""
        return storage.join(self.output, RUN_FOLDER, *names)

    @property
    def manifest(self) -> str:
        """Folder of the published manifest."""
        return storage.join(self.output, MANIFEST)

    def record(self, run: str) -> str:
        """Return the URI of a run's record."""
        return storage.join(self.output, RUNS_FOLDER, f"{run}.json")

    def journal(self, attempt: str) -> str:
        """Return the folder of one attempt's finished rows."""
        return self.at(_JOURNAL, attempt)

    def begun(self, attempt: str) -> str:
        """Return the folder of the ids whose images one attempt may have replaced."""
        return self.at(_BEGUN, attempt)

    def layers(self) -> "Layers":
        """List the files that earlier runs and killed attempts left."""
        journals, begun = (self._by_attempt(name) for name in (_JOURNAL, _BEGUN))
        attempts = sorted({*journals, *begun})
        return Layers(
            [
                storage.list_files(self.manifest, ".parquet"),
                *(journals.get(attempt, []) for attempt in attempts),
            ],
            [begun.get(attempt, []) for attempt in attempts],
            attempts,
        )

    def _by_attempt(self, name: str) -> dict[str, list[str]]:
        parts: dict[str, list[str]] = {}
        for uri in storage.list_files(self.at(name), ".parquet"):
            parts.setdefault(uri.rsplit("/", 2)[-2], []).append(uri)
        return parts

    def begin_attempt(self) -> None:
        """Remove what a killed attempt left, except for its journal and `begun`. Raises one of STORAGE_ERRORS."""
        for name in _OF_AN_ATTEMPT:
            storage.remove(self.at(name))
