"""Inspection: a changed row is never taken for done, and an unchanged row never for new."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.errors import ConfigurationError, RunError
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import CATALOG, MANIFEST
from pipelines.correction.catalog import list_catalog
from pipelines.correction.inspect import repeated
from pipelines.correction.inspect.known import Known, build_known
from pipelines.correction.inspect.pending import (
    PLAN,
    Inspection,
    InspectSettings,
    groups,
    inspect_units,
    is_pending,
    plan_of,
    read_plan,
)
from pipelines.correction.inspect.repeated import find_repeated, merge_repeated
from pipelines.correction.inspect.survey import CLEAN, Survey
from pipelines.correction.layout import Layers
from pipelines.correction.row_keys import KeySet, to_keys
from pipelines.correction.rows import to_table
from pipelines.correction.stream.read import ReadSettings, read_work
from pipelines.images.allowed_uris import AllowedUris
from tests.catalogs import row, rows, write_catalog

MAP = LabelMap.default()
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("label", pa.string()),
        ("product_type", pa.string()),
        ("sha256", pa.string()),
    ]
)
#: id, product type, label, and hash and URI of the image.
ROWS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from([None, "mug"]),
        st.sampled_from(["watermark", "clean"]),
        st.sampled_from([None, "1", "2"]),
        st.sampled_from([None, "/gone/1", "/gone/2"]),
    ),
    max_size=8,
)


def inspect(
    catalog: Path, known: Known, identity: str = "model", **given: Any
) -> tuple[list[bool], list[Any], Inspection]:
    """Return which rows need work, in the catalog's order, their keys, and the inspection."""
    plan, inspection = look(catalog, known, identity, **given)
    return is_pending(plan).tolist(), plan.column("row_key").to_pylist(), inspection


def look(catalog: Path, known: Known, identity: str = "model", **given: Any) -> tuple[pa.Table, Inspection]:
    """Return PLAN of all rows, in the catalog's order, and the inspection."""
    allowed = AllowedUris((str(catalog.parent), "/gone"))
    given = {"label_map": MAP, "sample_size": 5, **given}
    inspect_settings = InspectSettings(
        identity=identity, plan=str(catalog.with_name("plan")), known=known, allowed=allowed, **given
    )
    inspection = Inspection(Survey(5))
    tables = list(groups(list_catalog([str(catalog)], score_scale=given.get("score_scale", 1)).units))
    first = [inspect_units(table, inspect_settings) for table in tables]
    plans = [plan_of(table, inspect_settings.plan) for table in tables]
    repeated_ids = find_repeated(plans)
    for inspected in first:
        inspection.merge(inspected, repeated_ids.affected)
    for table, plan in zip(tables, plans, strict=True):
        if plan in repeated_ids.affected:
            inspection.merge_again(inspect_units(table, replace(inspect_settings, repeated=repeated_ids)))
    return pa.concat_tables([PLAN.empty_table(), *(pq.read_table(part) for part in plans)]), inspection


def write(folder: Path, catalog: Sequence[tuple[str | None, ...]], row_group_size: int = 3) -> Path:
    for old in folder.rglob("*.parquet"):
        old.unlink()
    names = ("image_id", "product_type", "label", "sha256", "uri")
    records = [{"uri": f"/gone/{one[0]}", **dict(zip(names, one, strict=False))} for one in catalog]
    return write_catalog(folder / "catalog" / "a.parquet", records, row_group_size, SCHEMA).parent


def remember(folder: Path, keys: list[bytes], ids: list[str]) -> Known:
    records = [
        {"image_id": name, "row_key": key, "status": "passthrough"}
        for name, key in zip(ids, keys, strict=True)
    ]
    pq.write_table(to_table(records, MANIFEST), folder / "manifest.parquet")
    return build_known(Layers([[str(folder / "manifest.parquet")]]), retry_failed=False)[0]


def is_one(same_id: Sequence[tuple[str | None, ...]]) -> bool:
    """Return whether rows of one id are one row, by the documented rule."""
    _, kinds, labels, hashes, uris = (set(column) for column in zip(*same_id, strict=True))
    one_image = any(len(names) == 1 and None not in names for names in (hashes, uris))
    return len(same_id) == 1 or (len(kinds) == len(labels) == 1 and one_image)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS, ROWS)
def test_done_is_exactly_what_is_the_same(
    tmp_path: Path, before: list[tuple[str | None, ...]], after: list[tuple[str | None, ...]]
) -> None:
    plan, _ = look(write(tmp_path, before), Known())
    made = [
        (key, str(one[0]))
        for one, key, times in zip(
            before, plan["row_key"].to_pylist(), plan["times"].to_pylist(), strict=True
        )
        for _ in range(times)
    ]
    assert Counter(name for _, name in made) == Counter(one[0] for one in before)
    known = remember(tmp_path, [key for key, _ in made], [name for _, name in made])
    plan, inspection = look(write(tmp_path, after, row_group_size=2), known)
    pending, times, refused = (plan[name].to_pylist() for name in ("pending", "times", "refused"))
    # The rows of an id are either the same as before, or all of them are made anew.
    for name in "abc":
        old, new = ([one for one in rows if one[0] == name] for rows in (before, after))
        positions = [position for position, one in enumerate(after) if one[0] == name]
        done = Counter(old) == Counter(new)
        assert sum(times[position] for position in positions if pending[position]) == (
            0 if done else len(new)
        )
        fails = bool(new) and not is_one(new)
        assert [refused[position] for position in positions] == [len(new) if fails else 0] * len(new)
        assert all(times[position] == 1 for position in positions) or not fails
    assert inspection.pending == sum(count for count, needed in zip(times, pending, strict=True) if needed)
    assert inspection.ids.rows == len(after)


@pytest.mark.parametrize(("hashes", "fails"), [(("1", "1"), False), (("1", "2"), True), ((None, None), True)])
def test_equal_uris_do_not_make_embedded_images_equal(
    tmp_path: Path, hashes: tuple[str | None, ...], fails: bool
) -> None:
    catalog = [row("a", "watermark", image=b"1", uri="https://shop/page", sha256=one) for one in hashes]
    schema = CATALOG.append(pa.field("sha256", pa.string()))
    folder = write_catalog(tmp_path / "catalog" / "a.parquet", catalog, schema=schema).parent
    (work,) = look(folder, Known())[1].works
    (read,) = [one for table in read_work(work, ReadSettings(MAP)) for one in table.to_pylist()]
    assert (read["times"], read["refusal"] is not None) == (2, fails)


def test_repeated_ids_do_not_depend_on_the_number_of_tasks(tmp_path: Path) -> None:
    catalog = [(f"{n % 40}", None, "watermark" if n % 3 else "clean", f"{n % 7}") for n in range(60)]
    write(tmp_path, [(*one, None) for one in catalog])
    look(tmp_path / "catalog", Known())
    plans = [str(path) for path in sorted((tmp_path / "plan").iterdir())]
    whole = merge_repeated([find_repeated(plans)])
    parts = merge_repeated([find_repeated(plans, shard, 3) for shard in range(3)])
    assert len(whole.ids) == whole.refused == 20
    assert (parts.ids == whole.ids).all()
    assert parts.affected == whole.affected == set(plans)


def test_if_most_ids_repeat_the_error_doubts_the_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(
        write(tmp_path, [(name, None, "watermark", number, None) for name in "ab" for number in "12"]),
        Known(),
    )
    monkeypatch.setattr(repeated, "MOST_REFUSED", 1)
    repeated_ids = find_repeated([str(path) for path in (tmp_path / "plan").iterdir()])
    with pytest.raises(RunError, match="--catalog: 2 values of image_id occur more than once"):
        merge_repeated([repeated_ids])


def test_another_model_or_configuration_makes_everything_new(tmp_path: Path) -> None:
    catalog = write(tmp_path, [(name, None, "watermark", "1") for name in "abcd"])
    _, keys, _ = inspect(catalog, Known())
    known = remember(tmp_path, keys, list("abcd"))
    assert not any(inspect(catalog, known)[0])
    assert all(inspect(catalog, known, "another model")[0])


def test_rows_that_wait_for_the_detector_are_known_by_their_image(tmp_path: Path) -> None:
    catalog = write_catalog(
        tmp_path / "catalog" / "a.parquet", [row("a", labels=None), row("b", "watermark")]
    ).parent
    _, keys, inspection = inspect(catalog, Known(), detector=True)
    assert dict(inspection.survey.rows) == {"watermark": 1}
    known = remember(tmp_path, keys, ["a", "b"])
    assert inspect(catalog, known, detector=True)[0] == [False, False]
    # Without a detector it is a row without a defect.
    assert inspect(catalog, known)[0] == [True, False]


@pytest.mark.parametrize("types", [[], ["mug"]])
def test_an_image_of_another_type_is_another_where_rules_are_for_some_types(
    tmp_path: Path, types: list[str]
) -> None:
    """Such rules decide the meaning of its labels, and of a gate's."""
    rule = MAP.rules[0]
    label_map = replace(MAP, rules=(replace(rule, product_types=tuple(types)), *MAP.rules[1:]))
    works = []
    for kind in ("mug", "shoe"):
        catalog = write_catalog(
            tmp_path / "catalog" / "a.parquet", [row("a", labels=None, product_type=kind)]
        ).parent
        units = inspect(catalog, Known(), detector=True, label_map=label_map)[2].works
        works.append(read_plan(units[0]).column("work_key").to_pylist())
    assert (works[0] != works[1]) == bool(types)


def test_images_are_known_by_what_the_storage_says_of_them(tmp_path: Path) -> None:
    there = tmp_path / "there.png"
    there.write_bytes(b"1")
    fetched = [
        row("there", "watermark", uri=str(there)),
        row("gone", "watermark", uri=str(tmp_path / "gone")),
    ]
    fetched += [row("nowhere", "clean", uri=None), row("refused", "clean", uri="gopher://old/picture")]
    catalog = write_catalog(tmp_path / "catalog" / "a.parquet", fetched).parent
    write_catalog(catalog / "b.parquet", [row("embedded", "watermark")])
    _, keys, _ = inspect(catalog, Known())
    known = remember(tmp_path, keys, ["there", "gone", "nowhere", "refused", "embedded"])
    assert inspect(catalog, known)[0] == [False] * 5
    there.write_bytes(b"2")
    (tmp_path / "gone").write_bytes(b"come")
    write_catalog(catalog / "b.parquet", [row("embedded", "watermark")])
    assert inspect(catalog, known)[0] == [True, True, False, False, True]


def test_a_units_rows_are_found_again_in_a_large_plan(tmp_path: Path) -> None:
    catalog = write(
        tmp_path, [(f"{n}", None, "clean" if n == 4100 else "watermark", "1") for n in range(4200)], 4200
    )
    _, keys, inspection = inspect(catalog, Known())
    known = remember(tmp_path, keys[:3000], [f"{n}" for n in range(3000)])
    _, _, inspection = inspect(catalog, known, compare=True)
    assert inspection.pending == 1200
    row_keys = [key for work in inspection.works for key in read_plan(work).column("row_key").to_pylist()]
    first = inspection.works[0].unit.first
    assert row_keys == keys[first:]
    assert sum(is_pending(read_plan(work)).sum() for work in inspection.works) == 1200


def test_units_are_read_for_pending_rows_and_for_comparison(tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path / "catalog" / "a.parquet", rows(10)).parent
    _, keys, inspection = inspect(catalog, Known(), compare=True)
    assert len(inspection.needed(None)) == 1
    known = remember(tmp_path, keys, [f"image-{n}" for n in range(10)])
    _, _, inspection = inspect(catalog, known, compare=True)
    threshold = inspection.survey.sample(5).thresholds[CLEAN]
    assert (inspection.pending, len(inspection.needed(None)), len(inspection.needed(threshold))) == (0, 0, 1)
    assert dict(inspection.survey.rows) == {CLEAN: 2}


def scored(folder: Path, *scores: float) -> Path:
    catalog = [
        row(name, labels=[{"label": "watermark", "score": score}], uri="/gone/x")
        for name, score in zip("abcd", scores, strict=True)
    ]
    return write_catalog(folder / "catalog" / "a.parquet", catalog).parent


def test_another_scale_corrects_again_only_rows_whose_meaning_changes(tmp_path: Path) -> None:
    catalog = scored(tmp_path, 10, 40, 60, 90)
    _, keys, inspection = inspect(catalog, Known(), score_scale=100)
    assert dict(inspection.survey.rows) == {CLEAN: 2, "watermark": 2}
    assert inspection.top_score == pytest.approx(0.9)
    known = remember(tmp_path, keys, list("abcd"))
    assert not any(inspect(catalog, known, score_scale=100)[0])
    assert inspect(catalog, known, score_scale=130)[0] == [False, False, True, False]
    # The same scores on a scale of 0 to 1 mean the same.
    _, small, _ = inspect(scored(tmp_path, 0.1, 0.4, 0.6, 0.9), Known())
    assert small == keys


@pytest.mark.parametrize("score", [float("nan"), 1.5, -1.0])
def test_a_score_outside_0_to_1_is_named(tmp_path: Path, score: float) -> None:
    catalog = scored(tmp_path, 0.5, 0.5, score, 0.5)
    table = pq.read_table(catalog / "a.parquet")
    pq.write_table(table, catalog / "a.parquet", write_statistics=False)
    with pytest.raises(
        ConfigurationError, match=r"a.parquet: row 2 \('c'\) has label 'watermark' with score"
    ):
        inspect(catalog, Known())


def test_a_row_without_an_id_is_named(tmp_path: Path) -> None:
    catalog = write_catalog(
        tmp_path / "catalog" / "a.parquet", [row("a"), {**row("c"), "image_id": ""}]
    ).parent
    with pytest.raises(ConfigurationError, match=r"a.parquet: row 1 has no image_id"):
        inspect(catalog, Known())


def test_repeated_rows_that_are_done_count_neither_for_fid_nor_for_pictures(tmp_path: Path) -> None:
    same = ("a", None, "watermark", "1")
    folder = write(tmp_path, [same, same, ("b", None, "watermark", "2")])
    plan, inspection = look(folder, Known())
    assert inspection.survey.rows == {"watermark": 2}  # the two are one image
    done = 2 * plan.column("row_key").to_pylist()[:1]
    _, inspection = look(folder, Known(KeySet(to_keys(done))))
    assert (inspection.pending, inspection.survey.rows) == (1, {"watermark": 1})
