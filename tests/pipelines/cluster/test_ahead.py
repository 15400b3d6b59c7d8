import threading

import pytest

from pipelines.cluster.ahead import map_ahead


def test_results_are_in_order_with_their_items() -> None:
    assert list(map_ahead(lambda n: n * n, range(50), threads=4)) == [(n, n * n) for n in range(50)]
    assert list(map_ahead(str, [], threads=4)) == []


def test_only_a_few_items_are_drawn_ahead() -> None:
    drawn: list[int] = []

    def items():
        for n in range(1000):
            drawn.append(n)
            yield n

    results = map_ahead(lambda n: n, items(), threads=4)
    next(results)
    assert len(drawn) == 4
    results.close()
    assert len(drawn) == 4


def test_work_overlaps() -> None:
    meeting = threading.Barrier(3, timeout=30)  # breaks unless three threads work at once
    assert len(list(map_ahead(lambda _: meeting.wait(), range(3), threads=3))) == 3


def test_an_error_is_raised_at_its_turn() -> None:
    results = map_ahead(lambda n: 1 // (n - 2), range(9), threads=4)
    assert [next(results)[0], next(results)[0]] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
