from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import ConfigurationError
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.sampling import sample_hash
from pipelines.correction.catalog import list_catalog
from pipelines.correction.inspect.survey import CLEAN, UNKNOWN, Survey, count_routes
from tests.catalogs import row, rows, write_catalog


def test_every_route_is_counted(tmp_path: Path) -> None:
    catalog = [*rows(50), row("odd", "polka dots"), row("both", "polka dots", "watermark")]
    write_catalog(tmp_path / "a.parquet", catalog[:30], row_group_size=7)
    write_catalog(tmp_path / "b.parquet", catalog[30:])
    # Of two defects the first in the order of correction counts: wrong_angle.
    assert count_routes(list_catalog([str(tmp_path)]).units, LabelMap.default()) == {
        "watermark": 11,
        "non_white_background": 10,
        CLEAN: 10,
        "wrong_angle": 20,
        UNKNOWN: 1,
    }


def test_a_sample_is_the_smallest_hashes_of_each_route_in_any_order() -> None:
    names = [f"image-{number}" for number in range(40)]
    samples = []
    for order in (names, names[::-1]):
        parts = [Survey(5) for _ in range(4)]
        for index, name in enumerate(order):
            parts[index % 4].add({CLEAN if int(name[6:]) % 2 else "watermark": [name]})
        whole = Survey(5)
        for part in parts:
            whole.merge(part.sets())
        assert whole.rows == {CLEAN: 20, "watermark": 20}
        assert whole.total == 40
        samples.append(whole.sample(5))
    assert samples[0] == samples[1]
    clean = [name for name in names if int(name[6:]) % 2]
    assert {name for name in clean if samples[0].has(CLEAN, name)} == set(sorted(clean, key=sample_hash)[:5])


def test_nothing_has_no_sample() -> None:
    assert Survey(5).sample(5).thresholds == {}


def test_a_row_without_an_id_is_seen_before_a_run(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"image_id": ["a", None], "label": ["clean", "clean"], "image": [b"x", b"y"]}), file
    )
    with pytest.raises(ConfigurationError, match=r"a\.parquet: row 1 has no image_id; give it one"):
        count_routes(list_catalog([str(file)]).units, LabelMap.default())
