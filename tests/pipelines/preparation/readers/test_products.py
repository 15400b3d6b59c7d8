from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ConfigurationError
from pipelines.contracts.splits import split_of
from pipelines.preparation.readers.products import ProductFolders, ProductTable
from tests.image_trees import listed, read, write_tree


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    return str(path)


#: Products, each as the positions of its photos in the table's order.
PRODUCTS = st.lists(st.lists(st.integers(-5, 5), min_size=1, max_size=5), min_size=1, max_size=5).filter(
    lambda products: any(len(photos) > 1 for photos in products)
)


@settings(max_examples=25, deadline=None)
@given(products=PRODUCTS, by_role=st.booleans())
def test_secondary_photos_are_paired_with_the_main_one(
    tmp_path_factory: pytest.TempPathFactory, products: list[list[int]], by_role: bool
) -> None:
    rows, expected, alone = [], {}, 0
    for number, positions in enumerate(products):
        main = min(range(len(positions)), key=lambda index: positions[index])
        contents = [f"{number} {index}".encode() for index in range(len(positions))]
        roles = ["Main " if index == main else "detail" for index in range(len(positions))]
        for index, position in enumerate(positions):
            row = {"product_id": f"p{number}", "image_id": str(index), "image": contents[index]}
            rows.append({**row, "role": roles[index]} if by_role else {**row, "position": position})
        alone += len(positions) == 1
        pairs = {
            f"p{number}/{index}": (contents[index], contents[main])
            for index in range(len(positions))
            if index != main
        }
        expected |= pairs or {f"p{number}/0": (None, contents[0])}
    records, notes = read(ProductTable("x", write(tmp_path_factory.mktemp("p") / "p.parquet", rows)))
    assert {key: (r.source, r.target) for key, r in records.items()} == expected
    assert {r.entry.defect for r in records.values()} == {"wrong_angle"}
    # The main photo is in all of a product's pairs, so these must be on one side.
    assert all(r.entry.split == split_of(key.partition("/")[0]) for key, r in records.items())
    assert [note for note in notes if f"{alone} products without both kinds" in note] == (
        notes if alone else []
    )


def test_photos_without_ids_are_identified_by_their_uris(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"a", "b.jpg": b"b", "c.jpg": b"c"})
    (tmp_path / "p.csv").write_text("sku,file,position\n7,c.jpg,2.5\n7,a.jpg,1\n7,b.jpg,\n")
    columns = {"product_id": "sku", "uri": "file"}
    records, _ = read(
        ProductTable("x", f"{tmp_path}/p.csv", "tilt", "shoes", columns=columns, id_prefix="shop/")
    )
    assert {key: (r.source, r.target) for key, r in records.items()} == {
        "shop/7/c.jpg": (b"c", b"a"),
        "shop/7/b.jpg": (b"b", b"a"),
    }
    assert {(r.entry.defect, r.entry.product_type) for r in records.values()} == {("tilt", "shoes")}


def test_odd_products_are_noted(tmp_path: Path) -> None:
    roles = [("a", "front"), ("a", "back"), ("b", "back"), ("c", "front"), ("c", "FRONT"), (None, "front")]
    rows = [
        {"product_id": p, "image_id": str(n), "role": role, "image": f"{p} {role}".encode()}
        for n, (p, role) in enumerate(roles)
    ]
    records, notes = read(ProductTable("x", write(tmp_path / "p.parquet", rows), main="front"))
    assert {key: (r.source, r.target) for key, r in records.items()} == {
        "a/1": (b"a back", b"a front"),
        "b/2": (b"b back", None),
        "c/3": (None, b"c front"),
    }
    text = "\n".join(notes)
    assert "1 rows without product_id are left out" in text
    assert "1 further main photos are left out: c/4" in text
    assert "2 products without both kinds of photos are unpaired: b, c" in text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"product_id": "a", "image": b"1"}], "no column role or position"),
        ([{"image": b"1", "role": "main"}], "no column product_id"),
        ([{"product_id": "a", "role": "main"}], "no column image or uri"),
        ([{"product_id": "a", "role": r, "image": b"1"} for r in "xy"], "no product has both a main photo"),
        (
            [
                {"product_id": p, "role": r, "image": b"1"}
                for p, r in zip("aab", ["main", "x", "x"], strict=True)
            ]
            + [{"product_id": "a", "role": "x", "image": b"1"}],
            "rows of product 'a' are not together; sort",
        ),
        (
            [{"product_id": "a", "position": "first", "image": b"1"}],
            r"row 0 .* position 'first' is not a number",
        ),
    ],
)
def test_unfit_tables_are_refused(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    named = [{"image_id": str(number), **row} for number, row in enumerate(rows)]
    reader = ProductTable("x", write(tmp_path / "p.parquet", named))
    with pytest.raises(ConfigurationError, match=message):
        listed(reader)


def test_photos_without_a_name_are_refused_because_numbers_change(tmp_path: Path) -> None:
    image = {"bytes": b"1", "path": "a.jpg"}
    rows = [{"product_id": "a", "role": role, "image": image} for role in ("main", "x")]
    assert [e.image_id for e in listed(ProductTable("x", write(tmp_path / "p.parquet", rows)))] == ["a/a.jpg"]
    rows[1]["image"] = {"bytes": b"2", "path": None}
    with pytest.raises(
        ConfigurationError, match=r"p\.parquet, row 1 .*: no image_id, and no uri or path .* give each"
    ):
        listed(ProductTable("x", write(tmp_path / "p.parquet", rows)))
    bare = [{**row, "image": b"1"} for row in rows]
    with pytest.raises(ConfigurationError, match=r"no column image_id to identify the photos"):
        listed(ProductTable("x", write(tmp_path / "p.parquet", bare)))


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_folder")


def test_a_folder_for_each_product(folder: str) -> None:
    paths = ["a/10.jpg", "a/2.jpg", "a/1.png", "shoes/b/back.jpg", "shoes/b/Main.jpg", "c/1.jpg", "stray.jpg"]
    write_tree(folder, {path: path.encode() for path in paths})
    records, notes = read(ProductFolders("x", folder))
    assert {key: (r.source, r.target) for key, r in records.items()} == {
        "a/2.jpg": (b"a/2.jpg", b"a/1.png"),
        "a/10.jpg": (b"a/10.jpg", b"a/1.png"),
        "shoes/b/back.jpg": (b"shoes/b/back.jpg", b"shoes/b/Main.jpg"),
        "c/1.jpg": (None, b"c/1.jpg"),
    }
    assert {r.entry.split for key, r in records.items() if key.startswith("a/")} == {split_of("a")}
    assert any("1 images belong to no product's folder" in note for note in notes)
    assert any("1 products without both kinds" in note and note.endswith(" c") for note in notes)
