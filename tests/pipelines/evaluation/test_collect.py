import numpy as np
import pyarrow as pa
import pytest

from pipelines.evaluation.collect import Collection, Picture, SetName
from pipelines.evaluation.measure import ANSWER, MEASURES, TARGET, UPLOAD
from tests.evaluation_data import measure, measures


def test_sets_do_not_depend_on_the_order_in_which_measures_come() -> None:
    table = measures(photos=12)
    forward, backward = Collection(), Collection()
    forward.add(table)
    for index in reversed(range(table.num_rows)):
        backward.add(table.slice(index, 1))
    for name in (SetName(UPLOAD, -1, "watermark"), SetName(ANSWER, 0, "watermark")):
        one, other = forward.set(name), backward.set(name)
        assert one.photos == other.photos == [f"p{index}" for index in range(12)]
        np.testing.assert_array_equal(one.features, other.features)
        np.testing.assert_array_equal(one.psnr, other.psnr)
        assert len(one.psnr) == len(one.l1) == 12


def test_rows_are_counted_once_and_problems_count_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        measure(1, UPLOAD, [1, 2]),
        measure(1, TARGET, [1, 2], picture=b"png", width=3, height=4),
        measure(2, UPLOAD, problem="truncated"),
        measure(3, UPLOAD, [1, 2]),
        measure(3, ANSWER, bundle=0, problem="not finite"),
        measure(3, ANSWER, bundle=1, problem="not finite"),
    ]
    collection = Collection()
    assert collection.add(pa.Table.from_pylist(rows, MEASURES)) == (3, 2)
    uploads = SetName(UPLOAD, -1, "watermark")
    assert collection.problems == {
        (uploads, "truncated"): 1,
        **{(SetName(ANSWER, bundle, "watermark"), "not finite"): 1 for bundle in (0, 1)},
    }
    assert collection.set(uploads).photos == ["p1", "p3"]
    assert collection.pictures == {
        "watermark": {"part#000000001": {SetName(TARGET, -1, "watermark"): Picture(b"png", 3, 4)}}
    }
    assert "part#000000002 (upload, watermark) is left out: truncated" in caplog.text


def test_without_features_a_set_has_its_count_and_an_absent_set_is_empty() -> None:
    collection = Collection()
    collection.add(pa.Table.from_pylist([measure(1, UPLOAD)], MEASURES))
    images = collection.set(SetName(UPLOAD, -1, "watermark"))
    assert (len(images.photos), images.features) == (1, None)
    assert collection.set(SetName(ANSWER, 0, "watermark")).photos == []
