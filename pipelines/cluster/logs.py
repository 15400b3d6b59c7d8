"""Formats a job's log: as text for people, or as JSON lines for log stores (--log-format json)."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

TEXT, JSON = "text", "json"
FORMATS = (TEXT, JSON)

#: Attributes that a log call may add with `extra`, and that become keys of its line.
_EXTRAS = ("error_code", "image_ids")


@dataclass
class Context:
    """What every JSON line says besides its message: the run's name, and the stage at work. is_json: lines are JSON."""

    run: str | None = None
    stage: str | None = None
    is_json: bool = False


#: Of this process, which does one run.
context = Context()


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback is its key `exception`."""
        extras = {name: getattr(record, name) for name in _EXTRAS if hasattr(record, name)}
        if record.exc_info:
            extras["exception"] = self.formatException(record.exc_info)
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        return _line(moment, record.levelname, record.name, record.getMessage(), extras)


def use(log_format: str) -> None:
    """Write the log of this process in one of FORMATS from now on: Python's warnings and libraries' messages, too."""
    context.is_json = log_format == JSON
    if context.is_json:
        logging.captureWarnings(True)
        for handler in _stream_handlers():
            handler.setFormatter(JsonFormatter())


def last_words(level: int, text: str) -> str:
    """Return a line for standard error in the format of the log, for words that do not pass through logging."""
    if context.is_json:
        return _line(datetime.now(timezone.utc), logging.getLevelName(level), "jobs", text, {})
    return text


def _stream_handlers() -> Iterator[logging.Handler]:
    """Yield the handlers that write to a terminal; Ray Data's logger has one of its own."""
    known = [logging.getLogger(), *logging.getLogger().manager.loggerDict.values()]
    for logger in known:
        for handler in getattr(logger, "handlers", ()):  # names between two loggers have none
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                yield handler


def _line(moment: datetime, level: str, logger: str, message: str, extras: dict[str, Any]) -> str:
    words = {
        "time": moment.isoformat(timespec="milliseconds"),
        "level": level,
        "logger": logger,
        "message": message,
        "run": context.run,
        "stage": context.stage,
        **extras,
    }
    return json.dumps(words, ensure_ascii=False, default=str)
