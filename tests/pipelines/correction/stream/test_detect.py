from pathlib import Path

import pyarrow as pa
import pytest

from model.detector.network import load_detector
from model.errors import BundleError
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import CATALOG
from pipelines.correction.catalog import (
    count_unlabelled,
    list_catalog,
    read_label_rows,
    read_rows,
    unlabelled,
)
from pipelines.correction.detected import file_of, read_detected
from pipelines.correction.inspect.known import Known
from pipelines.correction.inspect.pending import Inspection, InspectSettings, groups, inspect_units, sources
from pipelines.correction.inspect.survey import CLEAN, Survey
from pipelines.correction.stream.decode import DecodeSettings, decode_rows
from pipelines.correction.stream.detect import COUNTS, Detection, DetectSettings
from pipelines.correction.stream.read import ReadSettings, read_work, survey_detected
from pipelines.images.allowed_uris import AllowedUris
from pipelines.storage.parquet_units import StorageReadError
from tests.catalogs import picture, row, tree, write_catalog, write_detector
from tests.hostile_images import encode
from tests.pipelines.correction.inspected import models_of

SURE = [("watermark", pytest.approx(0.9526, abs=1e-4))]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that sees a watermark in everything, and never a wrong angle."""
    return write_detector(tmp_path_factory.mktemp("detector"), {"watermark": 3.0, "wrong_angle": -3.0})


def detect(catalog: Path, folder: Path, detector: Path) -> list[dict[str, int]]:
    version = load_detector(detector).version
    allowed = AllowedUris((str(folder.parent),))
    settings = DetectSettings(str(folder), str(detector), version, allowed=allowed)
    works = inspected(catalog, folder.with_name("plan")).works
    return Detection(settings, "cpu")(pa.concat_tables(sources(works))).to_pylist()


def inspected(catalog: Path, plan: Path) -> Inspection:
    """Inspect a catalog without earlier runs."""
    settings = InspectSettings(
        LabelMap.default(),
        models_of("m"),
        str(plan),
        Known(),
        10,
        detector=True,
        allowed=AllowedUris((str(plan.parent),)),
    )
    inspection = Inspection(Survey(10))
    for table in groups(list_catalog([str(catalog)], labelled=False).units):
        inspection.merge(inspect_units(table, settings))
    return inspection


def write_mixed(folder: Path) -> Path:
    (folder / "there.png").write_bytes(encode(picture(1), "PNG"))
    catalog = [
        row("null", labels=None),
        row("own", "wrong_angle"),
        row("empty", labels=[]),
        row("fetched", labels=None, uri=str(folder / "there.png")),
        row("gone", labels=None, uri=str(folder / "gone.png")),
        row("nowhere", labels=None, uri=None),
        row("broken", labels=None, image=b"no image"),
        *(row(f"more-{n}", labels=None) for n in range(30)),
    ]
    return write_catalog(folder / "catalog" / "a.parquet", catalog, row_group_size=20).parent


def test_rows_without_labels_get_the_detector_s_and_others_keep_theirs(
    detector: Path, tmp_path: Path
) -> None:
    catalog, folder = write_mixed(tmp_path), tmp_path / "labels"
    counts = detect(catalog, folder, detector)
    assert {name: sum(one[name] for one in counts) for name in COUNTS.names} == {
        "rows": 37,
        "unlabelled": 35,
        "unreadable": 3,
    }
    units = list_catalog([str(catalog)]).units
    labels_of = {one[0]: one[1] for unit in units for one in read_label_rows(unit, str(folder))}
    assert labels_of["own"] == [("wrong_angle", pytest.approx(0.9))]
    assert labels_of["null"] == labels_of["fetched"] == labels_of["more-29"] == SURE
    assert labels_of["empty"] == labels_of["gone"] == labels_of["nowhere"] == labels_of["broken"] == []
    assert count_unlabelled(units) == 35

    tables = [table for unit in units for table in read_rows(unit, read_detected(str(folder), unit))]
    read = {one["image_id"]: one["labels"] for table in tables for one in table.to_pylist()}
    assert {
        name: [(label["label"], label["score"]) for label in labels or ()] for name, labels in read.items()
    } == {
        name: [(label, pytest.approx(score)) for label, score in labels] for name, labels in labels_of.items()
    }
    inspection = inspected(catalog, tmp_path / "plan")
    for work in inspection.works:
        for one in survey_detected(
            sources([work])[0], LabelMap.default(), models_of("m"), 10, str(folder)
        ).to_pylist():
            inspection.survey.merge(one["sets"])
    assert dict(inspection.survey.rows) == {"watermark": 32, "wrong_angle": 1, CLEAN: 4}


def test_an_image_that_the_detector_could_not_read_does_not_pass_for_one_without_defects(
    detector: Path, tmp_path: Path
) -> None:
    catalog, folder = write_mixed(tmp_path), tmp_path / "labels"
    detect(catalog, folder, detector)
    (tmp_path / "gone.png").write_bytes(encode(picture(2), "PNG"))  # as after a short outage of its storage
    settings = DecodeSettings(LabelMap.default(), models_of("m"), allowed=AllowedUris((str(tmp_path),)))
    decoded = {
        one["image_id"]: one["error_code"]
        for work in inspected(catalog, tmp_path / "plan").works
        for table in read_work(work, ReadSettings(LabelMap.default(), str(folder)))
        for part in decode_rows(table, settings)
        for one in part.to_pylist()
    }
    codes = {name: code for name, code in decoded.items() if code is not None}
    assert codes == {"gone": "not_labelled", "nowhere": "no_image", "broken": "unknown_format"}


def test_a_task_that_is_tried_again_writes_the_same_bytes(detector: Path, tmp_path: Path) -> None:
    catalog, folder = write_mixed(tmp_path), tmp_path / "labels"
    detect(catalog, folder, detector)
    before = tree(folder)
    detect(catalog, folder, detector)
    assert tree(folder) == before
    assert len(before) == len(list_catalog([str(catalog)]).units)


def test_a_catalog_without_a_column_of_labels_has_none(tmp_path: Path, detector: Path) -> None:
    schema = CATALOG.remove(CATALOG.get_field_index("labels"))
    write_catalog(tmp_path / "catalog" / "a.parquet", [row("a"), row("b")], schema=schema)
    [count] = detect(tmp_path / "catalog", tmp_path / "labels", detector)
    assert count == {"rows": 2, "unlabelled": 2, "unreadable": 0}
    [unit] = list_catalog([str(tmp_path / "catalog")], labelled=False).units
    assert [one[1] for one in read_label_rows(unit, str(tmp_path / "labels"))] == [SURE, SURE]


def test_a_plain_label_that_is_null_is_no_label() -> None:
    table = pa.table({"image_id": ["a", "b"], "label": pa.array(["clean", None])})
    assert unlabelled(table) == [False, True]


def test_missing_files_of_labels_are_an_error(tmp_path: Path) -> None:
    write_catalog(tmp_path / "a.parquet", [row("a")])
    [unit] = list_catalog([str(tmp_path)]).units
    with pytest.raises(StorageReadError, match=file_of("labels", unit)):
        read_detected("labels", unit)


def test_a_detector_that_was_replaced_is_refused(detector: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="--detector"):
        Detection(DetectSettings(str(tmp_path), str(detector), "0" * 64), "cpu")
