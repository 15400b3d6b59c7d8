"""Reading survives storage that fails for a while."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.contracts.schemas import SHARD
from pipelines.images.encode import encode_image
from pipelines.shards import reading
from pipelines.shards.reading import BROKEN, Decoding, Order, TrainingError, what_is_broken
from tests.training_data import write_dataset


@pytest.fixture
def shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(reading, "RETRY_AFTER", (0.0, 0.0))
    return str(write_dataset(tmp_path / "set") / "shards" / "part-0.parquet")


def failing(times: int) -> Callable[..., Iterator[Any]]:
    """Return an `iter_batches` that fails after its first batch, `times` times."""
    original, left = pq.ParquetFile.iter_batches, [times]

    def iter_batches(*args: Any, **kwargs: Any) -> Iterator[Any]:
        batches = original(*args, **kwargs)
        yield next(batches)
        if left[0]:
            left[0] -= 1
            raise OSError("connection reset")
        yield from batches

    return iter_batches


ROWS = (0, 3, 3, 15, 16, 23)


def test_a_read_that_fails_is_resumed(
    shard: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    order = Order(shard, 0, ROWS)
    expected = list(Decoding(32)(order))
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", failing(2))
    decoded = list(Decoding(32)(order))
    assert len(decoded) == len(ROWS)
    for (x, *_), (expected_x, *_) in zip(decoded, expected, strict=True):
        np.testing.assert_array_equal(x, expected_x)
    assert caplog.text.count("trying again") == 2


def test_a_read_that_keeps_failing_is_an_error_that_names_the_shard(
    shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", failing(3))
    with pytest.raises(TrainingError, match=r"cannot read .*part-0.parquet: OSError: connection reset"):
        list(Decoding(32)(Order(shard, 0, ROWS)))


def test_a_file_that_is_not_parquet_is_not_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "part.parquet"
    path.write_bytes(b"PAR1junk" * 10)
    with pytest.raises(TrainingError, match="cannot read"):
        list(Decoding(32)(Order(str(path), 0, (0,))))
    assert "trying again" not in caplog.text


def test_an_image_too_small_to_train_on_is_broken_and_named(shard: str, tmp_path: Path) -> None:
    table = pq.read_table(shard).to_pylist()
    table[4]["target"] = encode_image(np.zeros((15, 40, 3), np.uint8), "png")
    path = str(tmp_path / "tiny.parquet")
    pq.write_table(pa.Table.from_pylist(table, SHARD), path)
    decoded = list(Decoding(32)(Order(path, 0, (3, 4, 4, 5))))
    assert [pair == BROKEN for pair in decoded[1:3]] == [True, True]
    assert all(decoded[number][0] is not None for number in (0, 3))
    assert what_is_broken(Order(path, 0, (4,))).startswith(f"target of p1 (watermark) in {path}: too_small: ")
