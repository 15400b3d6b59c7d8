from pathlib import Path

import pytest

from model.errors import ConfigurationError
from pipelines.correction.read_catalog import list_catalog
from pipelines.correction.survey import CLEAN, UNKNOWN, merge_partials, survey_here, survey_unit
from pipelines.label_map import LabelMap
from pipelines.sampling import sample_hash
from tests.catalogs import row, rows, write_catalog

MAP = LabelMap.default()


def test_routes_are_counted_and_sampled_by_the_smallest_hashes(tmp_path: Path) -> None:
    catalog = [*rows(50), row("odd", "polka dots"), row("both", "polka dots", "watermark")]
    write_catalog(tmp_path / "a.parquet", catalog[:30], row_group_size=7)
    write_catalog(tmp_path / "b.parquet", catalog[30:])
    survey = survey_here(list_catalog([str(tmp_path)]).units, MAP, 4)
    # Of two defects the first in the order of correction counts: wrong_angle.
    assert survey.rows == {
        "watermark": 11,
        "non_white_background": 10,
        CLEAN: 10,
        "wrong_angle": 20,
        UNKNOWN: 1,
    }
    assert survey.total == 52
    clean = [one["image_id"] for one in catalog if one["labels"][0]["label"] == "clean"]
    sample = survey.sample(4)
    assert {name for name in clean if sample.has(CLEAN, name)} == set(sorted(clean, key=sample_hash)[:4])
    assert sum(survey.sample(2).has(CLEAN, name) for name in clean) == 2


def test_the_order_of_partial_results_does_not_matter(tmp_path: Path) -> None:
    for index in range(4):
        write_catalog(tmp_path / f"{index}.parquet", [row(f"{index}-{n}", "watermark") for n in range(9)])
    units = list_catalog([str(tmp_path)]).units
    partials = [survey_unit(unit, MAP, 5) for unit in units]
    forward, backward = (merge_partials(order, 5, units) for order in (partials, partials[::-1]))
    assert forward.rows == backward.rows
    assert forward.sample(5) == backward.sample(5)


def test_a_row_without_an_id_is_named(tmp_path: Path) -> None:
    write_catalog(tmp_path / "a.parquet", [row("a"), row("b"), {**row("c"), "image_id": ""}])
    with pytest.raises(ConfigurationError, match=r"a.parquet: row 2 has no image_id"):
        survey_here(list_catalog([str(tmp_path)]).units, MAP, 5)


def test_an_id_that_occurs_twice_is_named_with_its_places(tmp_path: Path) -> None:
    write_catalog(tmp_path / "a.parquet", rows(40))
    write_catalog(tmp_path / "b.parquet", [row("x"), row("image-17")])
    with pytest.raises(
        ConfigurationError, match=r"occurs 2 times: .*a.parquet row 17 .* and .*b.parquet row 1 "
    ):
        survey_here(list_catalog([str(tmp_path)]).units, MAP, 5)


def test_an_empty_catalog_has_no_rows(tmp_path: Path) -> None:
    write_catalog(tmp_path / "a.parquet", [])
    survey = survey_here(list_catalog([str(tmp_path)]).units, MAP, 5)
    assert survey.total == 0
    assert survey.sample(5).thresholds == {}
