"""Reads the manifest again and again while jobs write it, by the documented rule for readers."""

import hashlib
import json
import random
import threading
from collections import Counter
from typing import Any

from pipelines import storage
from pipelines.published.layout import SUCCESS
from tests.chaos.ledger import read_manifest


def read_whole(output: str) -> list[dict[str, Any]] | None:
    """Return the rows if all are of one run, that is if _SUCCESS is the same before and after; else None.

    Raises AssertionError if they contradict _SUCCESS.
    """
    before = _success(output)
    if before is None:
        return None
    rows: list[dict[str, Any]] | None = None
    fault = ""
    try:
        rows = read_manifest(output)
    except OSError as error:  # a part that was listed is gone
        fault = f"{type(error).__name__}: {error}"
    if _success(output) != before:
        return None
    success = json.loads(before)
    if rows is None or len(rows) != success["rows"]:
        raise AssertionError(f"_SUCCESS says {success}, and there are {fault or len(rows or ())} rows")
    return rows


def _success(output: str) -> bytes | None:
    try:
        return storage.read_bytes(storage.join(output, SUCCESS))
    except FileNotFoundError:
        return None


#: Seconds between two reads, because the jobs need the processor more; images that are looked at in each.
_PAUSE, _LOOKED_AT = 0.02, 5


def check_images(rows: list[dict[str, Any]], rng: random.Random) -> None:
    """Raise AssertionError if one of a few images that the rows name is missing or another one."""
    named = [row for row in rows if row["output_uri"] is not None]
    for row in rng.sample(named, min(_LOOKED_AT, len(named))):
        try:
            data = storage.read_bytes(row["output_uri"])
        except FileNotFoundError:
            raise AssertionError(f"{row['output_uri']} is missing") from None
        if hashlib.sha256(data).hexdigest() != row["output_sha256"]:
            raise AssertionError(f"{row['output_uri']} is another image")


class Reader:
    """Reads in a thread, inside a `with` block. seen: number of whole reads of each set of rows."""

    def __init__(self, output: str) -> None:
        self.output = output
        self.seen: Counter[tuple[str, ...]] = Counter()
        self.faults: list[str] = []
        self._rng = random.Random(0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._ended.wait(_PAUSE):
            try:
                rows = read_whole(self.output)
                check_images(rows or [], self._rng)
            except AssertionError as error:
                self.faults.append(str(error))
                continue
            if rows is not None:
                self.seen[states(rows)] += 1


def states(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return what distinguishes one night's rows from another's."""
    return tuple(sorted(f"{row['image_id']} {row['status']} {row['output_sha256']}" for row in rows))
