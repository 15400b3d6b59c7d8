import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import ConfigurationError
from pipelines.contracts.sampling import sample_hash
from pipelines.metrics.reference import EVERY_DEFECT, Reference, read_images, read_reference

DEFECTS = ("watermark", "wrong_angle")


def write(path: Path, rows: int, **columns: Any) -> Path:
    table = pa.table({"image": [f"picture {n}".encode() for n in range(rows)], **columns})
    pq.write_table(table, path, row_group_size=6)
    return path


def images(reference: Reference) -> list[tuple[str, str, bytes]]:
    return [row for unit in reference.units for row in read_images(unit, reference.sample)]


def test_without_one_the_catalogs_own_clean_images_are_used() -> None:
    reference = read_reference(None, DEFECTS, 10)
    assert reference.is_catalog
    assert "own clean images" in reference.description


def test_images_are_sampled_by_the_hash_of_their_id(tmp_path: Path) -> None:
    ids = [f"i{n}" for n in range(20)]
    reference = read_reference(str(write(tmp_path / "a.parquet", 20, image_id=ids)), DEFECTS, 5)
    assert not reference.is_catalog
    sampled = images(reference)
    assert {key for _, key, _ in sampled} == set(sorted(ids, key=sample_hash)[:5])
    assert all(
        name == EVERY_DEFECT and image == f"picture {key[1:]}".encode() for name, key, image in sampled
    )


def test_images_of_one_defect_are_a_set_of_their_own(tmp_path: Path) -> None:
    defects = ["watermark", None, "wrong_angle", ""] * 5
    ids = [f"i{n}" for n in range(20)]
    reference = read_reference(
        str(write(tmp_path / "a.parquet", 20, image_id=ids, defect=defects)), DEFECTS, 3
    )
    counts = {name: sum(row[0] == name for row in images(reference)) for name in (EVERY_DEFECT, *DEFECTS)}
    assert counts == {EVERY_DEFECT: 3, "watermark": 3, "wrong_angle": 3}


def test_the_defect_may_be_in_the_path(tmp_path: Path) -> None:
    for folder in ("defect=watermark", "defect=__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "a.parquet", 4)
    reference = read_reference(str(tmp_path), DEFECTS, 10)
    assert sorted(name for name, _, _ in images(reference)) == [EVERY_DEFECT] * 4 + ["watermark"] * 4
    write(tmp_path / "defect=watermark" / "a.parquet", 2, defect=["watermark", "wrong_angle"])
    with pytest.raises(ConfigurationError, match="row 1 has defect 'wrong_angle'"):
        read_reference(str(tmp_path), DEFECTS, 10)


def test_an_image_column_is_enough(tmp_path: Path) -> None:
    reference = read_reference(str(write(tmp_path / "a.parquet", 20)), DEFECTS, 8)
    sampled = images(reference)
    assert len({key for _, key, _ in sampled}) == len(sampled) == 8
    assert images(reference) == sampled


def test_images_in_structs_and_missing_ones(tmp_path: Path) -> None:
    structs = [{"bytes": b"1", "path": "a"}, {"bytes": None, "path": "b"}, None]
    pq.write_table(pa.table({"image": structs}), tmp_path / "a.parquet")
    assert [image for *_, image in images(read_reference(str(tmp_path), DEFECTS, 8))] == [b"1"]


def statistics(path: Path, value: float, dimension: int = 2048) -> Path:
    buffer = io.BytesIO()
    np.savez(buffer, mu=np.full(dimension, value), sigma=np.eye(dimension))
    path.write_bytes(buffer.getvalue())
    return path


def test_one_npz_is_for_every_defect(tmp_path: Path) -> None:
    reference = read_reference(str(statistics(tmp_path / "clean.npz", 3)), DEFECTS, 5)
    assert {name: moments.mu[0] for name, moments in reference.moments.items()} == {
        "watermark": 3,
        "wrong_angle": 3,
    }
    assert not reference.is_catalog


def test_a_folder_of_npz_is_for_the_defects_it_names_with_a_warning_of_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    statistics(tmp_path / "watermark.npz", 1)
    statistics(tmp_path / "wrong_angel.npz", 2)
    assert list(read_reference(str(tmp_path), DEFECTS, 5).moments) == ["watermark"]
    assert "no defect 'wrong_angel'; did you mean 'wrong_angle'?" in caplog.text


def test_images_of_a_defect_that_the_label_map_lacks_are_warned_of_and_alone_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["watermark", "watermrk"]
    read_reference(str(write(tmp_path / "a.parquet", 2, defect=names)), DEFECTS, 5)
    assert "no defect 'watermrk'; did you mean 'watermark'?" in caplog.text
    with pytest.raises(ConfigurationError, match=r"every image is of a defect that the label map lacks"):
        read_reference(str(write(tmp_path / "a.parquet", 1, defect=["watermrk"])), DEFECTS, 5)


def test_an_unfit_reference_is_named_with_the_flag(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--reference"):
        read_reference(str(tmp_path / "nowhere"), DEFECTS, 5)
    pq.write_table(pa.table({"picture": [b"x"]}), tmp_path / "a.parquet")
    with pytest.raises(
        ConfigurationError, match=r"--reference .*a.parquet: needs a column 'image'.*it has picture"
    ):
        read_reference(str(tmp_path), DEFECTS, 5)
    (tmp_path / "npz").mkdir()
    statistics(tmp_path / "npz" / "mug.npz", 1)
    with pytest.raises(
        ConfigurationError, match=r"--reference .*named after a defect \(watermark, wrong_angle\)"
    ):
        read_reference(str(tmp_path / "npz"), DEFECTS, 5)
    statistics(tmp_path / "small.npz", 1, dimension=64)
    with pytest.raises(ConfigurationError, match=r"--reference .*small.npz"):
        read_reference(str(tmp_path / "small.npz"), DEFECTS, 5)
