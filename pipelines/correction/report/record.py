"""Keeps the record of a run, OUTPUT/runs/<run>.json, from its beginning to its end, whatever ends it.

The record is the one description of a run. `run.json` is a copy of the last published run's record. A record's `state`:

    running            the run works, or was killed and no run has begun since
    complete           the manifest is published
    too many failed    the manifest is published without _SUCCESS, because of --max-failed
    failed             the run broke off; `reason` has the error
    stopped            by Ctrl-C or SIGTERM; the same command continues it
    killed             the run ended without a word, which the next run noticed

A refused run (exit code 2) leaves no record, as it leaves nothing else.
"""

import logging
import time
from datetime import datetime, timezone
from typing import Any

from model.errors import ConfigurationError, TooManyFailedError
from pipelines import storage
from pipelines.cluster import logs
from pipelines.correction.report.run_report import describe, versions
from pipelines.correction.run import Run
from pipelines.published.layout import RunFolder
from pipelines.published.records import (
    COMPLETE,
    RUNNING,
    TOO_MANY_FAILED,
    new_name,
    read_record,
    to_json,
    write_run,
)

logger = logging.getLogger(__name__)

FAILED, STOPPED, REFUSED = "failed", "stopped", "refused"


class Record:
    """The record of one run. name: of the run. run: its results, once it has begun. content: as last written."""

    def __init__(self, output: str) -> None:
        self.output = output
        self.restart()
        self.run: Run | None = None
        self.is_kept = False  # the run holds the output's lock: it may write
        self.content: dict[str, Any] = {}

    def restart(self) -> None:
        """Name the run by the present time: runs that waited for a lock are in the order in which they got it."""
        self.started_at = datetime.now(timezone.utc)
        self.name = new_name(self.started_at)
        self._started = time.perf_counter()
        logs.context.run = self.name

    def begin(self, run: Run) -> None:
        """Write that the run works. Raises one of STORAGE_ERRORS."""
        self.run = run
        self.content = self._describe(RUNNING)
        write_run(self.output, {"run": self.name})
        self._write(self.content)

    def finish(self) -> None:
        """Describe a run whose manifest is about to be published, below OUTPUT/.run. Raises one of STORAGE_ERRORS."""
        if self.run is None:
            raise ValueError("the run has not begun")
        if self.run.too_many_failed:
            code = TooManyFailedError.exit_code
            self.content = self._describe(TOO_MANY_FAILED, code, too_many_failed(self.run))
        else:
            self.content = self._describe(COMPLETE, 0)
        write_run(self.output, self.content)

    def fail(self, error: BaseException, reason: str) -> None:
        """Write that `error` ended the run; see `end`."""
        if isinstance(error, KeyboardInterrupt):
            self.end(STOPPED, 130, "interrupted (Ctrl-C)")
        else:
            refused = isinstance(error, ConfigurationError) and self.run is None
            self.end(REFUSED if refused else FAILED, getattr(error, "exit_code", 1), reason)

    def stop(self) -> None:
        """Write that SIGTERM ended the run; see `end`."""
        self.end(STOPPED, 143, "terminated (SIGTERM)")

    def end(self, state: str, exit_code: int, reason: str) -> None:
        """Write how a run ended that did not publish; a refused run leaves nothing. A storage that fails is logged.

        A record that was published meanwhile stays: Ctrl-C and SIGTERM come at any time, the latter in another thread.
        """
        # Local, because SIGTERM comes in a thread of its own, while the main thread may describe its success.
        content = self.content = self._describe(state, exit_code, reason)
        if not self.is_kept or state == REFUSED:
            return
        try:
            with storage.impatient():
                uri = RunFolder(self.output).record(self.name)
                if not storage.exists(uri) or read_record(uri).get("state", RUNNING) == RUNNING:
                    self._write(content)
        except storage.STORAGE_ERRORS as error:
            logger.warning("the record of this run could not be written: %s", error)

    def _write(self, content: dict[str, Any]) -> None:
        storage.write_bytes(RunFolder(self.output).record(self.name), to_json(content))

    def _describe(
        self, state: str, exit_code: int | None = None, reason: str | None = None
    ) -> dict[str, Any]:
        content: dict[str, Any] = {
            "run": self.name,
            "started_at": self.started_at.isoformat(),
            "versions": versions(),
        }
        if self.run is not None:
            if state != RUNNING:
                self.run.seconds.setdefault("total", time.perf_counter() - self._started)
            try:
                content = describe(self.run)
            except RuntimeError:  # SIGTERM: the main thread has changed a table of counts meanwhile
                content = dict(self.content)
        ended = None if state == RUNNING else datetime.now(timezone.utc).isoformat()
        return {**content, "state": state, "ended_at": ended, "exit_code": exit_code, "reason": reason}


def too_many_failed(run: Run) -> str:
    """Return why a run is not a success though its manifest is published."""
    failed, most = run.statuses["failed"], run.plan.config.max_failed
    return f"{failed} of {run.inspection.rows} images failed, more than --max-failed {most:g} tolerates"
