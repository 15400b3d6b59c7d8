"""SIGTERM to jobs as processes, without Ray; with it: tests/end_to_end/test_interrupt.py."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import command
from tests.processes import PATIENCE

JOB = """
import ctypes, signal, sys, threading
from jobs import command
from pipelines.cluster import termination
from pipelines.storage.lock import locked

def main(argv):
    with locked(sys.argv[1]) as lock:
        WAIT
    return 0

command.run(main, "the same command goes on")
"""
#: What a main thread does when the signal comes, and then: as is; hears of it late; hears never.
WAITS = {
    "python": "print('ready', flush=True); threading.Event().wait()",
    "an error that comes of the signal": """
        wait = signal.getsignal(signal.SIGTERM)
        heard = threading.Event()
        signal.signal(signal.SIGTERM, lambda *call: (wait(*call), heard.set()))
        print('ready', flush=True); heard.wait()
        raise ValueError("Ray is gone")""",
    "two signals": """
        release = lock.release
        def slowly():
            signal.raise_signal(signal.SIGTERM)
            release()
        lock.release = slowly
        print('ready', flush=True); threading.Event().wait()""",
    "c code": """
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # else it would end the call
        print('ready', flush=True); ctypes.CDLL(None).sleep(600)""",
}


@pytest.mark.parametrize("wait", WAITS)
def test_sigterm_gives_the_lock_back_and_says_how_to_go_on(
    wait: str, repository: Path, tmp_path: Path
) -> None:
    found = _signalled(WAITS[wait], signal.SIGTERM, repository, tmp_path)
    assert found == (command.EXIT_TERMINATED, "terminated; the same command goes on\n")
    assert not list(tmp_path.rglob("*.json")), "the lock is still there"


def test_a_process_ends_whatever_goes_wrong_on_its_way_out(repository: Path, tmp_path: Path) -> None:
    damaged = """
        __import__("pathlib").Path(sys.argv[1], ".lock", "000001.json").write_text("{}")
        print('ready', flush=True); threading.Event().wait()"""
    code, errors = _signalled(damaged, signal.SIGTERM, repository, tmp_path / "damaged")
    assert code == command.EXIT_TERMINATED
    assert "could not be removed" in errors
    assert errors.endswith("terminated; the same command goes on\n")
    silent = "sys.stderr = None; print('ready', flush=True); threading.Event().wait()"
    assert _signalled(silent, signal.SIGTERM, repository, tmp_path / "silent") == (
        command.EXIT_TERMINATED,
        "",
    )


def test_ctrl_c_is_told_from_it(repository: Path, tmp_path: Path) -> None:
    found = _signalled(WAITS["python"], signal.SIGINT, repository, tmp_path)
    assert found == (command.EXIT_INTERRUPTED, "interrupted; the same command goes on\n")
    assert not list(tmp_path.rglob("*.json"))


def _signalled(wait: str, number: signal.Signals, repository: Path, output: Path) -> tuple[int, str]:
    """Exit code and standard error of a job that got a signal while it held the lock of `output`."""
    with subprocess.Popen(
        [sys.executable, "-c", JOB.replace("WAIT", wait.strip()), str(output)],
        env={**os.environ, "PYTHONPATH": str(repository)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert list(output.rglob("*.json")), "no lock"
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors
