"""Which rows need work: never a changed one is taken for done, and none that has not changed for new."""

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
from pipelines.contracts.schemas import MANIFEST
from pipelines.correction.inspect import pending, repeated
from pipelines.correction.inspect.known import Known, build_known
from pipelines.correction.inspect.pending import (
    IS_ERASED,
    Inspection,
    Work,
    is_pending,
    read_plan,
    sources,
    to_read,
)
from pipelines.correction.inspect.repeated import find_repeated, merge_repeated
from pipelines.correction.inspect.survey import CLEAN
from pipelines.correction.rows import to_table
from pipelines.published.layout import Layers
from pipelines.published.row_keys import KeySet, id_keys, to_keys
from pipelines.storage.parquet_units import Unit
from tests.catalogs import row, rows, write_catalog
from tests.pipelines.correction.inspected import look

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
#: id, product type, label, hash of the image, and where it is.
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
    """Which rows need work in the catalog's order, their keys, and the whole."""
    plan, inspection = look(catalog, known, identity, **given)
    return is_pending(plan).tolist(), plan.column("row_key").to_pylist(), inspection


def write(folder: Path, catalog: Sequence[tuple[str | None, ...]], row_group_size: int = 3) -> Path:
    for old in folder.rglob("*.parquet"):
        old.unlink()
    names = ("image_id", "product_type", "label", "sha256", "uri")
    records = [{"uri": f"/gone/{one[0]}", **dict(zip(names, one, strict=False))} for one in catalog]
    return write_catalog(folder / "catalog" / "a.parquet", records, row_group_size, SCHEMA).parent


def remember(folder: Path, keys: list[bytes], ids: list[str]) -> Known:
    found = [
        {"image_id": name, "row_key": key, "status": "passthrough"}
        for name, key in zip(ids, keys, strict=True)
    ]
    pq.write_table(to_table(found, MANIFEST), folder / "manifest.parquet")
    return build_known(Layers([[str(folder / "manifest.parquet")]]), retry_failed=())[0]


def is_one(same_id: Sequence[tuple[str | None, ...]]) -> bool:
    """What the catalog's readers are told of rows of one id."""
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
    # Either the rows of an id are those that were there before, or all of them are made anew.
    for name in "abc":
        old, new = ([one for one in rows if one[0] == name] for rows in (before, after))
        places = [place for place, one in enumerate(after) if one[0] == name]
        done = Counter(old) == Counter(new)
        assert sum(times[place] for place in places if pending[place]) == (0 if done else len(new))
        fails = bool(new) and not is_one(new)
        assert [refused[place] for place in places] == [len(new) if fails else 0] * len(new)
        assert all(times[place] == 1 for place in places) or not fails
    assert inspection.pending == sum(count for count, needed in zip(times, pending, strict=True) if needed)
    assert inspection.ids.rows == len(after)


def test_repeated_ids_are_the_same_however_many_tasks_look_for_them(tmp_path: Path) -> None:
    catalog = [(f"{n % 40}", None, "watermark" if n % 3 else "clean", f"{n % 7}") for n in range(60)]
    write(tmp_path, [(*one, None) for one in catalog])
    look(tmp_path / "catalog", Known())
    plans = [str(path) for path in sorted((tmp_path / "plan").iterdir())]
    whole = merge_repeated([find_repeated(plans)])
    parts = merge_repeated([find_repeated(plans, shard, 3) for shard in range(3)])
    assert len(whole.ids) == whole.refused == 20
    assert (parts.ids == whole.ids).all()
    assert parts.affected == whole.affected == set(plans)


def test_where_most_ids_repeat_the_column_is_called_in_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(
        write(tmp_path, [(name, None, "watermark", number, None) for name in "ab" for number in "12"]),
        Known(),
    )
    monkeypatch.setattr(repeated, "MOST_REFUSED", 1)
    found = find_repeated([str(path) for path in (tmp_path / "plan").iterdir()])
    with pytest.raises(RunError, match="--catalog: 2 values of image_id occur more than once"):
        merge_repeated([found])


def test_rows_of_an_erased_id_are_done_once_and_anew_if_it_is_readmitted(tmp_path: Path) -> None:
    """Of `b`, two rows count as one; those of `c` fail anyway."""
    rows = [("a", None, "watermark", "1"), *[("b", None, "watermark", "2")] * 2]
    rows += [
        ("c", None, "watermark", "3"),
        ("c", None, "watermark", "4", "/gone/4"),
        ("d", None, "clean", "5"),
    ]
    catalog = write(tmp_path, rows)
    _, keys, _ = inspect(catalog, Known())
    before = remember(tmp_path, [keys[0], *[keys[1]] * 2, *keys[3:]], [one[0] for one in rows])
    assert not any(inspect(catalog, before)[0])
    erased = KeySet(id_keys(["a", "b", "c", "elsewhere"]))
    plan, inspection = look(catalog, before, erased=erased)
    assert is_pending(plan).tolist() == [True, True, False, True, True, False]
    assert plan["refused"].to_pylist() == [IS_ERASED] * 5 + [0]
    assert not to_read(plan).any()  # no detector sees them
    assert plan["input_version"].to_pylist() == [None] * 6  # which may be a hash of the image
    assert plan["times"].to_pylist() == [1, 2, 0, 1, 1, 1]
    assert inspection.pending == 5
    now = plan["row_key"].to_pylist()
    after = remember(tmp_path, [now[0], *[now[1]] * 2, *now[3:]], [one[0] for one in rows])
    assert not is_pending(look(catalog, after, erased=erased)[0]).any()
    assert inspect(catalog, after)[0] == [True, True, False, True, True, False]


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
    # Without a detector it is a row that has nothing wrong.
    assert inspect(catalog, known)[0] == [True, False]


@pytest.mark.parametrize("types", [[], ["mug"]])
def test_an_image_of_another_type_is_another_where_rules_are_for_some_types(
    tmp_path: Path, types: list[str]
) -> None:
    """What its labels, or a gate's, mean is decided by them."""
    rule = MAP.rules[0]
    label_map = replace(MAP, rules=(replace(rule, product_types=tuple(types)), *MAP.rules[1:]))
    works = []
    for kind in ("mug", "shoe"):
        catalog = write_catalog(
            tmp_path / "catalog" / "a.parquet", [row("a", labels=None, product_type=kind)]
        ).parent
        found = inspect(catalog, Known(), detector=True, label_map=label_map)[2].works
        works.append(read_plan(found[0]).column("work_key").to_pylist())
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
    found = [key for work in inspection.works for key in read_plan(work).column("row_key").to_pylist()]
    first = inspection.works[0].unit.first
    assert found == keys[first:]
    assert sum(is_pending(read_plan(work)).sum() for work in inspection.works) == 1200


def test_units_are_read_where_something_is_to_do_or_to_compare_with(tmp_path: Path) -> None:
    catalog = write_catalog(tmp_path / "catalog" / "a.parquet", rows(10)).parent
    _, keys, inspection = inspect(catalog, Known(), compare=True)
    assert len(inspection.needed(None)) == 1
    known = remember(tmp_path, keys, [f"image-{n}" for n in range(10)])
    _, _, inspection = inspect(catalog, known, compare=True)
    threshold = inspection.survey.sample(5).thresholds[CLEAN]
    assert (inspection.pending, len(inspection.needed(None)), len(inspection.needed(threshold))) == (0, 0, 1)
    assert dict(inspection.survey.rows) == {CLEAN: 2}


@pytest.mark.parametrize(
    ("works", "expected"),
    [
        ([3, 3], [[3], [3]]),  # few rows: a unit for each task
        ([3] * 8, [[3, 3]] * 4),
        ([0, 1, 9, 1, 1, 1, 1, 1, 3], [[0, 1], [9], [1, 1, 1, 1], [1, 3]]),
        ([0] * 9 + [30], [[0] * 5, [0] * 4, [30]]),  # never more than five units
    ],
)
def test_neighbours_share_a_task_where_a_task_for_each_would_be_too_many(
    monkeypatch: pytest.MonkeyPatch, works: list[int], expected: list[list[int]]
) -> None:
    monkeypatch.setattr(pending, "MOST_SOURCES", 4 if len(works) > 2 else 50)
    monkeypatch.setattr(pending, "SOURCE_UNITS", 5)
    units = [Work(Unit("a", (0,), 0, 0, 40), "plan", 0, count) for count in works]
    tables = sources(units)
    assert [table.column("pending").to_pylist() for table in tables] == expected
    assert [work for table in tables for work in Work.from_table(table)] == units


def scored(folder: Path, *scores: float) -> Path:
    catalog = [
        row(name, labels=[{"label": "watermark", "score": score}], uri="/gone/x")
        for name, score in zip("abcd", scores, strict=True)
    ]
    return write_catalog(folder / "catalog" / "a.parquet", catalog).parent


def test_another_scale_re_does_the_rows_that_it_gives_another_meaning(tmp_path: Path) -> None:
    catalog = scored(tmp_path, 10, 40, 60, 90)
    _, keys, inspection = inspect(catalog, Known(), score_scale=100)
    assert dict(inspection.survey.rows) == {CLEAN: 2, "watermark": 2}
    assert inspection.top_score == pytest.approx(0.9)
    known = remember(tmp_path, keys, list("abcd"))
    assert not any(inspect(catalog, known, score_scale=100)[0])
    assert inspect(catalog, known, score_scale=130)[0] == [False, False, True, False]
    # The same scores from a detector that says 0 to 1 mean the same.
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
