"""--log-format json: what a log store gets."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.cluster import logs


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the root logger writes. The handlers of pytest and of libraries stay as they are."""
    handler, root = logging.StreamHandler(io.StringIO()), logging.getLogger()
    monkeypatch.setattr(logs, "context", logs.Context("20261130T020000Z-a", "correct"))
    formatters = {other: other.formatter for other in logs._stream_handlers()}
    root.addHandler(handler)
    yield handler.stream
    root.removeHandler(handler)
    logging.captureWarnings(False)
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


def test_a_librarys_logger_with_a_handler_of_its_own_writes_json_too(stream: io.StringIO) -> None:
    """As Ray Data's does."""
    library = logging.getLogger("tests.a_library")
    library.propagate = False
    library.addHandler(logging.StreamHandler(stream))
    logs.use(logs.JSON)
    logging.getLogger("tests.a_library.inner").warning("a node\nwas lost")
    library.handlers.clear()
    assert json.loads(stream.getvalue())["message"] == "a node\nwas lost"


def test_files_that_a_library_writes_keep_their_format(stream: io.StringIO, tmp_path: Path) -> None:
    library, file = logging.getLogger("tests.a_library"), logging.FileHandler(tmp_path / "log")
    library.addHandler(file)
    logs.use(logs.JSON)
    library.warning("plain")
    library.removeHandler(file)
    file.close()
    assert (tmp_path / "log").read_text() == "plain\n"


def test_pythons_warnings_are_lines_of_json(stream: io.StringIO) -> None:
    logs.use(logs.JSON)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("an image is odd", UserWarning, stacklevel=1)
    line = json.loads(stream.getvalue())
    assert (line["level"], line["logger"]) == ("WARNING", "py.warnings")
    assert "UserWarning: an image is odd" in line["message"]


def test_text_stays_as_it_is(stream: io.StringIO) -> None:
    logs.use(logs.TEXT)
    assert logs.last_words(logging.ERROR, "error: x") == "error: x"
