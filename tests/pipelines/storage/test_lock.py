import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from model.errors import ConfigurationError, RunError
from pipelines import storage
from pipelines.storage import lock, lock_watch
from pipelines.storage.lock import Lock, Record, locked, take


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that does not exist yet, on each kind of storage."""
    return str(tmp_path / "out") if request.param == "local" else request.getfixturevalue("s3_folder")


@pytest.fixture
def held(output: str) -> Iterator[Lock]:
    """The lock of `output`, ours."""
    with locked(output) as taken:
        yield taken


def records(output: str) -> list[str]:
    return storage.list_files(storage.join(output, lock.FOLDER))


def change(output: str, **fields: object) -> None:
    """Rewrite the one record that is there."""
    (uri,) = records(output)
    record = Record(**json.loads(storage.read_bytes(uri)))
    storage.write_bytes(uri, replace(record, **fields).to_json())  # type: ignore[arg-type]


def test_a_second_run_is_told_who_is_at_work(output: str, held: Lock) -> None:
    with pytest.raises(ConfigurationError) as caught:
        take(output)
    message = str(caught.value)
    for part in (
        "--output",
        output,
        "@",
        f"process {os.getpid()}",
        "since 20",
        "heartbeat",
        "--break-lock",
    ):
        assert part in message
    held.confirm()


def test_a_lock_that_is_left_can_be_taken_and_leaves_nothing(output: str) -> None:
    for _ in range(2):
        with locked(output) as taken:
            taken.confirm()
            assert len(records(output)) == 1
        assert records(output) == []
    assert not storage.is_local(output) or list(Path(output).iterdir()) == []


def test_a_lock_is_left_by_a_run_that_fails(output: str) -> None:
    with pytest.raises(RuntimeError, match="the run"), locked(output):
        raise RuntimeError("the run")
    assert records(output) == []


def test_of_many_one_gets_the_lock(output: str) -> None:
    def attempt(_: int) -> Lock | None:
        try:
            return take(output)
        except ConfigurationError:
            return None

    with ThreadPoolExecutor(8) as pool:
        (winner,) = [taken for taken in pool.map(attempt, range(8)) if taken is not None]
    winner.confirm()
    winner.release()


def test_of_many_one_takes_over_a_dead_runs_lock(output: str) -> None:
    dead = take(output)
    change(output, heartbeat=time.time() - lock.STALE - 1)
    test_of_many_one_gets_the_lock(output)
    with pytest.raises(RunError, match="was lost"):
        dead.confirm()
    dead.release()


def test_a_silent_run_is_dead_after_a_while(output: str, held: Lock) -> None:
    change(output, machine="another", heartbeat=time.time() - lock.STALE + 60)
    with pytest.raises(ConfigurationError):
        take(output)
    change(output, heartbeat=time.time() - lock.STALE - 1)
    with locked(output) as successor:
        successor.confirm()
        with pytest.raises(RunError, match=r"taken by .*@"):
            held.confirm()
        held.release()
        successor.confirm()


def test_a_process_that_is_gone_is_dead_at_once(output: str, repository: Path) -> None:
    script = "import os, sys; from pipelines.storage.lock import take; take(sys.argv[1]); os._exit(9)"
    subprocess.run([sys.executable, "-c", script, output], cwd=repository, check=False)
    assert len(records(output)) == 1
    with locked(output) as taken:
        taken.confirm()


def test_another_machines_process_is_not_judged_by_its_number(output: str) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with locked(output):
        change(output, machine="another", pid=gone.pid)
        with pytest.raises(ConfigurationError):
            take(output)
        change(output, machine=lock._machine(), pid=gone.pid)
        take(output).release()


def test_a_process_number_that_was_given_away_is_dead(output: str) -> None:
    with locked(output):
        change(output, started="1")
        take(output).release()


def test_breaking_a_lock_ends_its_run_before_it_publishes(output: str, held: Lock) -> None:
    held.confirm()
    with locked(output, break_lock=True) as mine:
        held.check()  # it has not heard yet
        with pytest.raises(RunError, match=r"the lock .* was lost"):
            held.confirm()
        with pytest.raises(RunError, match="was lost"):
            held.check()
        mine.confirm()
        held.beat()
        mine.confirm()  # the loser's heartbeat changed nothing


def test_a_loser_takes_nothing_away_from_whoever_came_after(output: str, held: Lock) -> None:
    take(output, break_lock=True).release()
    with locked(output) as third:
        held.release()
        third.confirm()


def test_signs_of_life_are_written(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT", 0.01)
    with locked(output):
        (uri,) = records(output)
        first = json.loads(storage.read_bytes(uri))
        deadline = time.monotonic() + 60
        while json.loads(storage.read_bytes(uri))["heartbeat"] == first["heartbeat"]:
            assert time.monotonic() < deadline
        assert json.loads(storage.read_bytes(uri))["since"] == first["since"]


def test_a_run_whose_storage_stays_away_knows_that_its_lock_is_lost(
    held: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> list[str]:
        raise OSError("away")

    monkeypatch.setattr(storage, "list_files", fail)
    held.confirm()  # not known, and the last heartbeat is fresh
    monkeypatch.setattr(lock, "STALE", -1.0)
    with pytest.raises(RunError, match="no heartbeat"):
        held.confirm()
    monkeypatch.undo()


def test_what_is_no_lock_is_not_overwritten(output: str) -> None:
    storage.write_bytes(storage.join(output, lock.FOLDER, "000001.json"), b'{"by": "hand"}')
    with pytest.raises(ConfigurationError, match="not a lock of this version"):
        take(output)


def test_a_claim_on_what_has_changed_since_is_withdrawn(output: str) -> None:
    """The holder that was seen has gone, and numbers have begun anew: both would be right about their own number."""
    folder = storage.join(output, lock.FOLDER)
    with locked(output) as holder:
        assert lock._claim(folder, [7], lock._record()) is None
        holder.confirm()
    assert records(output) == []


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="--output: cannot write"):
        take(str(tmp_path / "file"))


def test_an_output_that_cannot_be_made_is_not_taken_for_a_contest() -> None:
    with pytest.raises(ConfigurationError, match=r"--output.*cannot write /proc/nothing"):
        take("/proc/nothing/out")


class Waiting:
    """A clock for a waiting run. It passes only in pauses; `during` is called in each, with the seconds so far."""

    def __init__(self, during: Callable[[float], object] = lambda _: None) -> None:
        self.seconds, self.during = 0.0, during
        self.clock = lock_watch.Clock(lambda: self.seconds, self.pause)

    def pause(self, seconds: float) -> None:
        self.seconds += seconds
        self.during(self.seconds)


def elsewhere(output: str, heartbeat: float = 0.0) -> None:
    """Make the lock's holder a run of another machine with a fresh heartbeat; `heartbeat` makes them differ."""
    change(output, machine="another", heartbeat=time.time() + heartbeat / 1e3)


def test_a_dead_run_elsewhere_is_waited_for_and_its_lock_is_taken_over(
    output: str, held: Lock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    elsewhere(output)
    waiting = Waiting()
    taken = take(
        output, wait=10, clock=waiting.clock
    )  # patience with the living does not make it dead sooner
    assert lock.STALE < waiting.seconds <= lock.STALE + 2 * lock_watch.PAUSE
    assert taken.waited == waiting.seconds
    taken.confirm()
    (uri,) = records(output)
    assert not Record(**json.loads(storage.read_bytes(uri))).is_silent(time.time())
    taken.release()
    first, *others, last = [record.getMessage() for record in caplog.records]
    assert first.startswith(f"waiting for the lock {output}/.lock of another run: ")
    assert [line.startswith("still waiting") for line in others] == [True] * int(lock.STALE / 60)
    assert last.startswith("taking over the lock of a dead run")


def test_a_living_run_is_waited_for_as_long_as_asked(output: str, held: Lock) -> None:
    waiting = Waiting(lambda seconds: seconds % 30 == 0 and elsewhere(output, seconds))
    elsewhere(output)
    with pytest.raises(
        ConfigurationError, match="another run is at work there, and was for the 1800 s of waiting"
    ):
        take(output, wait=1800, clock=waiting.clock)
    held.confirm()


def test_a_living_run_whose_clock_is_behind_is_not_taken_for_dead(output: str, held: Lock) -> None:
    late = -2000 * lock.STALE
    waiting = Waiting(lambda seconds: seconds % 30 == 0 and elsewhere(output, late + seconds))
    elsewhere(output, late)
    with pytest.raises(ConfigurationError, match="another run is at work there"):
        take(output, wait=900, clock=waiting.clock)
    held.confirm()


def test_the_lock_of_a_run_that_ends_is_taken_at_once(output: str, held: Lock) -> None:
    def during(seconds: float) -> None:
        elsewhere(output, seconds)
        if seconds == 60:
            held.release()

    waiting = Waiting(during)
    elsewhere(output)
    take(output, wait=1800, clock=waiting.clock).release()
    assert waiting.seconds == 60


def test_a_run_that_dies_while_it_is_waited_for_is_outlived_beyond_the_patience_with_the_living(
    output: str, held: Lock
) -> None:
    waiting = Waiting(lambda seconds: seconds <= 100 and elsewhere(output, seconds))
    elsewhere(output)
    take(output, wait=200, clock=waiting.clock).release()
    assert 100 + lock.STALE < waiting.seconds <= 100 + lock.STALE + 2 * lock_watch.PAUSE


def test_a_clock_that_is_ahead_makes_no_dead_run_immortal(output: str, held: Lock) -> None:
    change(output, machine="another", heartbeat=time.time() + 86400)
    waiting = Waiting()
    take(output, wait=600, clock=waiting.clock).release()
    assert waiting.seconds <= lock.STALE + 2 * lock_watch.PAUSE


def test_a_free_lock_is_taken_without_waiting(output: str) -> None:
    waiting = Waiting()
    taken = take(output, wait=600, clock=waiting.clock)
    assert waiting.seconds == taken.waited == 0
    taken.release()


def in_another_pid_namespace(script: str, *arguments: str) -> list[str]:
    """Return a command that runs Python in a PID namespace of its own, as a container does; skip where not allowed."""
    unshare = ["unshare", "--pid", "--fork", "--kill-child"]
    for prefix in (unshare, [*unshare, "--user", "--map-root-user"]):
        with contextlib.suppress(OSError):
            if not subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
                return [*prefix, sys.executable, "-c", script, *arguments]
    pytest.skip("this system allows no new PID namespaces (unshare --pid)")


def test_a_run_in_another_pid_namespace_is_judged_by_its_signs_of_life_alone(
    tmp_path: Path, repository: Path
) -> None:
    """Its process id means nothing here: this process may have the same one, or nobody."""
    script = "import os, sys; from pipelines.storage.lock import take; take(sys.argv[1]); os._exit(9)"
    output = str(tmp_path / "out")
    done = subprocess.run(in_another_pid_namespace(script, output), cwd=repository, check=False)
    assert done.returncode == 9
    with pytest.raises(ConfigurationError, match="another run is at work"):
        take(output)
    waiting = Waiting()
    taken = take(output, wait=600, clock=waiting.clock)
    taken.confirm()
    taken.release()
    assert lock.STALE < waiting.seconds <= lock.STALE + 2 * lock_watch.PAUSE
