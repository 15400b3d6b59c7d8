import json
from pathlib import Path

import pyarrow.dataset

from pipelines.dataset.finish import Description, finish
from pipelines.dataset.output import Places
from pipelines.dataset.unit import prepare_unit
from pipelines.label_map import LabelMap
from tests.photo_tables import record, write_table
from tests.preparation import planned


def test_a_run_that_is_killed_while_it_finishes_is_finished_by_the_next(tmp_path: Path) -> None:
    output = tmp_path / "out"
    photos = [record("a"), record("b"), record("a"), record("bad", image=b"junk")]
    work = planned([write_table(tmp_path / "a.parquet", photos)], output)
    prepare_unit(0, work)
    places = Places(str(output), str(output / "held-back"))
    records = {path: path.read_bytes() for path in Path(places.done).iterdir()}
    description = Description(LabelMap.default().to_yaml(), {"seed": 0}, 1.0)
    finish(places, work, description)
    text = Path(places.summary).read_text()
    summary = json.loads(text)
    assert summary["counts"]["entries"] == {"listed": 4, "prepared": 2, "unreadable": 1, "duplicates": 1}
    assert summary["counts"]["unreadable"] == {"unknown_format": 1}
    assert summary["duplicates"] == ["a"]
    assert pyarrow.dataset.dataset(places.shards).count_rows() == 6
    assert not Path(places.done).exists()

    Path(places.summary).unlink()  # as if it had been killed just before
    for path, data in records.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    finish(places, work, description)
    assert Path(places.summary).read_text() == text
