from urllib.parse import quote

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import ConfigurationError
from pipelines.storage.path_columns import NULL, add_path_columns, path_columns

NAMES = ("product_type", "label")
TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)


@given(TEXTS.filter(lambda text: text != NULL), st.sampled_from(["/data", "s3://shop/data"]))
def test_values_are_text_whatever_their_letters(text: str, root: str) -> None:
    uri = f"{root}/dt=2026-11-01/product_type={quote(text, safe='')}/label={NULL}/part=0.parquet"
    assert path_columns(uri, NAMES) == {"product_type": text, "label": None}
    assert path_columns(uri, ()) == {}


def test_pyarrow_writes_what_is_read(tmp_path: object) -> None:
    import pyarrow.dataset as ds

    values = ["a b", "x/y", "50%", "ü=1", None, "+"]
    table = pa.table({"n": range(6), "product_type": values})
    ds.write_dataset(
        table, str(tmp_path), format="parquet", partitioning=["product_type"], partitioning_flavor="hive"
    )
    found = {}
    for file in ds.dataset(str(tmp_path)).files:
        (number,) = ds.dataset(file).to_table(columns=["n"])["n"].to_pylist()
        found[number] = path_columns(file, NAMES)["product_type"]
    assert [found[number] for number in range(6)] == values


@pytest.mark.parametrize(
    "uri",
    [
        "/data/label.parquet",
        "/data/label=watermark.parquet",
        "/data/labels=a/x.parquet",
        "/a/=b/x.parquet",
        "x.parquet",
    ],
)
def test_only_folders_of_known_names_count(uri: str) -> None:
    assert path_columns(uri, NAMES) == {}


def test_a_column_that_stands_twice_in_a_path_must_agree_with_itself() -> None:
    assert path_columns("/label=a/b/label=a/x.parquet", NAMES) == {"label": "a"}
    with pytest.raises(ConfigurationError, match=r"/label=a/label=b/x.parquet: .*label.*'a'.*'b'"):
        path_columns("/label=a/label=b/x.parquet", NAMES)


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"label=%FF.*UTF-8"):
        path_columns("/label=%FF/x.parquet", NAMES)


def test_columns_are_added_or_compared() -> None:
    table = pa.table({"label": ["a", "a"], "n": [1, 2]})
    added = add_path_columns(table, {"label": "a", "product_type": "mug"}, "x.parquet", 5)
    assert added.to_pylist() == [{"label": "a", "n": n, "product_type": "mug"} for n in (1, 2)]
    nulls = pa.table({"label": pa.nulls(1)})
    assert add_path_columns(nulls, {"label": None, "product_type": None}, "x", 0).to_pylist() == [
        {"label": None, "product_type": None}
    ]
    for own, told, row in (
        (["a", "b"], "a", 6),
        (["a", None], "a", 6),
        ([None, "a"], None, 6),
        (["b"], "a", 5),
    ):
        for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
            with pytest.raises(ConfigurationError, match=rf"x.parquet: row {row} .*label"):
                add_path_columns(pa.table({"label": pa.array(own, kind)}), {"label": told}, "x.parquet", 5)


def test_folders_above_a_programs_own_hidden_folder_say_nothing() -> None:
    assert path_columns("/out/label=x/.catalog/a.parquet", {"label"}) == {}
    assert path_columns("/out/.catalog/label=x/a.parquet", {"label"}) == {"label": "x"}
    assert path_columns("../label=x/a.parquet", {"label"}) == {"label": "x"}
