import json
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from jobs.prepare_dataset import main
from model.errors import ConfigurationError
from pipelines.label_map import LabelMap
from pipelines.schemas import SHARD
from tests.photo_tables import record, write_table


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rows = [record(f"p{i}") for i in range(20)]
    rows += [record("unmasked", mask=None), record("broken", image=b"junk")]
    return write_table(tmp_path / "photos.parquet", rows, row_group_size=6)


@pytest.mark.ray
def test_photos_become_shards_label_map_and_summary(
    ray_local: None, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, held_back = tmp_path / "out", tmp_path / "held-back"
    command = ["--photos", str(photos), "--output", str(output), "--max-side", "48"]
    assert main([*command, "--test-catalog", str(held_back), "--test-limit", "2"]) == 0

    table = pyarrow.dataset.dataset(output / "shards").to_table()
    assert table.schema.equals(SHARD)
    assert table.num_rows == 61
    summary = json.loads((output / "dataset.json").read_text())
    counts = summary["counts"]
    assert counts["photos"] == {"read": 21, "unreadable": 1}
    assert counts["rows"]["pairing"] == {"paired": 60, "unpaired": 1}
    assert counts["rows"]["defect"] == {"non_white_background": 21, "watermark": 20, "wrong_angle": 20}
    assert counts["rows"]["product_type"] == {"shirt": 61}
    splits = table["split"].to_pylist()
    assert counts["rows"]["split"] == {split: splits.count(split) for split in ("train", "test")}
    assert [item["image_id"] for item in summary["unreadable"]] == ["broken"]
    assert LabelMap.parse((output / "label_map.yaml").read_text(), "copy") == LabelMap.default()
    assert pyarrow.dataset.dataset(held_back / "catalog").count_rows() == 2
    assert json.loads(capsys.readouterr().out)["settings"]["max_side"] == 48

    # A second run must not mix with the first; asked to replace it, it leaves nothing of it and nothing else.
    with pytest.raises(ConfigurationError, match=r"shards.* exists; .*--overwrite"):
        main(command)
    stale, foreign = output / "shards" / "part-99999.parquet", output / "notes.txt"
    stale.write_bytes(b"")
    foreign.write_text("mine")
    assert main([*command, "--overwrite"]) == 0
    assert not stale.exists()
    assert foreign.read_text() == "mine"
    again = json.loads((output / "dataset.json").read_text())
    assert again["fingerprint"] == summary["fingerprint"]


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    arguments = ["--photos", str(photos), "--output", str(output), "--limit", "7", "--dry-run"]
    assert main(arguments) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["photos"] == 7
    assert plan["defects"] == ["non_white_background", "watermark", "wrong_angle"]
    assert not output.exists()


def test_defects_without_material_are_told(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label_map = tmp_path / "map.yaml"
    label_map.write_text(
        "version: 1\n"
        "groups: {background: 0}\n"
        "defects:\n"
        "  watermark: {id: 0, group: background, order: 1}\n"
        "  crease: {id: 1, group: background, order: 2}\n"
        "rules: [{label: watermark, defect: watermark}, {label: crease, defect: crease}]\n"
    )
    arguments = ["--photos", str(photos), "--output", str(tmp_path / "out"), "--dry-run"]
    assert main([*arguments, "--label-map", str(label_map)]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["defects"] == ["watermark"]
    assert plan["defects_without_material"] == ["crease"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--min-quality", "2"], "--min-quality"),
        (["--max-side", "0"], "--max-side"),
        (["--test-limit", "3"], "--test-limit needs --test-catalog"),
        (["--label-map", "nowhere.yaml"], "--label-map: cannot read nowhere.yaml"),
    ],
)
def test_wrong_flags_are_named(photos: Path, tmp_path: Path, arguments: list[str], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        main(["--photos", str(photos), "--output", str(tmp_path / "out"), *arguments])


def test_a_table_without_images_is_refused_before_anything_is_removed(tmp_path: Path) -> None:
    output = tmp_path / "out"
    (output / "shards").mkdir(parents=True)
    write_table(output / "shards" / "part-00000.parquet", [record()])
    pq.write_table(pa.table({"image_id": ["p"]}), tmp_path / "photos.parquet")
    with pytest.raises(ConfigurationError, match="no column image"):
        main(["--photos", str(tmp_path / "photos.parquet"), "--output", str(output), "--overwrite"])
    assert (output / "shards" / "part-00000.parquet").exists()


def test_overwriting_never_removes_the_input(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    table = write_table(shards / "photos.parquet", [record()])
    with pytest.raises(ConfigurationError, match="lies where this job writes"):
        main(["--photos", str(shards), "--output", str(tmp_path), "--overwrite"])
    assert table.exists()


@pytest.mark.parametrize("arguments", [["--limit", "0"], ["--limit", "many"], []])
def test_a_wrong_command_line_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--photos", "x", *arguments])
    assert caught.value.code == 2
    assert "--help" in capsys.readouterr().err


def test_a_storage_that_does_not_answer_is_one_message(photos: Path, dead_s3: None) -> None:
    with pytest.raises(ConfigurationError, match="--output: cannot read s3://b/x"):
        main(["--photos", str(photos), "--output", "s3://b/x", "--dry-run"])
