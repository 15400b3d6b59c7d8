"""What a night says at its end: --summary json, --notify; here for runs that end before Ray starts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs import command, correct_catalog, correct_flags
from jobs.outcome import NOTIFY_VARIABLE, Outcome
from model.errors import ConfigurationError, RunError
from pipelines import storage
from pipelines.correction.report.record import Record
from tests.catalogs import rows, write_bundle, write_catalog
from tests.pipelines.reports.test_webhook import SECRET, server


@pytest.fixture
def hook() -> Iterator[tuple[str, list[Any]]]:
    with server() as listening:
        yield listening


def flags(folder: Path, *more: str) -> list[str]:
    return ["--catalog", str(folder / "gone"), "--output", str(folder / "out"), *more]


@pytest.mark.parametrize("by", ["flag", "environment"])
def test_a_refused_run_is_one_line_and_a_message_and_its_webhook_is_nowhere(
    by: str,
    tmp_path: Path,
    hook: tuple[str, list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    url, bodies = hook
    words = ["--notify", url] if by == "flag" else []
    if by == "environment":
        monkeypatch.setenv(NOTIFY_VARIABLE, url)
    with pytest.raises(ConfigurationError, match="--catalog"):
        correct_catalog.main(flags(tmp_path, "--summary", "json", *words))
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert (said["state"], said["exit_code"], said["counts"]) == ("refused", 2, None)
    assert said["reason"].startswith("--catalog")
    (body,) = bodies
    assert body["text"].startswith(
        f"Catalog repair, {tmp_path}/out, run {said['run']}: refused (exit code 2): --cat"
    )
    assert {name: body[name] for name in said} == said
    assert SECRET not in line + caplog.text + json.dumps(body)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "error", "reason"),
    [
        (["--config", "/gone/nightly.yaml"], ConfigurationError, "--config: cannot read /gone/nightly.yaml"),
        (["--formt", "png"], SystemExit, "wrong command line"),
    ],
)
def test_wrong_flags_are_a_message_too(
    words: list[str],
    error: type[BaseException],
    reason: str,
    tmp_path: Path,
    hook: tuple[str, list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, bodies = hook
    monkeypatch.setenv(NOTIFY_VARIABLE, url)
    with pytest.raises(error):
        correct_catalog.main(flags(tmp_path, *words))
    (body,) = bodies
    assert body["reason"].startswith(reason)
    assert (body["state"], body["exit_code"]) == ("refused", 2)


def test_help_is_no_message(hook: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    url, bodies = hook
    monkeypatch.setenv(NOTIFY_VARIABLE, url)
    with pytest.raises(SystemExit):
        correct_catalog.main(["--help"])
    assert bodies == []


def test_the_webhook_is_in_no_file_and_no_configuration(
    tmp_path: Path, hook: tuple[str, list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    write_catalog(tmp_path / "gone" / "a.parquet", rows(2))
    words = flags(
        tmp_path, "--notify", hook[0], "--no-fid", "--model", str(write_bundle(tmp_path / "bundle"))
    )
    assert correct_catalog.main([*words, "--dry-run"]) == command.EXIT_OK
    assert SECRET not in capsys.readouterr().out
    command.keep_flags(correct_flags.parser(None), correct_flags.parser(None).parse_args(words))
    kept = (tmp_path / "out" / command.FLAGS_FILE).read_text()
    assert SECRET not in kept
    assert "notify-drift: 0.25" in kept
    assert not hook[1]


def test_a_url_that_is_none_is_refused_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        correct_catalog.main(flags(tmp_path, "--notify", SECRET))
    assert "argument --notify: not the http(s) URL of a webhook" in (errors := capsys.readouterr().err)
    assert SECRET not in errors
    (tmp_path / "night.yaml").write_text(f"notify: [https://example.com/{SECRET}]\n")
    with pytest.raises(ConfigurationError) as caught:
        correct_catalog.main(flags(tmp_path, "--config", str(tmp_path / "night.yaml")))
    assert SECRET not in str(caught.value)
    monkeypatch.setenv(NOTIFY_VARIABLE, SECRET)
    with pytest.raises(ConfigurationError, match=NOTIFY_VARIABLE) as caught:
        correct_catalog.main(flags(tmp_path))
    assert SECRET not in str(caught.value)


def outcome(folder: Path, *more: str) -> Outcome:
    return Outcome(correct_flags.parser(None).parse_args(flags(folder, "--summary", "json", *more)))


def complete(folder: Path, rejected: int) -> Record:
    """The record of a run that is published."""
    record = Record(str(folder))
    counts = {"corrected": 100 - rejected, "rejected": rejected}
    record.content = {
        "run": record.name,
        "state": "complete",
        "exit_code": 0,
        "reason": None,
        "corrected_now": counts,
    }
    return record


def test_a_good_night_is_one_line_without_a_message_and_a_worse_one_is_a_warning(
    tmp_path: Path,
    hook: tuple[str, list[Any]],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    url, bodies = hook
    for number in range(3):
        uri = f"{tmp_path}/runs/2025010{number}T020000Z-a.json"
        storage.write_bytes(uri, json.dumps(complete(tmp_path, 5).content).encode())
    with outcome(tmp_path, "--notify", url).announced(complete(tmp_path, 6)):
        pass
    assert not bodies
    with outcome(tmp_path, "--notify", url).announced(complete(tmp_path, 40)):
        pass
    alert = "40% of the corrections were rejected; the median of the last 3 runs is 5%"
    good, bad = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (good["alerts"], bad["alerts"]) == ([], [alert])
    assert caplog.messages == [alert]
    (body,) = bodies
    assert body["text"].splitlines()[1:] == [f"- {alert}"]
    with outcome(tmp_path, "--notify", url, "--notify-rejected", "0.5").announced(complete(tmp_path, 40)):
        pass
    assert len(bodies) == 1


def test_a_webhook_that_fails_changes_no_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        server(500) as (url, _),
        pytest.raises(RunError, match=r"^broken$"),
        outcome(tmp_path, "--notify", url).announced(Record(str(tmp_path))),
    ):
        raise RunError("broken")
    assert "status 500" in caplog.text


def test_ctrl_c_is_no_message(tmp_path: Path, hook: tuple[str, list[Any]]) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        outcome(tmp_path, "--notify", hook[0]).announced(Record(str(tmp_path))),
    ):
        raise KeyboardInterrupt
    assert not hook[1]
