"""Where a run keeps what, below OUTPUT, until it is published.

    OUTPUT/.run/run.json             the run's description while it works; its state is `running`
    OUTPUT/.run/plan/*.parquet       what the catalog's rows need, see `inspect.pending`
    OUTPUT/.run/journal/NNN-<run>/*.parquet  manifest rows of what attempt NNN has finished, a part per block
    OUTPUT/.run/begun/NNN-<run>/*.parquet    ids whose images attempt NNN may have replaced, a part per block
    OUTPUT/.run/refreshed/*.parquet  rows whose image was read and found unchanged, see `publish.staying`
    OUTPUT/.run/writing/             images on a local disk before they have their names
    OUTPUT/.run/samples/*/NNN-<run>/*.parquet  images for FID and the report, of attempt NNN alone
    OUTPUT/.run/manifest/*.parquet   the next manifest, complete once publish.json is there
    OUTPUT/.run/report/              the next report
    OUTPUT/.run/publish.json         the run is being published

A killed run leaves its journal. The next run adds a journal of its own: rows of a later one stand for those of an
earlier one, and these for those of the manifest. An image that was replaced, but whose row is in no journal, is no
longer the one that an earlier row tells of: `begun` says so, should the next run have the settings of that row.

Folders of attempts have the run's name too, which begins with the time: tasks of a dead run that still write do not
write among those of the next, even where they had written nothing when that one counted.
"""

from dataclasses import dataclass, field

from pipelines.storage import objects as storage

RUN_FOLDER = ".run"
MANIFEST, REPORT, RUN, SUCCESS = "manifest", "report", "run.json", "_SUCCESS"
PLAN_FOLDER, REFRESHED_FOLDER, SAMPLES_FOLDER = "plan", "refreshed", "samples"
WRITING_FOLDER = "writing"
#: Tables of folders and CSV files (see `tabulate`) while a run reads them. Not in RUN_FOLDER, which a run may remove
#: first of all, where it ends what a killed one was publishing.
CATALOG_FOLDER = ".catalog"
#: What one attempt makes anew; only journals stay for the next one.
_OF_AN_ATTEMPT = (PLAN_FOLDER, REFRESHED_FOLDER, SAMPLES_FOLDER, WRITING_FOLDER, MANIFEST, REPORT)
_JOURNAL, _BEGUN = "journal", "begun"
#: What killed attempts leave to the next one, in the order in which it may be removed: what contradicts rows after
#: them.
LEFT = (_JOURNAL, _BEGUN)
WORKING = (*_OF_AN_ATTEMPT, *LEFT)


@dataclass(frozen=True)
class Layers:
    """Files of rows that are done, the oldest first: the manifest's parts, and those of each attempt's journal, where
    there are none too. begun: of each attempt, of ids. attempts: their names, in order.
    """

    rows: list[list[str]] = field(default_factory=lambda: [[]])
    begun: list[list[str]] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)

    def next_attempt(self, run: str) -> str:
        """Name of the next attempt, which is the run's of this name."""
        last = int(self.attempts[-1].partition("-")[0]) if self.attempts else -1
        return f"{last + 1:03}-{run}"


@dataclass(frozen=True)
class RunFolder:
    """URIs below one output folder."""

    output: str

    def at(self, *names: str) -> str:
        """A place in OUTPUT/.run."""
        return storage.join(self.output, RUN_FOLDER, *names)

    @property
    def manifest(self) -> str:
        """The published manifest."""
        return storage.join(self.output, MANIFEST)

    def journal(self, attempt: str) -> str:
        """Folder of one attempt's finished rows."""
        return self.at(_JOURNAL, attempt)

    def begun(self, attempt: str) -> str:
        """Folder of the ids whose images one attempt may have replaced."""
        return self.at(_BEGUN, attempt)

    def layers(self) -> "Layers":
        """What earlier runs and killed attempts have left."""
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
        """Remove what a killed attempt has left and the next one makes anew. Raises one of STORAGE_ERRORS."""
        for name in _OF_AN_ATTEMPT:
            storage.remove(self.at(name))
