"""Images are fetched by their numbers, wherever units begin."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines.checking.look_again import (
    COMPARED,
    GREY,
    NAME,
    PICTURE,
    PICTURE_SIDE,
    compare,
    from_table,
    look_again,
    requests,
)
from pipelines.checking.similarity import GREY_SIDE, SAME_PICTURE
from pipelines.images.decode import decode_image
from pipelines.shards.source import list_shards
from pipelines.storage.parquet_units import Unit
from tests.checking_data import healthy, row, write


def units(folder: Path) -> tuple[tuple[Unit, ...], np.ndarray]:
    """Two shards of 6 rows; the second one's rows are cut into single row groups and a piece of one."""
    write(folder, healthy(), [row(f"q{seed}", seed) for seed in range(10, 16)])
    first, second = list_shards([str(folder / "shards" / f"part-{number}.parquet") for number in (0, 1)])
    cut = (first, Unit(second.uri, (0,), 0, 0, 2), Unit(second.uri, (0, 1), 2, 2, 4))
    return cut, np.array([0, 6, 8])


def test_names_and_pixels_are_those_of_the_numbered_image(tmp_path: Path) -> None:
    dataset_units, starts = units(tmp_path)
    wanted = [2 * 0, 2 * 5 + 1, 2 * 7, 2 * 8 + 1, 2 * 11]
    for what in (NAME, GREY, PICTURE):
        tables = requests(dataset_units, starts, wanted, what)
        assert len(tables) == 3
        images = {
            one.image: one for table in tables for part in look_again(table) for one in from_table(part)
        }
        names = [images[image].image_id for image in wanted]
        assert names == ["p0", "p5", "q11", "q12", "q15"]
        assert [images[image].row for image in wanted] == [0, 5, 1, 2, 5]
        assert [images[image].side for image in wanted] == ["source", "target", "source", "target", "source"]
        pixels = [images[image].pixels for image in wanted]
        if what == NAME:
            assert pixels == [None] * 5
        else:
            assert len(set(pixels)) == 5
    assert max(decode_image(pixels[0]).shape[:2]) <= PICTURE_SIDE


def test_the_luminances_of_a_pair_are_compared(tmp_path: Path) -> None:
    dataset_units, starts = units(tmp_path)
    tables = requests(dataset_units, starts, [0, 1, 2], GREY)
    grey = {one.image: one.pixels for t in tables for part in look_again(t) for one in from_table(part)}
    assert len(grey[0]) == GREY_SIDE**2
    pairs = [{"pair": 4, "test": grey[1], "train": grey[1]}, {"pair": 9, "test": grey[1], "train": grey[2]}]
    (similarities,) = compare(pa.Table.from_pylist(pairs, COMPARED))
    assert similarities["pair"].to_pylist() == [4, 9]
    same, other = similarities["similarity"].to_pylist()
    assert same >= SAME_PICTURE > other


def test_a_missing_or_broken_image_has_no_pixels(tmp_path: Path) -> None:
    write(tmp_path, [row("lacks", 0, target=None, source=b"\xff\xd8\xffno")])
    dataset_units = list_shards([str(tmp_path / "shards" / "part-0.parquet")])
    for what in (GREY, PICTURE):
        (table,) = requests(dataset_units, np.array([0]), [0, 1], what)
        assert [one.pixels for part in look_again(table) for one in from_table(part)] == [None, None]
