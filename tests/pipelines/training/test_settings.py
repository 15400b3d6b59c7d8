"""Settings of any training: wrong ones are named, and what is kept of them names no place of this machine."""

import json
from pathlib import Path
from typing import Any

import pytest

from model.errors import ConfigurationError
from pipelines.contracts.label_map import LabelMap
from pipelines.training.settings import describe
from tests.pipelines.training.builders import settings


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"steps": 0}, "^steps must be 1 or more, got 0"),
        ({"accumulate": 0}, "^accumulate must be 1 or more, got 0"),
        ({"validation_share": 0.51}, r"^--validation-share 0\.51: a share from 0 to 0\.5"),
        ({"validation_share": float("nan")}, "^--validation-share nan"),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        settings(tmp_path, **change)


def test_what_is_kept_is_json_without_places_of_this_machine(tmp_path: Path) -> None:
    one = settings(
        tmp_path,
        cycle_groups=frozenset({"b", "a"}),
        fid_weights="/home/somebody/weights.pt",
        repeat=(("watermark", 2),),
    )
    text = json.dumps(describe(one))
    assert str(tmp_path) not in text
    assert "somebody" not in text
    kept = json.loads(text)
    assert kept["cycle_groups"] == ["a", "b"]  # the same text in every run
    assert (kept["image_size"], kept["method"]["recipe"]) == (32, "proposed")
    assert kept["repeat"] == [["watermark", 2]]


def test_rows_are_repeated_by_the_id_of_their_defect(tmp_path: Path) -> None:
    label_map = LabelMap.default()
    one = settings(tmp_path, repeat=(("wrong_angle", 4),)).sampling(label_map)
    assert one.repeat == ((label_map.defects["wrong_angle"].id, 4),)
