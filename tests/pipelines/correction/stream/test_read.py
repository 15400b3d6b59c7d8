"""Which rows of a catalog are read for work, and what travels with them."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.sampling import Sample, sample_hash
from pipelines.contracts.schemas import CATALOG, MANIFEST
from pipelines.correction.catalog import CATALOG_ROW
from pipelines.correction.inspect.known import Known, build_known
from pipelines.correction.inspect.pending import Inspection, sources
from pipelines.correction.inspect.survey import CLEAN
from pipelines.correction.rows import to_table
from pipelines.correction.stream.read import ReadSettings, read_work, read_works
from pipelines.published.layout import Layers
from pipelines.published.row_keys import KeySet, id_keys
from tests.catalogs import row, rows, write_catalog
from tests.pipelines.correction.inspected import look

MAP = LabelMap.default()


def read(inspection: Inspection, **settings: Any) -> dict[str, dict[str, Any]]:
    """What is read of all units that are needed, by id."""
    table = pa.concat_tables(sources(inspection.works))
    tables = list(read_works(table, ReadSettings(MAP, **settings)))
    assert all(one.schema == CATALOG_ROW for one in tables)
    found = [one for part in tables for one in part.to_pylist()]
    assert len({one["position"] for one in found}) == len(found)
    return {one["image_id"]: one for one in found}


def done(folder: Path, plan: pa.Table, catalog: list[dict[str, Any]], *names: str) -> Known:
    """What is known where these rows have been corrected as they are."""
    made = [
        {"image_id": one["image_id"], "row_key": key, "status": "corrected"}
        for one, key in zip(catalog, plan["row_key"].to_pylist(), strict=True)
        if one["image_id"] in names
    ]
    pq.write_table(to_table(made, MANIFEST), folder / "manifest.parquet")
    return build_known(Layers([[str(folder / "manifest.parquet")]]), retry_failed=())[0]


def test_rows_that_are_done_are_not_read_and_the_others_as_the_catalog_has_them(tmp_path: Path) -> None:
    catalog = rows(25)
    folder = write_catalog(tmp_path / "catalog" / "a.parquet", catalog, row_group_size=10).parent
    plan, everything = look(folder, Known())
    assert read(everything).keys() == {one["image_id"] for one in catalog}
    old = [f"image-{number}" for number in range(25) if number not in (3, 21)]
    _, inspection = look(folder, done(tmp_path, plan, catalog, *old))
    found = read(inspection)
    assert found.keys() == {"image-3", "image-21"}
    for number in (3, 21):
        one = found[f"image-{number}"]
        assert one["image"] == catalog[number]["image"]
        assert [label["label"] for label in one["labels"]] == [
            label["label"] for label in catalog[number]["labels"]
        ]
        assert (one["purpose"], one["times"], one["refusal"]) == ("correct", 1, None)
        assert one["position"] == f"{folder}/a.parquet row {number}"  # counted in its file
        assert one["row_key"] == plan["row_key"][number].as_py()


def test_rows_are_named_by_their_number_in_the_file_whatever_unit_they_are_read_in(tmp_path: Path) -> None:
    catalog = [row(f"image-{number}", "watermark", uri=f"/gone/{number}") for number in range(600)]
    folder = write_catalog(tmp_path / "catalog" / "a.parquet", catalog, row_group_size=200).parent
    plan, everything = look(folder, Known())
    assert len(everything.works) == 3
    old = [f"image-{number}" for number in range(600) if number not in (3, 431)]
    found = read(look(folder, done(tmp_path, plan, catalog, *old))[1])
    assert {name: (one["position"], one["source_uri"]) for name, one in found.items()} == {
        f"image-{number}": (f"{folder}/a.parquet row {number}", f"/gone/{number}") for number in (3, 431)
    }


def test_the_sample_of_clean_images_is_read_again_to_compare_with(tmp_path: Path) -> None:
    """All is done but one row; FID's reference are the clean images that the sample has, and no other rows."""
    catalog = [row(f"clean-{number}", "clean") for number in range(12)]
    catalog += [row("done", "watermark"), row("new", "watermark")]
    folder = write_catalog(tmp_path / "catalog" / "a.parquet", catalog, row_group_size=5).parent
    plan, _ = look(folder, Known())
    known = done(tmp_path, plan, catalog, *(one["image_id"] for one in catalog if one["image_id"] != "new"))
    _, inspection = look(folder, known, compare=True)
    hashes = {name: sample_hash(name) for name in (f"clean-{number}" for number in range(12))}
    chosen = sorted(hashes, key=hashes.__getitem__)[:3]
    threshold = hashes[chosen[-1]]
    found = read(inspection, compare=Sample({CLEAN: threshold, "watermark": 2**64 - 1}).only({CLEAN}))
    assert {name: one["purpose"] for name, one in found.items()} == {
        **dict.fromkeys(chosen, "compare"),
        "new": "correct",
    }
    assert read(inspection).keys() == {"new"}


def test_rows_of_an_id_of_several_images_carry_why_they_fail(tmp_path: Path) -> None:
    catalog = [row("a", "watermark"), row("twice", "watermark"), row("twice", "wrong_angle")]
    folder = write_catalog(tmp_path / "catalog" / "a.parquet", catalog).parent
    _, inspection = look(folder, Known())
    table = pa.concat_tables(
        [part for work in inspection.works for part in read_work(work, ReadSettings(MAP))]
    )
    refusals = dict(zip(table["position"].to_pylist(), table["refusal_message"].to_pylist(), strict=True))
    assert refusals.pop(f"{folder}/a.parquet row 0") is None
    for place, text in refusals.items():
        assert f"the id occurs 2 times, here in {place}" in text
        assert "give each image its own id" in text
    assert len(refusals) == 2


def test_rows_of_an_erased_id_carry_that_instead_of_what_is_wrong_with_them(tmp_path: Path) -> None:
    catalog = [row("a", "watermark"), row("twice", "watermark"), row("twice", "wrong_angle")]
    folder = write_catalog(tmp_path / "catalog" / "a.parquet", catalog).parent
    _, inspection = look(folder, Known(), erased=KeySet(id_keys(["twice"])))
    rows = [
        one
        for work in inspection.works
        for table in read_work(work, ReadSettings(MAP))
        for one in table.to_pylist()
    ]
    assert [(one["image_id"], one["refusal"]) for one in rows] == [
        ("a", None),
        ("twice", "erased"),
        ("twice", "erased"),
    ]
    assert "erased on request" in rows[1]["refusal_message"]


@pytest.mark.parametrize(("hashes", "fails"), [(("1", "1"), False), (("1", "2"), True), ((None, None), True)])
def test_bytes_in_the_catalog_are_not_the_same_because_of_a_uri(
    tmp_path: Path, hashes: tuple[str | None, ...], fails: bool
) -> None:
    catalog = [row("a", "watermark", image=b"1", uri="https://shop/page", sha256=one) for one in hashes]
    schema = CATALOG.append(pa.field("sha256", pa.string()))
    folder = write_catalog(tmp_path / "catalog" / "a.parquet", catalog, schema=schema).parent
    (work,) = look(folder, Known())[1].works
    rows = [one for table in read_work(work, ReadSettings(MAP)) for one in table.to_pylist()]
    assert [one["times"] for one in rows] == ([1, 1] if fails else [2])
    assert all((one["refusal"] is not None) == fails for one in rows)


@pytest.mark.parametrize("images", [(None, b"1"), (b"1", None), (None, None), (b"1", b"1")])
@pytest.mark.parametrize("row_group_size", [1, 8])  # the footers show which rows hold bytes, or do not
@pytest.mark.parametrize("statistics", [True, False])
def test_rows_are_of_one_image_only_if_all_are_read_from_one_uri(
    tmp_path: Path, images: tuple[bytes | None, ...], row_group_size: int, statistics: bool
) -> None:
    catalog = [row("a", "watermark", image=image, uri="/gone/a.jpg") for image in images]
    catalog += [row("b", "watermark", image=b"1"), row("c", "watermark", uri="/gone/c.jpg")]
    file = tmp_path / "catalog" / "a.parquet"
    file.parent.mkdir()
    pq.write_table(
        pa.Table.from_pylist(catalog, CATALOG),
        file,
        row_group_size=row_group_size,
        write_statistics=statistics,
    )
    plan, inspection = look(file.parent, Known())
    is_one = images == (None, None)
    assert plan["times"].to_pylist() == [*((2, 0) if is_one else (1, 1)), 1, 1]
    assert plan["refused"].to_pylist() == [*((0, 0) if is_one else (2, 2)), 0, 0]
    assert inspection.pending == 4


def test_rows_of_one_uri_in_two_files_are_compared_by_how_each_holds_its_image(tmp_path: Path) -> None:
    """One file embeds the image and the other does not, so neither file alone shows that the rows differ."""
    for name, image in {"a": None, "b": b"1"}.items():
        write_catalog(
            tmp_path / "catalog" / f"{name}.parquet", [row("a", "watermark", image=image, uri="/gone/a.jpg")]
        )
    plan, _ = look(tmp_path / "catalog", Known())
    assert plan["refused"].to_pylist() == [2, 2]


def test_scores_are_divided_before_anything_reads_them(tmp_path: Path) -> None:
    """70 of 100 and 0.7 are one score, and to the last bit: rules compare with them."""
    catalog = [row("a", labels=[{"label": "watermark", "score": 70.0}])]
    folder = write_catalog(tmp_path / "catalog" / "a.parquet", catalog).parent
    _, inspection = look(folder, Known(), score_scale=100.0)
    (label,) = read(inspection, score_scale=100.0)["a"]["labels"]
    assert label == {"label": "watermark", "score": 0.7}
