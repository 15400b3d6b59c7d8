"""Fuzzes the decoder of uploads: decodes damaged and mixed image files in the same process as the job.

    python -m tests.fuzz --inputs 20000
    python -m tests.fuzz --inputs 5000 --only heic avif
    python -m tests.fuzz --inputs 20000 --photos ../shared/data/photos.parquet --keep out/fuzz

Prints counts by outcome, the slowest inputs and the peak memory of a decoding process. The exit code is 1 if an input
killed a decoding process, took too long, or exhausted its memory; --keep writes these inputs. Input n of a seed always
has the same bytes.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from pipelines.cluster.ahead import map_ahead
from pipelines.images import decode_apart as apart
from pipelines.images.decode import FORMATS, OUT_OF_MEMORY, DecodeLimits, ImageError
from pipelines.images.decode_apart import CRASHED, TIMEOUT, decode_apart
from pipelines.images.encode import EXTENSIONS, encode_image
from pipelines.images.metadata import MAX_TEXT, Metadata
from tests.hostile_images import drawing, encode, hostile_images, odd_images

#: Outcomes that must not occur.
BAD = (CRASHED, TIMEOUT, OUT_OF_MEMORY)
#: Values of max_side as in the job: full size, and a model's input.
_SIDES = (None, 512, 64)
_SLOWEST = 10


class Input(NamedTuple):
    """Hold one file to decode. name: its origin, for display."""

    name: str
    data: bytes
    max_side: int | None


@dataclass
class Outcome:
    """Hold a run's results. codes: 'decoded' or an error's code."""

    codes: Counter[str] = field(default_factory=Counter)
    bad: list[tuple[Input, str]] = field(default_factory=list)
    slowest: list[tuple[float, str, str]] = field(default_factory=list)  # seconds, input, code
    peak_bytes: int = 0  # of one decoding process, resident


def seeds(photos: Path | None = None, count: int = 64) -> list[tuple[str, bytes]]:
    """Return whole files to start from: every kind of `tests.hostile_images`, larger files, and real photos."""
    files = [(name, data) for name, (data, *_) in (*odd_images().items(), *hostile_images().items()) if data]
    big = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8) // 4 + drawing(400, 300) // 2
    for format in FORMATS:
        files.append((f"large {format}", encode(big, format)))
    files.append(("large progressive", encode(big, progressive=True)))
    for format in EXTENSIONS:
        tagged = encode_image(drawing(), format, metadata=Metadata("copyright", "author", True, True))
        files.append((f"tagged {format}", tagged))
    if photos is not None:
        table = pq.read_table(photos, columns=["image"]).slice(0, count)
        for number, image in enumerate(table.column("image").to_pylist()):
            files.append((f"photo {number}", image["bytes"] if isinstance(image, dict) else image))
    return files


def inputs(files: Sequence[tuple[str, bytes]], count: int, seed: int = 0) -> Iterator[Input]:
    """Yield `count` damaged files; each depends only on its number and the seed."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        name, data = files[int(rng.integers(len(files)))]
        kind = list(_DAMAGES)[int(rng.integers(len(_DAMAGES)))]
        other = files[int(rng.integers(len(files)))][1]
        damaged = _DAMAGES[kind](data, other, rng)
        yield Input(f"{number} {kind} {name}", damaged, _SIDES[int(rng.integers(len(_SIDES)))])


def fuzz(todo: Iterator[Input], limits: DecodeLimits, threads: int = 2) -> Outcome:
    """Decode everything, and raise any exception other than ImageError."""
    outcome = Outcome()
    for one, (code, seconds, peak) in map_ahead(partial(_decode, limits=limits), todo, threads):
        outcome.codes[code] += 1
        if code in BAD:
            outcome.bad.append((one, code))
        outcome.slowest = sorted([*outcome.slowest, (seconds, one.name, code)], reverse=True)[:_SLOWEST]
        outcome.peak_bytes = max(outcome.peak_bytes, peak)
    return outcome


def _decode(one: Input, limits: DecodeLimits) -> tuple[str, float, int]:
    started = time.perf_counter()
    try:
        pixels, (width, height), metadata = decode_apart(one.data, limits, one.max_side)
    except ImageError as error:
        code = error.code
    else:
        code = "decoded"
        assert pixels.dtype == np.uint8
        assert pixels.shape[2:] == (3,)
        assert width * height <= limits.max_pixels
        assert len(metadata.copyright or "") <= MAX_TEXT
        assert one.max_side is None or max(pixels.shape) <= max(one.max_side, 3)
    seconds = time.perf_counter() - started
    return code, seconds, max((_peak(child.pid) for child in list(apart._idle)), default=0)


def _peak(pid: int) -> int:
    """Return the peak resident memory of a process, in bytes."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def _flip_bits(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(data)
    for at in rng.integers(len(damaged), size=int(rng.integers(1, 30))):
        damaged[at] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _set_bytes(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Set bytes to values that are critical for lengths and sizes."""
    damaged = bytearray(data)
    for at in rng.integers(len(damaged), size=int(rng.integers(1, 12))):
        damaged[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF]))
    return bytes(damaged)


def _edit_header(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Set numbers to such values among the first bytes, after the signature."""
    damaged = bytearray(data)
    end = min(len(damaged), 700)
    for _ in range(int(rng.integers(1, 8))):
        at = int(rng.integers(min(4, end - 1), end))
        width = int(rng.choice([1, 2, 4]))
        value = int(
            rng.choice([0, 1, 255, 256, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, int(rng.integers(1 << 32))])
        )
        order = "big" if rng.integers(2) else "little"
        damaged[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, order)  # type: ignore[arg-type]
    return bytes(damaged)


def _cut(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(1, len(data) + 1))]


def _drop(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(data)))
    return data[:start] + data[start + int(rng.integers(1, 200)) :]


def _repeat(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(data)))
    part = data[start : start + int(rng.integers(1, 2000))]
    return data[:start] + part * int(rng.integers(2, 40)) + data[start:]


def _splice(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Join the beginning of one file and the rest of another."""
    return data[: int(rng.integers(1, len(data) + 1))] + other[int(rng.integers(len(other))) :]


def _insert(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """Insert a piece of another file."""
    start, at = int(rng.integers(len(other))), int(rng.integers(len(data)))
    return data[:at] + other[start : start + int(rng.integers(1, 4000))] + data[at:]


def _several(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    for kind in rng.choice(list(_DAMAGES)[:-1], size=int(rng.integers(2, 4))):
        data = _DAMAGES[str(kind)](data or b"\0", other, rng)
    return data


_DAMAGES: dict[str, Callable[[bytes, bytes, np.random.Generator], bytes]] = {
    "bits": _flip_bits,
    "bytes": _set_bytes,
    "header": _edit_header,
    "cut": _cut,
    "drop": _drop,
    "repeat": _repeat,
    "splice": _splice,
    "insert": _insert,
    "several": _several,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print the results, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--photos", type=Path, help="parquet with an image column (default: ../shared's, if there)"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="WORD", help="start from files whose names have one of these"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for harmful inputs")
    arguments = parser.parse_args(argv)
    photos = arguments.photos
    if photos is None:
        default = Path(__file__).resolve().parents[2] / "shared" / "data" / "photos.parquet"
        photos = default if default.exists() else None
    words = [word.lower() for word in arguments.only or ("",)]
    files = [(name, data) for name, data in seeds(photos) if any(word in name.lower() for word in words)]
    if not files:
        parser.error(f"--only {' '.join(words)}: no file to start from has such a name")
    limits = DecodeLimits()
    started = time.perf_counter()
    outcome = fuzz(inputs(files, arguments.inputs, arguments.seed), limits, arguments.threads)
    seconds = time.perf_counter() - started
    lines = [
        f"{arguments.inputs} inputs from {len(files)} files in {seconds:.0f} s (seed {arguments.seed})",
        "",
    ]
    lines += [f"{count:8d}  {code}" for code, count in outcome.codes.most_common()]
    lines += ["", f"peak memory of a decoding process: {outcome.peak_bytes / 2**20:.0f} MiB", "", "slowest:"]
    lines += [f"{1e3 * slow:8.0f} ms  {code:18s} {name}" for slow, name, code in outcome.slowest]
    lines += [f"HARM  {code}  {one.name}" for one, code in outcome.bad]
    sys.stdout.write("\n".join(lines) + "\n")
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        for one, code in outcome.bad:
            (arguments.keep / f"{one.name.split()[0]}-{code}").write_bytes(one.data)
    return 1 if outcome.bad else 0


if __name__ == "__main__":
    sys.exit(main())
