import json
from pathlib import Path

import pyarrow.dataset

from pipelines.contracts.label_map import LabelMap
from pipelines.preparation.finish.finish import Description, finish
from pipelines.preparation.output import Layout
from pipelines.preparation.unit.unit import prepare_unit
from tests.photo_tables import record, write_table
from tests.preparation import planned


def test_a_run_that_is_killed_while_it_finishes_is_finished_by_the_next(tmp_path: Path) -> None:
    output = tmp_path / "out"
    photos = [record("a"), record("b"), record("a"), record("bad", image=b"junk")]
    work = planned([write_table(tmp_path / "a.parquet", photos)], output)
    prepare_unit(0, work)
    layout = Layout(str(output), str(output / "held-back"))
    records = {path: path.read_bytes() for path in Path(layout.done).iterdir()}
    description = Description(LabelMap.default().to_yaml(), {"seed": 0}, 1.0)
    finish(layout, work, description)
    text = Path(layout.summary).read_text()
    summary = json.loads(text)
    assert summary["counts"]["entries"] == {"listed": 4, "prepared": 2, "unreadable": 1, "duplicates": 1}
    assert summary["counts"]["unreadable"] == {"unknown_format": 1}
    assert summary["duplicates"] == ["a"]
    assert pyarrow.dataset.dataset(layout.shards).count_rows() == 6
    assert not Path(layout.done).exists()

    Path(layout.summary).unlink()  # as if the run had been killed just before writing it
    for path, data in records.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    finish(layout, work, description)
    assert Path(layout.summary).read_text() == text
