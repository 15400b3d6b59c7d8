"""Announces how a correction ended: as one JSON line (--summary json), and to a webhook (--notify)."""

import argparse
import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from jobs import command
from model.errors import ConfigurationError
from pipelines import storage
from pipelines.cluster import logs, termination
from pipelines.correction.inspect import image_check
from pipelines.correction.report.alerts import Thresholds, earlier_runs, find_alerts
from pipelines.correction.report.record import Record
from pipelines.published.layout import MANIFEST, REPORT
from pipelines.published.records import COMPLETE, TOO_MANY_FAILED
from pipelines.reports import webhook

logger = logging.getLogger("jobs.correct_catalog")

TEXT, JSON = "text", "json"
#: Environment variable that takes the place of --notify: command lines can be read by others on the machine.
NOTIFY_VARIABLE = "CATALOG_REPAIR_NOTIFY"
#: Keys of a run's record that its summary line has; null where the run did not come so far.
_SAID = (
    *("run", "state", "exit_code", "reason", "started_at", "ended_at", "rows_in", "unchanged", "dropped"),
    *("counts", "corrected_now", "error_counts", "images_per_second", "seconds", "fid", "fid_missing"),
    "canary",
)
#: Seconds for the webhook after SIGTERM, which leaves half a minute for everything.
_LAST_SECONDS = 3.0


def add_flags(group: Any) -> None:
    """Flags of what a run says at its end."""
    thresholds = Thresholds()
    group.add_argument(
        "--summary",
        choices=(TEXT, JSON),
        default=TEXT,
        help="json: standard output is one line at the end, whatever ends the run: state, exit code, counts, FID; the "
        "configuration is then only in OUTPUT/runs",
    )
    group.add_argument(
        "--log-format", choices=logs.FORMATS, default=logs.TEXT, help="json: a line of JSON per message"
    )
    group.add_argument(
        "--notify",
        type=_webhook,
        metavar="URL",
        help="webhook to post to if the run fails, is refused or terminated, or is worse than the last runs; JSON with "
        "'text', as Slack takes it, and the figures. The URL is a secret that is kept nowhere; in the environment "
        f"variable {NOTIFY_VARIABLE} the list of processes does not show it either",
    )
    group.add_argument(
        "--notify-rejected",
        type=float,
        default=thresholds.rejected,
        metavar="SHARE",
        help="worse: the share of rejected corrections is above the median of the last runs by this",
    )
    group.add_argument(
        "--notify-drift",
        type=float,
        default=thresholds.drift,
        metavar="SHARE",
        help="worse: FID or KID after correction of a defect is above the median of the last runs by this share",
    )


def _webhook(text: str) -> str:
    """An argument type; no error repeats the URL."""
    if not webhook.is_webhook(text):
        raise argparse.ArgumentTypeError("not the http(s) URL of a webhook")
    return text


@contextlib.contextmanager
def refusals_announced() -> Iterator[None]:
    """Announce errors of the flags and their file, from which the webhook is not known yet: that of NOTIFY_VARIABLE."""
    try:
        yield
    except (ConfigurationError, SystemExit) as error:
        url = os.environ.get(NOTIFY_VARIABLE)
        if (
            url
            and webhook.is_webhook(url)
            and getattr(error, "code", command.EXIT_USAGE) == command.EXIT_USAGE
        ):
            reason = (
                str(error) if isinstance(error, ConfigurationError) else "wrong command line; see the log"
            )
            text = f"Catalog repair: refused (exit code {command.EXIT_USAGE}): {reason}"
            webhook.post(
                url, {"text": text, "state": "refused", "exit_code": command.EXIT_USAGE, "reason": reason}
            )
        raise


class Outcome:
    """How a run is announced. Raises ConfigurationError for a wrong threshold, or a wrong URL in the environment."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._url = arguments.notify or os.environ.get(NOTIFY_VARIABLE) or None
        if self._url is not None and not webhook.is_webhook(self._url):
            raise ConfigurationError(f"{NOTIFY_VARIABLE}: not the http(s) URL of a webhook")
        self._thresholds = Thresholds(arguments.notify_rejected, arguments.notify_drift)
        self._is_json = arguments.summary == JSON

    @contextlib.contextmanager
    def announced(self, record: Record) -> Iterator[None]:
        """Announce how the block ends; an error is written into `record` first."""
        last = partial(self._announce, record, seconds=_LAST_SECONDS)
        with termination.at_sigterm(record.stop, last):
            try:
                yield
            except BaseException as error:
                termination.leave_to_it()
                record.fail(error, command.explain(error) if isinstance(error, Exception) else str(error))
                self._announce(record)
                raise
        self._announce(record)

    def _announce(self, record: Record, seconds: float = webhook.SECONDS) -> None:
        said = record.content
        alerts = []
        if said["state"] in (COMPLETE, TOO_MANY_FAILED):
            alerts = find_alerts(said, earlier_runs(record.output, record.name), self._thresholds)
        alerts += image_check.alerts(said)
        for alert in alerts:
            logger.warning("%s", alert)
        if self._is_json:
            sys.stdout.write(json.dumps(_line(record.output, said, alerts), default=str) + "\n")
            sys.stdout.flush()
        is_worth_it = said["exit_code"] not in (command.EXIT_OK, command.EXIT_INTERRUPTED) or alerts
        if self._url is not None and is_worth_it:
            body = {"text": _text(record.output, said, alerts), **_line(record.output, said, alerts)}
            webhook.post(self._url, body, seconds)


def _line(output: str, said: Mapping[str, Any], alerts: list[str]) -> dict[str, Any]:
    """Return the summary line of a run."""
    return {
        **{name: said.get(name) for name in _SAID},
        "alerts": alerts,
        "output": output,
        "manifest": storage.join(output, MANIFEST),
        "report": storage.join(output, REPORT, "index.html"),
    }


def _text(output: str, said: Mapping[str, Any], alerts: list[str]) -> str:
    """Return the message for people: one line, and one for each alert."""
    first = f"Catalog repair, {output}, run {said['run']}: {said['state']} (exit code {said['exit_code']})"
    if said["reason"]:
        first += f": {said['reason']}"
    return "\n".join([first, *(f"- {alert}" for alert in alerts)])
