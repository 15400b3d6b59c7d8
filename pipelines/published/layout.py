"""Names the files that a run keeps below OUTPUT until it is published.

    OUTPUT/.run/run.json             the name of the run at work; later the record that is published with the manifest
    OUTPUT/.run/plan/*.parquet       the work that the catalog's rows need, see `inspect.pending`
    OUTPUT/.run/journal/NNN-<run>/*.parquet  manifest rows that attempt NNN has finished, a part per block
    OUTPUT/.run/refreshed/*.parquet  rows whose image was read and is unchanged, see `publish.staying`
    OUTPUT/.run/writing/             images on a local disk before they are renamed
    OUTPUT/.run/samples/*/NNN-<run>/*.parquet  images for FID and the report, of attempt NNN alone
    OUTPUT/.run/manifest/*.parquet   the next manifest, complete once publish.json exists
    OUTPUT/.run/aside/NNN-<run>/*/*.parquet  rows that are new and rows that are gone, see `changes`
    OUTPUT/.run/changes/             what the next manifest changes, complete once publish.json exists
    OUTPUT/.run/report/              the next report
    OUTPUT/.run/publish.json         the run is being published

A killed run leaves its journal, and the next run adds its own. Of one id, the row of the latest journal counts, then
that of the manifest. Images need no such care: their names have the hash of their content (`object_names`), so that a
later attempt never replaces an image that an earlier row names.

When a run is published, its manifest is also kept as OUTPUT/manifests/<run>/, to which the job can return. Beside that
folder, OUTPUT/manifests/<run>.json says what the folder must hold. Not in it: readers of parquet take all of a folder.

Folders of attempts also carry the run's name, which begins with the time. So tasks of a dead run that still write do
not write into a folder of the next run, even if they had written nothing when it chose its number.
"""

from dataclasses import dataclass, field

from pipelines import storage

RUN_FOLDER = ".run"
MANIFEST, REPORT, RUN, SUCCESS = "manifest", "report", "run.json", "_SUCCESS"
#: Folder of the manifests that runs have published: a folder for each, with the run's name.
MANIFESTS_FOLDER = "manifests"
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
#: Folder that killed attempts leave to the next one.
JOURNAL = "journal"
WORKING = (*_OF_AN_ATTEMPT, JOURNAL)


@dataclass(frozen=True)
class Layers:
    """Files of finished rows by layer, the oldest first. rows: the manifest's parts, then those of each attempt's
    journal. attempts: their names, in order.
    """

    rows: list[list[str]] = field(default_factory=lambda: [[]])
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
        return self.at(JOURNAL, attempt)

    def kept(self, *names: str) -> str:
        """Return a URI among the kept manifests: their folder, that of a run, or a part of it."""
        return storage.join(self.output, MANIFESTS_FOLDER, *names)

    def kept_record(self, run: str) -> str:
        """Return the URI of what is known of the manifest that was kept of a run."""
        return self.kept(f"{run}.json")

    def layers(self) -> "Layers":
        """List the files that earlier runs and killed attempts left."""
        journals = _by_folder(self.at(JOURNAL))
        return Layers([storage.list_files(self.manifest, ".parquet"), *journals.values()], [*journals])

    def kept_manifests(self) -> dict[str, list[str]]:
        """List the parts of the kept manifests by run, the oldest run first. Raises one of STORAGE_ERRORS."""
        return _by_folder(self.kept())

    def begin_attempt(self) -> None:
        """Remove what a killed attempt left, except for its journal. Raises one of STORAGE_ERRORS."""
        for name in _OF_AN_ATTEMPT:
            storage.remove(self.at(name))


def _by_folder(uri: str) -> dict[str, list[str]]:
    """Return the parquet files in the folders below `uri` by the folders' names, in the order of these."""
    parts: dict[str, list[str]] = {}
    for part in storage.list_files(uri, ".parquet"):
        parts.setdefault(part.rsplit("/", 2)[-2], []).append(part)
    return dict(sorted(parts.items()))
