"""Where a run keeps what, below OUTPUT, until it is published.

    OUTPUT/.run/run.json             the run's description while it works; its state is `running`
    OUTPUT/.run/plan/*.parquet       what the catalog's rows need, see `pending`
    OUTPUT/.run/journal/NNN/*.parquet    manifest rows of what attempt NNN has finished, a part per block
    OUTPUT/.run/refreshed/*.parquet  rows whose image was read and found unchanged, see `assemble`
    OUTPUT/.run/looked/*.parquet     images of ids that occur more than once, see `repeated`
    OUTPUT/.run/followers/*.parquet  rows whose image is another row's, see `same_bytes`
    OUTPUT/.run/writing/             images on a local disk before they have their names
    OUTPUT/.run/samples/             material of FID and of the report's pictures
    OUTPUT/.run/manifest/*.parquet   the next manifest, complete once publish.json is there
    OUTPUT/.run/report/              the next report
    OUTPUT/.run/publish.json         the run is being published

A killed run leaves its journal. The next run adds a journal of its own: rows of a later one stand for those of an
earlier one, and these for those of the manifest.
"""

import re
from dataclasses import dataclass

from pipelines import storage

RUN_FOLDER = ".run"
MANIFEST, REPORT, RUN, SUCCESS = "manifest", "report", "run.json", "_SUCCESS"
PLAN_FOLDER, LOOKED_FOLDER, REFRESHED_FOLDER, FOLLOWERS_FOLDER = "plan", "looked", "refreshed", "followers"
WRITING_FOLDER = "writing"
#: What one attempt makes anew; journals and samples stay for the next one.
_OF_AN_ATTEMPT = (
    PLAN_FOLDER,
    LOOKED_FOLDER,
    REFRESHED_FOLDER,
    FOLLOWERS_FOLDER,
    WRITING_FOLDER,
    MANIFEST,
    REPORT,
)
WORKING = (*_OF_AN_ATTEMPT, "journal", "samples")


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

    def journal(self, attempt: int) -> str:
        """Folder of one attempt's finished rows."""
        return self.at("journal", f"{attempt:03}")

    def layers(self) -> list[list[str]]:
        """Parts of the manifest and of the journals of killed attempts, the oldest first; journals without parts too.

        The next attempt's number is the number of these layers less one.
        """
        by_attempt: dict[int, list[str]] = {}
        for uri in storage.list_files(self.at("journal"), ".parquet"):
            found = re.search(r"/(\d+)/[^/]+$", uri)
            by_attempt.setdefault(int(found[1]) if found else 0, []).append(uri)
        journals = [by_attempt.get(number, []) for number in range(max(by_attempt, default=-1) + 1)]
        return [storage.list_files(self.manifest, ".parquet"), *journals]

    def begin_attempt(self) -> None:
        """Remove what a killed attempt has left and the next one makes anew. Raises one of STORAGE_ERRORS."""
        for name in _OF_AN_ATTEMPT:
            storage.remove(self.at(name))
