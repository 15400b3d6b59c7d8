"""Moves the files of a run from OUTPUT/.run to where readers see them; after any interruption it starts again.

    publish.json written -> manifest copied to manifests/<run>/, manifests/<run>.json written -> _SUCCESS removed ->
    manifest, report, changes moved -> record copied to runs/, run.json moved -> _SUCCESS written -> .run removed

A reader of the manifest reads _SUCCESS before and after: if it exists both times and is equal, everything read in
between is of one run. It is absent only while files are moved, by several threads on a remote storage; what is left of
a large run is removed afterwards. Right before each step the run checks that it still holds the output's lock. A run
that slept too long and lost it leaves the rest to the run that has taken over.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from model.errors import RunError
from pipelines import storage
from pipelines.cluster.ahead import THREADS, map_ahead
from pipelines.published.layout import CHANGES_FOLDER, MANIFEST, REPORT, RUN, SUCCESS, WORKING, RunFolder
from pipelines.published.records import manifest_run, published_state, read_kept, write_kept
from pipelines.storage.parquet_units import count_rows

MARKER = "publish.json"


@dataclass(frozen=True)
class Publication:
    """The files to publish. parts, report: file names of the manifest and of the report; None: these stay as they are.
    success: write _SUCCESS, which states the manifest's run, parts and rows. changes: file names below `changes`.
    keep: keep a copy of the manifest, to which the job can return. previous: name of the run whose manifest it
    replaces; `publish` looks it up.
    """

    run: str
    rows: int
    parts: list[str] | None
    report: list[str] | None
    success: bool
    changes: Sequence[str] = ()
    keep: bool = True
    previous: str | None = None


def check_parts(assembled: Sequence[str], written: Sequence[str]) -> None:
    """Raise RunError unless the folder holds exactly the assembled parts.

    assembled: their names. written: URIs of the files in the folder.
    """
    if sorted(assembled) != sorted(uri.rsplit("/", 1)[-1] for uri in written):
        raise RunError(
            f"{len(assembled)} parts of the manifest were written, but {len(written)} are there, or other ones; "
            "nothing was published: run again, and report this"
        )


def publish(output: str, publication: Publication, confirm: Callable[[], None] = lambda: None) -> None:
    """Publish a run whose files are complete below OUTPUT/.run. Raises one of STORAGE_ERRORS.

    confirm: `lock.Lock.confirm`; an exception of it ends the publication.
    """
    # Looked up before anything moves, because run.json is then replaced by this run's own.
    begun = replace(publication, previous=manifest_run(output))
    confirm()
    storage.write_bytes(RunFolder(output).at(MARKER), json.dumps(asdict(begun)).encode())
    finish_publishing(output, confirm)


def finish_publishing(output: str, confirm: Callable[[], None] = lambda: None) -> bool:
    """Finish a publication that was begun; return False if there is none. Raises one of STORAGE_ERRORS.

    confirm: see `publish`.
    """
    run = RunFolder(output)
    publication = _begun(run)
    if publication is None:
        return False
    success = storage.join(output, SUCCESS)
    if _named_run(success) != publication.run:  # else only the removal of files was interrupted
        _move(run, publication, success, confirm)
    for name in WORKING:  # before the marker, without which they would look like a killed run's
        confirm()
        storage.remove(run.at(name))
    confirm()
    storage.remove(run.at())
    return True


def _move(run: RunFolder, publication: Publication, success: str, confirm: Callable[[], None]) -> None:
    _keep_manifest(run, publication, confirm)
    confirm()
    if publication.parts is not None or not publication.success:
        storage.remove(success)
    if publication.parts is not None:
        confirm()
        _replace_manifest(run, publication.parts, confirm)
    if publication.report is not None:
        confirm()
        _replace(run.at(REPORT), storage.join(run.output, REPORT), publication.report, confirm)
    if publication.changes:
        confirm()
        _move_all(run.at(CHANGES_FOLDER), storage.join(run.output, CHANGES_FOLDER), publication.changes)
    _move_record(run, publication, confirm)
    parts = len(storage.list_files(run.manifest, ".parquet"))
    content = {"run": publication.run, "parts": parts, "rows": publication.rows}
    confirm()
    if publication.success and not storage.exists(success):
        storage.write_bytes(success, (json.dumps(content) + "\n").encode())


def _named_run(success: str) -> str | None:
    """Return the run that _SUCCESS names; None if there is none."""
    return str(json.loads(storage.read_bytes(success))["run"]) if storage.exists(success) else None


def unfinished(output: str) -> str | None:
    """Return the name of the run whose publication was interrupted; None if there is none."""
    publication = _begun(RunFolder(output))
    return None if publication is None else publication.run


def published_rows(output: str) -> int:
    """Return the number of rows that the manifest has when the next run begins, which first finishes a publication.

    Reads footers, and writes nothing. Raises StorageReadError, and one of STORAGE_ERRORS.
    """
    run = RunFolder(output)
    publication = _begun(run)
    if publication is not None and publication.parts is not None:
        return publication.rows
    return count_rows(run.layers().rows[0])


def _begun(run: RunFolder) -> Publication | None:
    marker = run.at(MARKER)
    return Publication(**json.loads(storage.read_bytes(marker))) if storage.exists(marker) else None


def _keep_manifest(run: RunFolder, publication: Publication, confirm: Callable[[], None]) -> None:
    """Copy the manifest before any part of it is moved, and write a record of the copy."""
    if publication.parts is None:
        _note_success(run, publication, confirm)
    elif publication.keep and publication.parts:
        name = publication.run
        confirm()
        _each(
            run.output,
            lambda part: storage.copy(run.at(MANIFEST, part), run.kept(name, part)),
            publication.parts,
        )
        confirm()
        write_kept(run, name, publication.rows, publication.success, publication.previous)


def _note_success(run: RunFolder, publication: Publication, confirm: Callable[[], None]) -> None:
    """Correct the record of the manifest that stays, whose run may have had another --max-failed."""
    name = manifest_run(run.output)
    if name is not None and storage.exists(run.kept_record(name)):
        kept = read_kept(run, name)
        if kept.get("state") != published_state(publication.success):
            confirm()
            write_kept(run, name, kept["rows_in"], publication.success, kept.get("previous_manifest_run"))


def _move_record(run: RunFolder, publication: Publication, confirm: Callable[[], None]) -> None:
    if storage.exists(run.at(RUN)):
        confirm()
        storage.write_bytes(run.record(publication.run), storage.read_bytes(run.at(RUN)))
    confirm()
    storage.move(run.at(RUN), storage.join(run.output, RUN))


def _replace_manifest(run: RunFolder, parts: list[str], confirm: Callable[[], None]) -> None:
    if storage.is_local(run.output):
        _exchange(Path(storage.resolve(run.at(MANIFEST))[1]), Path(storage.resolve(run.manifest)[1]))
    else:
        _replace(run.at(MANIFEST), run.manifest, parts, confirm)


def _exchange(new: Path, old: Path) -> None:
    """Replace `old` by `new` with two renames, so that the folder never holds files of both."""
    if not new.exists():  # done before an interruption
        return
    if old.exists():
        replaced = new.with_name("replaced")
        storage.remove(str(replaced))
        old.rename(replaced)
    new.rename(old)


def _replace(folder: str, to: str, names: list[str], confirm: Callable[[], None]) -> None:
    """Move the files `names` from `folder` to `to`, and remove all others from `to`."""
    _move_all(folder, to, names)
    confirm()
    others = {uri for uri in storage.list_files(to) if uri.rsplit("/", 1)[-1] not in names}
    _each(to, storage.remove, sorted(others))


def _move_all(folder: str, to: str, names: Sequence[str]) -> None:
    _each(to, lambda name: storage.move(storage.join(folder, name), storage.join(to, name)), names)


def copy_parts(run: RunFolder, parts: Sequence[str]) -> None:
    """Copy parts of a manifest to the next manifest of a run. Raises one of STORAGE_ERRORS."""
    _each(run.output, lambda part: storage.copy(part, run.at(MANIFEST, part.rsplit("/", 1)[-1])), parts)


def _each(folder: str, change: Callable[[str], None], names: Iterable[str]) -> None:
    """Call `change` for each name, on a remote storage for several at a time: a manifest may have a thousand parts."""
    for _ in map_ahead(change, names, 1 if storage.is_local(folder) else THREADS):
        pass
