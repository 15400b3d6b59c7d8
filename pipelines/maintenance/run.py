"""What the verbs share: the look at an output, and the publication of a manifest that no correction has made."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.contracts.schemas import by_status
from pipelines.published.changes import ADDED, CHANGED, REMOVED
from pipelines.published.layout import JOURNAL, MANIFEST, MANIFESTS_FOLDER, RUNS_FOLDER, RunFolder
from pipelines.published.parts import read_parts
from pipelines.published.publish import Publication, check_parts, finish_publishing, publish
from pipelines.published.records import (
    COMPLETE,
    manifest_run,
    new_name,
    note_killed,
    published_state,
    to_json,
    write_run,
)
from pipelines.published.row_keys import Keys, KeySet, key_of, to_keys
from pipelines.storage import outputs
from pipelines.storage.lock import Lock


@dataclass(frozen=True)
class Output:
    """What an output holds. current: name of the run whose manifest is published, if that is known. manifest: its
    parts. kept: the parts of the kept manifests by run, the oldest first. unfinished: parts of what a killed run left.
    """

    folder: RunFolder
    current: str | None
    manifest: list[str]
    kept: dict[str, list[str]]
    unfinished: list[str]

    @staticmethod
    def look(output: str) -> "Output":
        """Look at an output, and write nothing. Raises ConfigurationError if no manifest is published there."""
        folder = RunFolder(output)
        with storage.as_configuration_error(output, "--output", "read"):
            manifest = storage.list_files(folder.manifest, ".parquet")
            if not manifest:
                raise ConfigurationError(
                    f"--output {output}: no manifest is published there; give the output of a correction"
                )
            unfinished = [
                part
                for name in (MANIFEST, JOURNAL)
                for part in storage.list_files(folder.at(name), ".parquet")
            ]
            return Output(folder, manifest_run(output), manifest, folder.kept_manifests(), unfinished)


def begin(output: str, lock: Lock) -> bool:
    """Finish the publication of a killed run, and remove what it left unfinished, except for its finished rows.

    Returns whether there was such a publication. Raises RunError if the lock is lost, and one of STORAGE_ERRORS.
    """
    finished = finish_publishing(output, lock.confirm)
    note_killed(output)
    lock.confirm()
    RunFolder(output).begin_attempt()
    outputs.remove_unfinished(output, (MANIFESTS_FOLDER, RUNS_FOLDER))
    return finished


@dataclass
class Maintenance:
    """A run that publishes a manifest, or changes something else, without correcting. does: what, for its record."""

    output: str
    lock: Lock
    does: Mapping[str, Any]
    started_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    name: str = ""

    def __post_init__(self) -> None:
        self.name = new_name(self.started_at)

    def publish(
        self,
        manifest: str | None,
        parts: Sequence[str],
        changes: Sequence[str],
        counted: Counter[str],
        success: bool,
    ) -> None:
        """Publish the parts in OUTPUT/.run/manifest. What killed runs had finished is removed.

        manifest: name of the run whose manifest it is. changes: file names below `changes`. counted: rows by status and
        by kind of change. success: write _SUCCESS. Raises RunError if the lock is lost, and one of STORAGE_ERRORS.
        """
        counts = by_status(counted)
        kinds = {kind: counted[kind] for kind in (ADDED, CHANGED, REMOVED)}
        rows = sum(counts.values())
        record = self._describe(published_state(success)) | {
            "manifest_run": manifest,
            "rows_in": rows,
            "counts": counts,
            "changes": kinds,
        }
        write_run(self.output, record)
        names = [part.rsplit("/", 1)[-1] for part in parts]
        check_parts(names, storage.list_files(RunFolder(self.output).at(MANIFEST), ".parquet"))
        publication = Publication(self.name, rows, names, None, success, list(changes), keep=False)
        publish(self.output, publication, self.lock.confirm)

    def note(self) -> None:
        """Write the record of a run that published nothing. Raises one of STORAGE_ERRORS."""
        storage.write_bytes(RunFolder(self.output).record(self.name), to_json(self._describe(COMPLETE)))

    def _describe(self, state: str) -> dict[str, Any]:
        return {
            "run": self.name,
            "maintenance": dict(self.does),
            "state": state,
            "exit_code": 0,
            "reason": None,
            "started_at": self.started_at.isoformat(),
            "ended_at": datetime.now(timezone.utc).isoformat(),
        }


def count_statuses(parts: Sequence[str]) -> Counter[str]:
    """Return the number of rows of a manifest by status. parts: of the manifest. Raises StorageReadError."""
    counts: Counter[str] = Counter()
    for table in read_parts(parts, ("status",)):
        counts.update(table.column("status").to_pylist())
    return counts


def image_keys(uris: Iterable[str]) -> Keys:
    """Return (N,): the key of each image by its place below OUTPUT/images.

    The beginning of the URI does not count: an output that was moved still holds the images that its rows name.
    """
    return to_keys([key_of("image", *uri.rsplit("/", 2)[-2:]) for uri in uris])


def named_images(manifests: Iterable[Sequence[str]]) -> KeySet:
    """Return the `image_keys` that rows of the manifests name, each once: 16 bytes for each image.

    manifests: the parts of each. Raises StorageReadError.
    """
    named = KeySet()
    for parts in manifests:
        keys = [named.keys]
        for table in read_parts(parts, ("output_uri",)):
            keys.append(image_keys(table.column("output_uri").drop_null().to_pylist()))
        named = KeySet(np.unique(np.concatenate(keys)))
    return named
