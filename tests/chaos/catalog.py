"""A drawn catalog of small images with everything that happens to a nightly one, and each row's expected outcome."""

import io
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.contracts.schemas import CATALOG
from tests.catalogs import picture, row
from tests.hostile_images import encode, hostile_images
from tests.poison import CODES, poison

#: Limits of rows per file, and files. A file is a block of work, and blocks are small because a kill disturbs one.
_FEWEST_ROWS, _MOST_ROWS, _FILES = 10, 50, 8
UPLOADS = "uploads"
#: Defects to correct; each is a list of labels.
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
    """A row of CATALOG and its expected outcome. status: a row to be corrected may be rejected by a gate instead.

    code: of a failed row. upload: the file at its uri.
    """

    row: dict[str, Any]
    status: str
    code: str | None = None
    upload: bytes | None = None

    def without_poison(self) -> "DrawnRow":
        """Return the row with its outcome if no image is poison."""
        return replace(self, status="corrected", code=None) if self.code in CODES.values() else self


def draw_catalog(count: int, seed: int, root: str) -> list[DrawnRow]:
    """Return `count` drawn rows, the same for the same seed. root: URI below which the rows' uploads will be."""
    uploads = storage.join(root, UPLOADS, "first")
    rng = random.Random(seed)
    # One of each kind first, so that a small catalog has them all.
    order = [*range(len(_KINDS)), *rng.choices(range(len(_KINDS)), [weight for weight, _ in _KINDS], k=count)]
    drawn: list[DrawnRow] = []
    while len(drawn) < count:
        # The last row is a plain one, because some kinds draw two rows.
        draw = _KINDS[order[len(drawn)]][1] if len(drawn) + 1 < count else _embedded
        drawn += draw(len(drawn), uploads, rng)
    rng.shuffle(drawn)
    return drawn


def next_night(drawn: Sequence[DrawnRow], seed: int, root: str) -> list[DrawnRow]:
    """Return the next day's catalog in another order, with removed, changed, moved and new rows."""
    rng = random.Random(f"{seed} next night")
    uploads = storage.join(root, UPLOADS, "second")
    kept: list[DrawnRow] = []
    for number, one in enumerate(drawn):
        # A row that occurs twice, or is to fail, must not change.
        plain = one.row["image_id"].startswith(("item-", "fetched-", "clean-"))
        kept += (
            _CHANGES[rng.choices(range(len(_CHANGES)), _CHANCES)[0]](one, number, uploads, rng)
            if plain
            else [one]
        )
    for number in range(len(drawn) // 10):
        image_id, labels = f"item-new-{number}", rng.choice(_DEFECTIVE)
        kept.append(DrawnRow(row(image_id, *labels, image=_image(len(drawn) + number, rng)), "corrected"))
    rng.shuffle(kept)
    return kept


def _gone(one: DrawnRow, number: int, uploads: str, rng: random.Random) -> list[DrawnRow]:
    return []


def _same(one: DrawnRow, number: int, uploads: str, rng: random.Random) -> list[DrawnRow]:
    return [one]


def _other_image(one: DrawnRow, number: int, uploads: str, rng: random.Random) -> list[DrawnRow]:
    image = _image(10**6 + number, rng)
    if one.upload is None:
        return [replace(one, row={**one.row, "image": image})]
    uri = storage.join(uploads, f"changed {number}.jpg")
    return [replace(one, row={**one.row, "uri": uri}, upload=image)]


def _other_uri(one: DrawnRow, number: int, uploads: str, rng: random.Random) -> list[DrawnRow]:
    if one.upload is None:
        return [one]
    return [replace(one, row={**one.row, "uri": storage.join(uploads, f"moved {number}.jpg")})]


def _other_labels(one: DrawnRow, number: int, uploads: str, rng: random.Random) -> list[DrawnRow]:
    defective = one.status == "passthrough"  # it was clean before
    labels = row("any", *(rng.choice(_DEFECTIVE) if defective else ("clean",)), image=b"")["labels"]
    return [
        replace(one, row={**one.row, "labels": labels}, status="corrected" if defective else "passthrough")
    ]


_CHANGES = (_same, _gone, _other_image, _other_uri, _other_labels)
_CHANCES = (60, 10, 12, 8, 10)


def write(drawn: Sequence[DrawnRow], root: str, name: str) -> None:
    """Write the files of catalog `name` and its uploads below `root`."""
    catalog = storage.join(root, "catalogs", name)
    size = rows_per_file(len(drawn))
    for first in range(0, len(drawn), size):
        rows = [one.row for one in drawn[first : first + size]]
        columns = [pa.array([one.get(field.name) for one in rows], field.type) for field in CATALOG]
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_arrays(columns, schema=CATALOG), buffer)
        storage.write_bytes(storage.join(catalog, f"{first:06}.parquet"), buffer.getvalue())
    for one in drawn:
        # Files of an earlier catalog stay unchanged, because storage detects changes by modification time.
        if one.upload is not None and not storage.exists(one.row["uri"]):
            storage.write_bytes(one.row["uri"], one.upload)


def rows_per_file(count: int) -> int:
    """Return the number of rows in each file, except the last, of a catalog of `count`."""
    return max(_FEWEST_ROWS, min(_MOST_ROWS, count // _FILES))


def _embedded(number: int, uploads: str, rng: random.Random) -> Iterator[DrawnRow]:
    yield DrawnRow(row(f"item-{number}", *rng.choice(_DEFECTIVE), image=_image(number, rng)), "corrected")


def _fetched(number: int, uploads: str, rng: random.Random) -> Iterator[DrawnRow]:
    uri = storage.join(uploads, f"photo {number}.jpg")
    one = row(f"fetched-{number}", *rng.choice(_DEFECTIVE), uri=uri)
    yield DrawnRow(one, "corrected", upload=_image(number, rng))


def _clean(number: int, uploads: str, rng: random.Random) -> Iterator[DrawnRow]:
    yield DrawnRow(row(f"clean-{number}", *rng.choice(_CLEAN), image=_image(number, rng)), "passthrough")


def _hostile_id(number: int, uploads: str, rng: random.Random) -> Iterator[DrawnRow]:
    image_id = rng.choice(_HOSTILE_IDS).format(number)
    yield DrawnRow(row(image_id, "watermark", image=_image(number, rng)), "corrected")


def _unreadable(number: int, uploads: str, rng: random.Random) -> Iterator[DrawnRow]:
    _, (data, code) = _REFUSED[number % len(_REFUSED)]
    yield DrawnRow(row(f"broken-{number}", "watermark", image=data), "failed", code)


def _missing(number: int, uploads: str, rng: random.Random) -> Iterator[DrawnRow]:
    uri = storage.join(uploads, f"nothing {number}.jpg")
    yield DrawnRow(row(f"missing-{number}", "wrong_angle", uri=uri), "failed", "missing")


def _forbidden(number: int, uploads: str, rng: random.Random) -> Iterator[DrawnRow]:
    uri = rng.choice(("file:///etc/passwd", "http://169.254.169.254/latest", f"{uploads}/../../secret.jpg"))
    yield DrawnRow(row(f"forbidden-{number}", "watermark", uri=uri), "failed", "uri_not_allowed")


def _poisonous(number: int, uploads: str, rng: random.Random) -> Iterator[DrawnRow]:
    # "asleep" is left out because it ends only by a time-out.
    kind = rng.choice([kind for kind in sorted(CODES) if kind != "asleep"])
    yield DrawnRow(row(f"poison-{number}", "watermark", image=poison(kind)), "failed", CODES[kind])


def _nowhere(number: int, uploads: str, rng: random.Random) -> Iterator[DrawnRow]:
    yield DrawnRow(row(f"nowhere-{number}", "watermark", uri=None), "failed", "no_image")


def _twins(number: int, uploads: str, rng: random.Random) -> Iterator[DrawnRow]:
    """Draw the same bytes under two ids."""
    image, labels = _image(number, rng), rng.choice(_DEFECTIVE)
    for name in ("left", "right"):
        yield DrawnRow(row(f"twin-{number}-{name}", *labels, image=image), "corrected")


def _repeated(number: int, uploads: str, rng: random.Random) -> Iterator[DrawnRow]:
    """Draw an id that occurs twice with the same uri."""
    uri = storage.join(uploads, f"repeated {number}.jpg")
    one = row(f"repeated-{number}", *rng.choice(_DEFECTIVE), uri=uri)
    yield from [DrawnRow(one, "corrected", upload=_image(number, rng))] * 2


def _disputed(number: int, uploads: str, rng: random.Random) -> Iterator[DrawnRow]:
    """Draw an id that occurs twice with different bytes, so that it is unknown which one is meant."""
    for image in (_image(number, rng), _image(number + 10**7, rng)):
        yield DrawnRow(row(f"disputed-{number}", "watermark", image=image), "failed", "duplicate_id")


def _image(number: int, rng: random.Random) -> bytes:
    form, options = rng.choice(_FORMATS)
    return encode(picture(number, rng.choice(_SIDES), rng.choice(_SIDES)), form, **options)


#: `{}` is the row's number. File names are made from these, and every tool in between handles them.
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
_REFUSED = sorted(hostile_images().items())
#: Weight of each kind of row, and the function that draws it from its number and the folder of fetched images.
_KINDS: tuple[tuple[int, Callable[[int, str, random.Random], Iterator[DrawnRow]]], ...] = (
    (40, _embedded),
    (16, _fetched),
    (12, _clean),
    (6, _hostile_id),
    (4, _unreadable),
    (3, _twins),
    (2, _repeated),
    (1, _disputed),
    (2, _missing),
    (1, _nowhere),
    (1, _forbidden),
    (1, _poisonous),
)
