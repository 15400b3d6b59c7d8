"""Reads and writes the records of runs: OUTPUT/runs/<run>.json, and run.json, a copy of the last published one's.

A kept manifest has a short record of its own, OUTPUT/manifests/<run>.json, which stays as long as it does.
"""

import json
import logging
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pipelines import storage
from pipelines.published.layout import RUN, RunFolder

logger = logging.getLogger(__name__)

#: States of published runs. TOO_MANY_FAILED: its manifest has no _SUCCESS.
PUBLISHED = COMPLETE, TOO_MANY_FAILED = "complete", "too many failed"
#: States of a run at work, and of one that ended without a word.
RUNNING, KILLED = "running", "killed"


def new_name(started_at: datetime) -> str:
    """Return a name for a run: names are in the order of time."""
    return f"{started_at:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"


def last_run(output: str) -> str | None:
    """Return the name of the run that published last, by its run.json; None without one.

    Raises one of STORAGE_ERRORS.
    """
    return _published(output, "run")


def manifest_run(output: str) -> str | None:
    """Return the name of the run that made the manifest, by run.json; None if that is not known.

    Not that of `last_run` if that run has changed nothing, or was a rollback or an erasure.

    Raises one of STORAGE_ERRORS.
    """
    return _published(output, "manifest_run")


def _published(output: str, field: str) -> str | None:
    uri = storage.join(output, RUN)
    return json.loads(storage.read_bytes(uri)).get(field) if storage.exists(uri) else None


def write_run(output: str, run: Mapping[str, Any]) -> None:
    """Write run.json below OUTPUT/.run."""
    storage.write_bytes(RunFolder(output).at(RUN), to_json(run))


def to_json(run: Mapping[str, Any]) -> bytes:
    """Return the content of a run's record as a file."""
    return (json.dumps(run, indent=2, sort_keys=True, default=str) + "\n").encode()


def published_state(success: bool) -> str:
    """Return the state of a published run. success: its manifest has _SUCCESS."""
    return COMPLETE if success else TOO_MANY_FAILED


def write_kept(folder: RunFolder, run: str, rows: int, success: bool, previous: str | None) -> None:
    """Write the record of a kept manifest.

    rows, success: as in `Publication`. previous: name of the run whose manifest it replaced. Raises one of
    STORAGE_ERRORS.
    """
    content = {"rows_in": rows, "state": published_state(success), "previous_manifest_run": previous}
    storage.write_bytes(folder.kept_record(run), to_json(content))


def read_kept(folder: RunFolder, run: str) -> dict[str, Any]:
    """Return the record of a kept manifest, with `rows_in` and `state`; empty if there is none.

    Manifests of earlier releases have only the record of their run, without `previous_manifest_run`. Raises one of
    STORAGE_ERRORS.
    """
    for uri in (folder.kept_record(run), folder.record(run)):
        content = read_record(uri) if storage.exists(uri) else {}
        if "rows_in" in content and content.get("state") in PUBLISHED:
            return content
    return {}


def note_killed(output: str) -> None:
    """Complete the record of a run that ended without a word, which OUTPUT/.run/run.json names.

    Call it while holding the output's lock. Raises one of STORAGE_ERRORS.
    """
    begun = RunFolder(output).at(RUN)
    if not storage.exists(begun):
        return
    uri = RunFolder(output).record(str(read_record(begun).get("run")))
    if not storage.exists(uri):
        return
    content = read_record(uri)
    if content.get("state") == RUNNING:
        reason = "the run ended without a word: killed, out of memory, or its machine was lost"
        storage.write_bytes(uri, to_json({**content, "state": KILLED, "reason": reason}))


def read_record(uri: str) -> dict[str, Any]:
    """Return the content of a record; nothing, with a warning, if a lost machine left it cut short."""
    try:
        content = json.loads(storage.read_bytes(uri))
        return content if isinstance(content, dict) else {}
    except ValueError:
        logger.warning("%s is not JSON: the machine that wrote it was probably lost", uri)
        return {}
