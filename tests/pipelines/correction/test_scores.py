"""Catalogs with scores outside 0..1 are refused before anything is done, and the message names the row."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import ConfigurationError
from pipelines.contracts.label_map import LabelMap
from pipelines.correction.catalog import list_catalog, read_label_rows, read_rows, read_small_rows
from pipelines.correction.inspect.survey import count_routes
from pipelines.correction.scores import check_scores, scale_note

NAN = float("nan")


def write(
    path: Path, scores: list[float | None], kind: pa.DataType | None = None, statistics: bool = True
) -> str:
    labels = [[{"label": "clean", "score": None}, {"label": "watermark", "score": score}] for score in scores]
    label = pa.struct([("label", pa.string()), ("score", kind or pa.float64())])
    columns = {
        "image_id": [f"i{n}" for n in range(len(scores))],
        "uri": ["x"] * len(scores),
        "labels": pa.array(labels, pa.list_(label)),
    }
    pq.write_table(pa.table(columns), path, row_group_size=4, write_statistics=statistics)
    return str(path)


@pytest.mark.parametrize(
    ("score", "scale", "message"),
    [
        (12.5, 1, r"with score 12.5; scores are 0 to 1: .*--score-scale 100"),
        (1.001, 1, "score 1.001"),
        (-0.01, 1, "score -0.01.*probabilities"),
        (-0.5, 100, "score -0.5.*probabilities"),
        (101, 100, r"score 101; .* 0 to 100 \(--score-scale 100\)"),
        (NAN, 1, "score nan.*null"),
        (NAN, 100, "score nan.*null"),
        (float("inf"), 1, "score inf"),
    ],
)
def test_a_score_outside_is_named_with_row_value_and_remedy(score: float, scale: float, message: str) -> None:
    rows = [("a", [("clean", None), ("watermark", 0.5)]), (None, []), ("b", [("watermark", score / scale)])]
    with pytest.raises(ConfigurationError, match=f"--catalog x.parquet: row 9 .'b'.*{message}"):
        check_scores(rows, "x.parquet", 7, scale)


@pytest.mark.parametrize("scale", [1, 100, 255])
def test_scores_inside_pass_and_the_largest_is_known(scale: float) -> None:
    scores = [0, scale / 2, None, scale, scale * (1 + 1e-7), -1e-8]  # a softmax in float32 says 1.0000001
    rows = [("a", [("x", None if score is None else score / scale)]) for score in scores]
    assert check_scores(rows, "x", 0, scale) == pytest.approx(1)
    assert check_scores([], "x", 0, scale) == 0


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.int8(), pa.int64()])
def test_wrong_scores_are_seen_in_the_footers_whatever_the_catalogs_size(
    tmp_path: Path, kind: pa.DataType
) -> None:
    uri = write(tmp_path / "a.parquet", [*[0] * 9, 13], kind)
    with pytest.raises(ConfigurationError, match=r"a.parquet: row 9 \('i9'\).*score 13.*--score-scale 100"):
        list_catalog([uri])
    assert list_catalog([uri], score_scale=100).rows == 10
    with pytest.raises(ConfigurationError, match=r"row 9.*score 13; .* 0 to 10"):
        list_catalog([uri], score_scale=10)


@pytest.mark.parametrize(("kind", "statistics"), [(None, False), (pa.float16(), True)])
def test_without_statistics_they_are_seen_where_labels_are_read(
    tmp_path: Path, kind: pa.DataType | None, statistics: bool
) -> None:
    scores = np.float16([0, 0, 0, 0, 0, 13]) if kind else [0.0] * 5 + [13.0]
    uri = write(tmp_path / "a.parquet", list(scores), kind, statistics)
    units = list_catalog([uri]).units
    with pytest.raises(ConfigurationError, match=r"a.parquet: row 5 .*score 13"):
        count_routes(units, LabelMap.default())
    assert count_routes(units, LabelMap.default(), 20) == {"no defect": 5, "watermark": 1}


def test_scores_are_divided_wherever_they_are_read(tmp_path: Path) -> None:
    uri = write(tmp_path / "a.parquet", [70, None, 0, 100], pa.int8())
    (unit,) = list_catalog([uri], score_scale=100).units
    expected = [0.7, None, 0.0, 1.0]  # exactly, so that a rule of 0.7 sees 70
    (table,) = read_rows(unit, scale=100)
    read = {
        "rows": [row["labels"][1]["score"] for row in table.to_pylist()],
        "small": [row.labels[1][1] for row in read_small_rows(unit, 100)],
        "labels": [labels[1][1] for _, labels, _ in read_label_rows(unit, scale=100)],
    }
    assert read == dict.fromkeys(read, expected)


def test_what_a_detector_of_ours_says_is_not_divided(tmp_path: Path) -> None:
    uri = write(tmp_path / "a.parquet", [50.0])
    (unit,) = list_catalog([uri], score_scale=100).units
    table = pq.read_table(uri)
    pq.write_table(table.set_column(2, "labels", pa.nulls(1, table.schema.field("labels").type)), uri)
    message = pa.chunked_array(
        [pa.array([[{"label": "watermark", "score": 0.5}]], table.schema.field("labels").type)]
    )
    (rows,) = read_rows(unit, message, scale=100)
    assert rows.column("labels").to_pylist() == [[{"label": "watermark", "score": 0.5}]]


def test_a_scale_that_is_too_large_is_warned_of() -> None:
    """Otherwise no rule would apply, without any warning."""
    assert "--score-scale 100" in str(scale_note(0.0098, 100))
    assert scale_note(0.5, 100) is scale_note(0.98, 1) is scale_note(0, 100) is scale_note(0.5, 0.5) is None


def test_a_dry_run_tells_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    units = list_catalog([write(tmp_path / "a.parquet", [0.2, 0.9])], score_scale=100).units
    assert count_routes(units, LabelMap.default(), 100) == {"no defect": 2}
    (message,) = caplog.messages
    assert "leave the flag out" in message
