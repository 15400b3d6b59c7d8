"""--log-format json: what a log store gets."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from pipelines.cluster import logs


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the root logger writes. The handlers of pytest stay as they are."""
    handler, root = logging.StreamHandler(io.StringIO()), logging.getLogger()
    monkeypatch.setattr(logs, "context", logs.Context("20261130T020000Z-a", "correct"))
    formatters = {other: other.formatter for other in root.handlers}
    root.addHandler(handler)
    yield handler.stream
    root.removeHandler(handler)
    for other, formatter in formatters.items():
        other.setFormatter(formatter)


def test_every_line_names_run_and_stage_and_failures_their_ids(stream: io.StringIO) -> None:
    logs.use(logs.JSON)
    extra = {"error_code": "corrupt", "image_ids": ["ä", "b"]}
    logging.getLogger("jobs.x").warning("%d images failed\nwith corrupt", 2, extra=extra)
    logging.getLogger("jobs.x").warning("no ids")
    stream.write(logs.last_words(logging.ERROR, "error: --catalog") + "\n")
    first, second, third = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "WARNING",
        "logger": "jobs.x",
        "message": "2 images failed\nwith corrupt",
        "run": "20261130T020000Z-a",
        "stage": "correct",
        "error_code": "corrupt",
        "image_ids": ["ä", "b"],
    }
    assert "image_ids" not in second
    assert (third["level"], third["message"]) == ("ERROR", "error: --catalog")


def test_a_traceback_stays_in_its_line(stream: io.StringIO) -> None:
    logs.use(logs.JSON)
    try:
        raise KeyError("x")
    except KeyError as error:
        logging.getLogger("jobs").warning("unexpected", exc_info=error)
    assert "Traceback" in json.loads(stream.getvalue())["exception"]


def test_text_stays_as_it_is(stream: io.StringIO) -> None:
    logs.use(logs.TEXT)
    assert logs.last_words(logging.ERROR, "error: x") == "error: x"
