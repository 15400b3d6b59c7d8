"""A catalog of small images with all that happens to a nightly one, drawn with what must become of each row."""

import io
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.schemas import CATALOG
from tests.catalogs import picture, row
from tests.hostile_images import encode, hostile_images

#: Of rows in a file of the catalog, each of which is a block of work: few, because a block is what a kill disturbs.
_FEWEST_ROWS, _MOST_ROWS, _FILES = 10, 50, 8
#: What there is to correct; each is a list of labels.
_DEFECTIVE = (
    ("watermark",),
    ("non_white_background",),
    ("wrong_angle",),
    ("watermark", "wrong_angle"),
    ("non_white_background", "watermark", "wrong_angle"),
)
_CLEAN = (("clean",), (), ("seen_by_nobody",))
_SIDES = (64, 80, 96)
_FORMATS: tuple[tuple[str, dict[str, Any]], ...] = (("JPEG", {}), ("PNG", {}), ("WEBP", {"quality": 90}))


@dataclass(frozen=True)
class DrawnRow:
    """A row of CATALOG, and what must become of it. code: of a failed row. upload: what lies at its uri."""

    row: dict[str, Any]
    status: str
    code: str | None = None
    upload: bytes | None = None


def draw_catalog(count: int, seed: int, root: str) -> list[DrawnRow]:
    """`count` rows, the same for a seed. root: URI under which the rows' uploads will lie."""
    kinds = _kinds(root)
    weights = [weight for weight, _ in kinds]
    rng = random.Random(seed)
    # One of each kind first: a small catalog too has them all.
    order = [*range(len(kinds)), *rng.choices(range(len(kinds)), weights, k=count)]
    drawn: list[DrawnRow] = []
    while len(drawn) < count:
        drawn += kinds[order[len(drawn)]][1](len(drawn), rng)
    drawn = drawn[:count]
    rng.shuffle(drawn)
    return drawn


def write(drawn: Sequence[DrawnRow], root: str) -> str:
    """Write the catalog's files and uploads below `root`; returns the catalog's URI."""
    catalog = storage.join(root, "catalog")
    size = rows_per_file(len(drawn))
    for first in range(0, len(drawn), size):
        rows = [one.row for one in drawn[first : first + size]]
        columns = [pa.array([one.get(field.name) for one in rows], field.type) for field in CATALOG]
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_arrays(columns, schema=CATALOG), buffer)
        storage.write_bytes(storage.join(catalog, f"{first:06}.parquet"), buffer.getvalue())
    for one in drawn:
        if one.upload is not None:
            storage.write_bytes(one.row["uri"], one.upload)
    return catalog


def rows_per_file(count: int) -> int:
    """Rows in each file of a catalog of `count`, but the last."""
    return max(_FEWEST_ROWS, min(_MOST_ROWS, count // _FILES))


_Draw = Callable[[int, random.Random], "Iterator[DrawnRow]"]


def _kinds(root: str) -> list[tuple[int, _Draw]]:
    """Kinds of rows: how often each comes, and what draws it."""
    refused = sorted(hostile_images().items())

    def embedded(number: int, rng: random.Random) -> Iterator[DrawnRow]:
        yield DrawnRow(row(f"item-{number}", *rng.choice(_DEFECTIVE), image=_image(number, rng)), "corrected")

    def fetched(number: int, rng: random.Random) -> Iterator[DrawnRow]:
        uri = storage.join(root, "uploads", f"photo {number}.jpg")
        one = row(f"fetched-{number}", *rng.choice(_DEFECTIVE), uri=uri)
        yield DrawnRow(one, "corrected", upload=_image(number, rng))

    def clean(number: int, rng: random.Random) -> Iterator[DrawnRow]:
        yield DrawnRow(row(f"clean-{number}", *rng.choice(_CLEAN), image=_image(number, rng)), "passthrough")

    def hostile_id(number: int, rng: random.Random) -> Iterator[DrawnRow]:
        image_id = rng.choice(_HOSTILE_IDS).format(number)
        yield DrawnRow(row(image_id, "watermark", image=_image(number, rng)), "corrected")

    def unreadable(number: int, rng: random.Random) -> Iterator[DrawnRow]:
        _, (data, code) = refused[number % len(refused)]
        yield DrawnRow(row(f"broken-{number}", "watermark", image=data), "failed", code)

    def missing(number: int, rng: random.Random) -> Iterator[DrawnRow]:
        uri = storage.join(root, "uploads", f"nothing {number}.jpg")
        yield DrawnRow(row(f"missing-{number}", "wrong_angle", uri=uri), "failed", "missing")

    def nowhere(number: int, rng: random.Random) -> Iterator[DrawnRow]:
        yield DrawnRow(row(f"nowhere-{number}", "watermark", uri=None), "failed", "no_image")

    def twins(number: int, rng: random.Random) -> Iterator[DrawnRow]:
        """The same bytes under two ids."""
        image, labels = _image(number, rng), rng.choice(_DEFECTIVE)
        for name in ("left", "right"):
            yield DrawnRow(row(f"twin-{number}-{name}", *labels, image=image), "corrected")

    return [
        (40, embedded),
        (16, fetched),
        (12, clean),
        (6, hostile_id),
        (4, unreadable),
        (2, missing),
        (1, nowhere),
        (3, twins),
    ]


def _image(number: int, rng: random.Random) -> bytes:
    form, options = rng.choice(_FORMATS)
    return encode(picture(number, rng.choice(_SIDES), rng.choice(_SIDES)), form, **options)


#: `{}` is the row's number. Names on disk are made of these, and every tool between sees them.
_HOSTILE_IDS = (
    "../../etc/passwd-{}",
    "/absolute/{}",
    "a/b/../c {}",
    ".hidden-{}",
    "_private-{}",
    "%2e%2e%2f{}",
    "emoji \N{PILE OF POO} {}",
    "\N{ARABIC LETTER ALEF}\N{RIGHT-TO-LEFT OVERRIDE}gpj.{}",
    "tab\tnewline\nbell\a{}",
    "nul\0{}",
    "<script>alert({})</script>",
    "CON-{}",
    "e\N{COMBINING ACUTE ACCENT}-{}",
    "\N{LATIN SMALL LETTER E WITH ACUTE}-{}",
    "{}-" + "x" * 2000,
    " {} ",
)
