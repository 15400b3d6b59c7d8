"""How large the blocks of the stream are."""

import pytest

from pipelines.correction.stream.stage import _block_bytes
from pipelines.storage.parquet_units import Listing

MB = 1 << 20
#: Bytes of a row: an upload in the catalog, or far less with the upload elsewhere.
EMBEDDED, ELSEWHERE = 100_000, 200


def block(pending: int, rows: int, row_bytes: int, actors: int = 8) -> float:
    """Return the size of blocks in MB."""
    return _block_bytes(pending, Listing((), rows, rows * row_bytes), 256, actors) / MB


def test_blocks_keep_all_actors_busy_and_fit_into_small_workers() -> None:
    assert block(100, 100, EMBEDDED) == 1
    assert 1 < block(1_000, 1_000, EMBEDDED) < 16
    assert block(1_000_000, 1_000_000, EMBEDDED) == 16
    # The rows that are pending count, not those that are done.
    assert block(1_000, 1_000_000, EMBEDDED) == pytest.approx(block(1_000, 1_000, EMBEDDED))


@pytest.mark.parametrize("row_bytes", [EMBEDDED, ELSEWHERE])
def test_the_driver_schedules_at_most_some_200000_blocks(row_bytes: int) -> None:
    for rows in (10_000_000, 40_000_000, 80_000_000):
        blocks = rows * (EMBEDDED + 3 * 256**2) / MB / block(rows, rows, row_bytes)
        assert blocks < 210_000
    assert block(1_000_000_000, 1_000_000_000, row_bytes) == 128
