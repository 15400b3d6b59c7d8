from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ConfigurationError
from pipelines.contracts.label_map import LabelMap
from pipelines.images.decode import decode_image
from pipelines.sample_catalog import catalog as sample_catalog
from pipelines.sample_catalog.catalog import (
    DEFECTS,
    SCHEMAS,
    SampleSettings,
    catalog_rows,
    count_parts,
    find_part,
    part_rows,
    photo_rows,
    reference_rows,
    write_catalog,
    write_part,
)
from pipelines.sample_catalog.encoding import BROKEN, ENCODINGS
from pipelines.synthesis.defects import MAX_OPACITY, composite_on_white, rotate
from pipelines.synthesis.products import PRODUCT_TYPES

SETTINGS = SampleSettings(images=60, photos=3, reference=3, seed=5)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, dict[str, Any]]]:
    return [catalog_rows(index, SETTINGS) for index in range(26)]


def pixels(row: dict[str, dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the upload and its target, as integers that may be subtracted."""
    upload, target = (
        decode_image(row[kind][name]) for kind, name in (("catalog", "image"), ("truth", "target"))
    )
    return upload.astype(int), target.astype(int)


def border(image: np.ndarray) -> np.ndarray:
    return np.concatenate([image[[0, -1]].reshape(-1, 3), image[:, [0, -1]].reshape(-1, 3)])


def test_uploads_are_the_truth_with_its_defects(rows: list[dict[str, dict[str, Any]]]) -> None:
    counts = Counter()
    for row in rows:
        truth = row["truth"]
        if truth["broken"]:
            assert truth["target"] is truth["defects"] is None
            continue
        upload, target = pixels(row)
        assert upload.shape == target.shape
        assert (border(target) >= 250).all(), "the truth is on white"
        change = np.abs(upload - target)
        assert ("wrong_angle" in truth["defects"]) == (truth["tilt_degrees"] is not None)
        counts[tuple(truth["defects"])] += 1
        match truth["defects"]:
            case []:
                assert change.mean() < 4
            case ["watermark"]:
                allowed = MAX_OPACITY * np.maximum(target, 255 - target)
                assert (change <= allowed + 60).all(), "beyond opacity and what JPEG may do at an edge"
                assert (change.max(axis=-1) > 12).mean() > 0.002
            case ["wrong_angle"]:
                assert 8 <= abs(truth["tilt_degrees"]) <= 30
                turned = rotate(upload.astype(np.uint8), -truth["tilt_degrees"]).astype(int)
                assert np.abs(turned - target).mean() < 2.5
                assert change.mean() > np.abs(turned - target).mean() + 0.5
            case ["non_white_background"]:
                assert (border(upload) < 250).any(axis=-1).mean() > 0.5
                goods = (target < 200).any(axis=-1)
                assert np.abs(upload - target)[goods].mean() < 8
    assert set(counts) >= {(), ("watermark",), ("wrong_angle",), ("non_white_background",)}
    assert any(len(defects) == 2 for defects in counts)


def test_a_row_depends_on_seed_and_number_alone(rows: list[dict[str, dict[str, Any]]]) -> None:
    larger = SampleSettings(images=10**6, photos=0, reference=0, seed=5)
    assert catalog_rows(4, larger) == rows[4]
    assert catalog_rows(4, SampleSettings(images=60, photos=3, reference=3, seed=6)) != rows[4]


def test_rows_fit_their_schemas_and_share_no_product(rows: list[dict[str, dict[str, Any]]]) -> None:
    made = {
        "catalog": [row["catalog"] for row in rows],
        "truth": [row["truth"] for row in rows],
        "reference": [reference_rows(index, SETTINGS)["reference"] for index in range(3)],
        "photos": [photo_rows(index, SETTINGS)["photos"] for index in range(3)],
    }
    for kind, schema in SCHEMAS.items():
        assert all(set(row) == set(schema.names) for row in made[kind])
        pa.Table.from_pylist(made[kind], schema).validate(full=True)
    ids = [{row["image_id"] for row in made[kind]} for kind in ("catalog", "reference", "photos")]
    assert len(set.union(*ids)) == sum(map(len, ids)) == 26 + 3 + 3
    assert ids[0] == {row["image_id"] for row in made["truth"]}
    assert all(row["defect"] is None for row in made["reference"])
    assert (border(decode_image(made["reference"][0]["image"])) >= 250).all()


def test_photos_have_the_exact_mask() -> None:
    for index in range(3):
        row = photo_rows(index, SETTINGS)["photos"]
        photo, mask = decode_image(row["image"]), decode_image(row["mask"])[..., 0] / 255
        assert mask.shape == photo.shape[:2]
        assert row["mask_area_fraction"] == pytest.approx((mask > 0.5).mean())
        assert row["mask_uncertain_fraction"] == pytest.approx(((mask > 0.1) & (mask < 0.9)).mean())
        assert (border(composite_on_white(photo, mask)) == 255).all()
        assert row["product_type"] in PRODUCT_TYPES


def test_labels_give_the_defects_unless_they_are_wrong() -> None:
    label_map = LabelMap.default()
    errors: Counter[str | None] = Counter()
    for index in range(3000):
        defects = sample_catalog._defects_of(index, 1)
        labels, error = sample_catalog._labels(defects, np.random.default_rng(index))
        assert all(0 <= label["score"] <= 1 for label in labels)
        routed = set(label_map.route([(label["label"], label["score"]) for label in labels], None).defects)
        assert (routed == set(defects)) == (error is None)
        assert error != "missed" or routed < set(defects)
        assert error != "spurious" or routed > set(defects)
        assert bool(routed) != any(label["label"] == "clean" for label in labels)
        errors[error] += 1
    assert 0.02 < 1 - errors[None] / 3000 < 0.04
    assert min(errors["missed"], errors["spurious"]) > 20


@pytest.mark.parametrize("seed", [0, 1, -7])
def test_every_mix_is_in_small_catalogs_and_shares_hold_in_large_ones(seed: int) -> None:
    small = {sample_catalog._defects_of(index, seed) for index in range(30)}
    assert {(), *((name,) for name in DEFECTS)} <= small
    assert any(len(defects) == 2 for defects in small)
    large = Counter(sample_catalog._defects_of(index, seed) for index in range(2000))
    for share, defects in sample_catalog.MIX:
        assert large[defects] / 2000 == pytest.approx(share, abs=0.01)
    assert large[()] / 2000 == pytest.approx(0.14, abs=0.01)


def test_broken_files_and_odd_encodings_are_in_the_smallest_catalogs(
    rows: list[dict[str, dict[str, Any]]],
) -> None:
    kinds = [sample_catalog._broken_kind(index, SETTINGS) for index in range(10_000)]
    assert sum(kind is not None for kind in kinds[:30]) >= 3
    assert set(kinds[:60]) == {None, *BROKEN}
    assert sum(kind is not None for kind in kinds[60:]) == pytest.approx(50, abs=1)
    assert set(kinds[60:]) == {None, *BROKEN}
    none = SampleSettings(images=60, photos=0, reference=0, broken=0.0)
    assert not any(sample_catalog._broken_kind(index, none) for index in range(1000))
    assert {row["truth"]["encoding"] for row in rows} == {None, *ENCODINGS}


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(1, 3000))
def test_parts_hold_every_row_once(images: int, photos: int, reference: int) -> None:
    settings = SampleSettings(images=images, photos=photos, reference=reference)
    parts = [find_part(number, settings) for number in range(count_parts(settings))]
    for kind, rows in (("catalog", images), ("truth", images), ("reference", reference), ("photos", photos)):
        mine = [part for part in parts if kind in part.kinds]
        assert [row for part in mine for row in range(part.start, part.stop)] == list(range(rows))
        assert [part.number for part in mine] == list(range(len(mine)))
        assert all(0 < part.stop - part.start <= 256 for part in mine)
    with pytest.raises(IndexError):
        find_part(len(parts), settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": -1}, "--images"),
        ({"photos": -5}, "--training-photos"),
        ({"images": 0, "photos": 0, "reference": 0}, "nothing to draw"),
        ({"broken": 2.0}, "--broken is a share"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SampleSettings(**({"images": 1, "photos": 1, "reference": 1} | changes))


@pytest.mark.ray
def test_workers_write_the_bytes_that_one_process_writes(ray_local: None, tmp_path: Path) -> None:
    settings = SampleSettings(images=10, photos=2, reference=2, seed=2)
    progress: list[int] = []
    counts = write_catalog(settings, str(tmp_path / "ray"), progress.append)
    assert counts == {"catalog": 10, "truth": 10, "reference": 2, "photos": 2}
    assert sum(progress) == 14

    for number in reversed(range(count_parts(settings))):
        write_part(number, settings, str(tmp_path / "alone"))
    files = {
        folder: {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.parquet")}
        for folder in (tmp_path / "ray", tmp_path / "alone")
    }
    assert len(files[tmp_path / "ray"]) == 6
    assert files[tmp_path / "ray"] == files[tmp_path / "alone"]
    for kind, schema in SCHEMAS.items():
        table = pq.read_table(tmp_path / "ray" / kind)
        assert table.column_names == schema.names
        assert table.num_rows == counts[kind]


def test_a_parts_rows_do_not_depend_on_its_neighbours() -> None:
    settings = SampleSettings(images=0, photos=9, reference=0, seed=5)
    last = part_rows(find_part(1, settings), settings)["photos"]
    assert last == [photo_rows(8, settings)["photos"]]
