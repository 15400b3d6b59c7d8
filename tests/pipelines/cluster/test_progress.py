import io
import logging

import pytest

from pipelines.cluster.progress import INTERVAL, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_a_line_every_interval_and_one_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    with Progress("correcting", 100, io.StringIO(), clock) as progress:
        clock.now += INTERVAL / 2
        progress.update(10)
        assert not caplog.messages
        clock.now += INTERVAL / 2
        progress.update(30, failed=2)
        # 30 images took 5 s; the 5 s before the first ones were start-up.
        assert caplog.messages == ["correcting: 40 of 100 images, 4.0 images/s, 2 failed, 10 s left"]
        clock.now += 2.5
        progress.update(60)
    assert caplog.messages[1:] == ["correcting: 100 of 100 images, 8.0 images/s, 2 failed"]


def test_the_first_images_give_no_time_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    with Progress("correcting", 100, io.StringIO(), clock) as progress:
        clock.now += INTERVAL
        progress.update(10)
    assert caplog.messages[0] == "correcting: 10 of 100 images, 1.0 images/s, 0 failed"


def test_the_last_line_is_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    with Progress("correcting", 10, io.StringIO(), clock) as progress:
        clock.now += INTERVAL
        progress.update(10)
    assert len(caplog.messages) == 1


def test_rows_of_an_earlier_run_count_but_not_for_the_rate(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock, terminal = Clock(), Terminal()
    with Progress("prepare", 100, io.StringIO(), clock) as progress:
        progress.resume(60)
        clock.now += INTERVAL
        progress.update(20)
        clock.now += INTERVAL
        progress.update(20)
    assert caplog.messages == [
        f"prepare: 80 of 100 images, {20 / INTERVAL:.1f} images/s, 0 failed",
        f"prepare: 100 of 100 images, {20 / INTERVAL:.1f} images/s, 0 failed",
    ]
    with Progress("prepare", 100, terminal) as progress:
        progress.resume(60)
        progress.update(40)
    assert "100/100" in terminal.getvalue()


def test_a_terminal_gets_a_bar(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    terminal = Terminal()
    with Progress("correcting", 4, terminal) as progress:
        progress.update(4, failed=1)
    assert "4/4" in terminal.getvalue()
    assert "1 failed" in terminal.getvalue()
    assert not caplog.messages


def test_a_run_that_fails_reports_no_total(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(ZeroDivisionError), Progress("correcting", 4, io.StringIO()):
        raise ZeroDivisionError
    assert not caplog.messages
