from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from model.errors import RunError
from pipelines.contracts.schemas import MANIFEST
from pipelines.correction.inspect.known import Known, build_known
from pipelines.correction.publish.assemble import PART_ROWS, Assembled, assemble, sources
from pipelines.correction.rows import to_table
from pipelines.published.layout import Layers
from pipelines.published.publish import check_parts
from pipelines.published.row_keys import IdSums, KeySet, id_keys, to_keys
from tests.catalogs import read_parquet
from tests.manifests import key, keys_of, manifest, staying
from tests.pipelines.correction.inspected import models_of


def test_few_parts_come_of_many(tmp_path: Path) -> None:
    for number in range(10):
        pq.write_table(manifest(f"old {number}"), tmp_path / f"{number}.parquet")
    pq.write_table(manifest("new", status="failed"), tmp_path / "journal.parquet")
    old = [str(tmp_path / f"{number}.parquet") for number in range(10)]
    layers, journal = [old], [str(tmp_path / "journal.parquet")]
    known, counts = build_known(Layers(layers), retry_failed=())
    assert counts.rows == ((1,) * 10,)
    assert counts.total == 10
    assert counts.statuses == {"corrected": 10}
    assembled = Assembled()
    wanted = list(sources([*layers, journal], [*counts.rows, [1]]))
    assert len(wanted) == 2
    for table in wanted:
        part = assemble(
            table,
            str(tmp_path / "next"),
            str(tmp_path / "aside"),
            known,
            staying([f"old {n}" for n in range(9)]),
            models_of("m"),
        )
        assembled.merge(part)
    assert sorted(one["image_id"] for one in read_parquet(tmp_path / "next")) == [
        "new",
        *(f"old {n}" for n in range(9)),
    ]
    assert {path.name for path in (tmp_path / "next").iterdir()} == set(assembled.parts)
    assert dict(assembled.statuses) == {"corrected": 9, "passthrough": 0, "rejected": 0, "failed": 1}
    ids = IdSums()
    ids.add(id_keys(["new", *(f"old {n}" for n in range(9))]))
    assert not ids.different(assembled.ids)


def test_two_parts_with_the_same_ids_are_two_parts(tmp_path: Path) -> None:
    """Rows of one id may lie apart, and all else of their parts may have gone."""
    parts = []
    for number in range(2):
        parts.append(str(tmp_path / f"{number}.parquet"))
        pq.write_table(manifest("twice", f"gone {number}"), parts[-1])
    assembled = Assembled()
    for part in parts:
        assembled.merge(
            assemble(
                next(sources([[part]], [[2]])),
                str(tmp_path / "next"),
                str(tmp_path / "aside"),
                Known(superseded=(KeySet(),)),
                staying(["twice"]),
                models_of("m"),
            )
        )
    written = [str(path) for path in (tmp_path / "next").iterdir()]
    check_parts(assembled.parts, written)
    assert [one["image_id"] for one in read_parquet(tmp_path / "next")] == ["twice", "twice"]
    for wrong in (written[1:], [*written, "other.parquet"], [written[0], "other.parquet"]):
        with pytest.raises(RunError, match="nothing was published"):
            check_parts(assembled.parts, wrong)


def test_parts_have_about_as_many_rows_as_they_should() -> None:
    parts = [f"{n}" for n in range(1000)]
    (first, *_), whole = (
        list(sources([parts], [[rows] * 1000])) for rows in (PART_ROWS / 333, PART_ROWS / 2000)
    )
    assert len(first["parts"][0]) == 333
    assert len(whole) == 1


def test_parts_do_not_grow_with_the_nights() -> None:
    rng = np.random.default_rng(0)
    rows = [PART_ROWS] * 10
    for _ in range(200):
        rng.shuffle(rows)  # names are hashes
        names = [str(number) for number in range(len(rows))]
        groups = [table["parts"][0].as_py() for table in sources([names, ["new"]], [rows, [500]])]
        rows = [sum(rows[int(name)] if name != "new" else 500 for name in group) for group in groups]
    assert sum(rows) == 10 * PART_ROWS + 200 * 500
    assert max(rows) <= PART_ROWS
    assert len(rows) < 2 * sum(rows) / PART_ROWS + 2


def test_a_later_attempts_rows_stand_for_those_of_earlier_ones(tmp_path: Path) -> None:
    layers = []
    for number, names in enumerate((["a", "b", "c"], ["b", "c"], ["c"])):
        rows = [
            {
                "image_id": name,
                "row_key": key(f"{name}{number}"),
                "status": "failed" if name == "a" else "corrected",
            }
            for name in names
        ]
        pq.write_table(to_table(rows, MANIFEST), tmp_path / f"{number}.parquet")
        layers.append([str(tmp_path / f"{number}.parquet")])
    known, counts = build_known(Layers(layers), retry_failed=())
    assert keys_of(known.rows) == sorted([key("a0"), key("b1"), key("c2")])
    assert [layer.has(id_keys("abc")).tolist() for layer in known.superseded] == [
        [False, True, True],
        [False, False, True],
        [False, False, False],
    ]
    assert counts.rows == ((3,), (2,), (1,))
    again, _ = build_known(Layers(layers), retry_failed=("all",))
    assert keys_of(again.rows) == sorted([key("b1"), key("c2")])
    assert len(build_known(Layers(), retry_failed=())[0].rows) == len(Known().rows) == 0


def test_failed_rows_do_not_stay_if_they_are_tried_again(tmp_path: Path) -> None:
    """Of the rows of one id and key, some have failed; the others are known."""
    outcomes = (("failed", "missing"), ("failed", "corrupt"), ("failed", None), ("rejected", "missing"))
    rows = [
        {"image_id": "a", "row_key": key("a"), "status": status, "error_code": code}
        for status, code in outcomes
    ]
    pq.write_table(to_table(rows, MANIFEST), tmp_path / "m.parquet")
    for codes, stay in (((), 4), (("missing",), 3), (("missing", "corrupt"), 2), (("all",), 1)):
        known, _ = build_known(Layers([[str(tmp_path / "m.parquet")]]), codes)
        assert known.rows.copies(to_keys(keys_of(known.rows)[:1])).tolist() == [stay]
        assembled = Assembled()
        (source,) = sources([[str(tmp_path / "m.parquet")]], [[4]])
        folders = str(tmp_path / "next"), str(tmp_path / f"aside {stay}")
        assembled.merge(assemble(source, *folders, known, staying(["a"]), models_of("m")))
        assert (assembled.rows, assembled.statuses["failed"], assembled.aside) == (stay, stay - 1, 4 - stay)
