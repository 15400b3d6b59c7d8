"""Finding datasets, and fixed sets of their rows."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import ConfigurationError
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import SHARD
from pipelines.shards.index import PAIRED, SOURCE, TEST, build_index
from pipelines.shards.reading import Decoding
from pipelines.shards.source import open_source
from pipelines.training.feed.selected import defect_weights, do_nothing_errors, some_rows
from tests.training_data import write_dataset


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory):
    return open_source([str(write_dataset(tmp_path_factory.mktemp("data") / "set"))])


def test_some_rows_are_a_fixed_set_of_the_requested_rows(source) -> None:
    index = build_index(source.shards, source.label_map, 0)
    rows = some_rows(source, index, PAIRED, TEST, 2, Decoding(32))
    assert sorted(row["defect"] for row in rows) == sorted(2 * list(source.label_map.defects))
    assert all(row["source"].shape == row["target"].shape == (32, 32, 3) for row in rows)
    again = some_rows(source, index, PAIRED, TEST, 2, Decoding(32))
    np.testing.assert_array_equal([row["source"] for row in rows], [row["source"] for row in again])
    everything = some_rows(source, index, SOURCE, 0, 1000, Decoding(32))
    assert len(everything) == 36
    assert sum(row["target"] is None for row in everything) == 2


def test_some_rows_leave_out_rows_that_cannot_be_decoded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = open_source([str(write_dataset(tmp_path / "set"))])
    rows = pq.read_table(data.shards[0]).to_pylist()
    rows[12]["source"] = rows[12]["source"][:60]
    pq.write_table(pa.Table.from_pylist(rows, SHARD), data.shards[0])
    index = build_index(data.shards, data.label_map, 0)
    kept = some_rows(data, index, SOURCE, 0, 1000, Decoding(32))
    assert len(kept) == 35
    assert all(row["source"] is not None for row in kept)
    assert "row 12 (non_white_background)" in caplog.text


def test_with_the_task_balance_doing_nothing_has_an_error_of_one_in_every_task(source) -> None:
    index = build_index(source.shards, source.label_map, 0)
    errors = do_nothing_errors(some_rows(source, index, PAIRED, 0, 8, Decoding(32)))
    weights = defect_weights(source.label_map, errors)
    for name, defect in source.label_map.defects.items():
        assert errors[name] * weights[defect.id] == pytest.approx(1)


def test_a_dataset_named_twice_is_refused_and_two_datasets_are_taken_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (str(write_dataset(tmp_path / name, photos=2)) for name in ("one", "two"))
    assert len(open_source([one, two]).shards) == 4
    # One dataset keeps the fingerprint that is on its page, because a bundle's model card names it.
    assert (
        open_source([one]).fingerprint
        == json.loads((tmp_path / "one" / "dataset.json").read_text())["fingerprint"]
    )
    assert open_source([one, two]).fingerprint != open_source([two]).fingerprint
    monkeypatch.chdir(tmp_path)
    for again in (one, f"{one}/", f"file://{one}", "one"):
        with pytest.raises(
            ConfigurationError, match=f"--data {again} is named twice; name each dataset once"
        ):
            open_source([again, two, one])


def test_data_that_was_never_prepared_is_an_error_that_names_the_flag(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--data .*prepare_dataset"):
        open_source([str(tmp_path)])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("background",), ("background",), ("background",)),
        (None, (), ()),  # the first is of an earlier version
        (("angle", "background"), ("background", "angle"), ("angle", "background")),
        (None, None, None),
        ((), ("background",), "cycle_groups \\['background'\\], that of .*one \\[\\]; give both the same"),
    ],
)
def test_datasets_must_agree_on_the_groups_that_enter_cycle_and_identity(
    one: tuple[str, ...] | None,
    other: tuple[str, ...] | None,
    expected: tuple[str, ...] | str | None,
    tmp_path: Path,
) -> None:
    uris = []
    for name, groups in (("one", one), ("other", other)):
        uris.append(str(write_dataset(tmp_path / name, photos=2)))
        label_map = replace(LabelMap.default(), cycle_groups=groups)
        (tmp_path / name / "label_map.yaml").write_text(label_map.to_yaml())
    if isinstance(expected, str):
        with pytest.raises(ConfigurationError, match=expected):
            open_source(uris)
    else:
        assert open_source(uris).label_map.cycle_groups == expected
