import json
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from jobs.prepare_dataset import main
from model.errors import ConfigurationError
from pipelines.cluster.session import Cluster
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import SHARD
from pipelines.preparation.plan import plan as planning
from pipelines.preparation.plan.plan import LEAST_ENTRIES
from tests.photo_tables import record, write_table
from tests.preparation import digests, prepare


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
    assert counts["entries"] == {
        "listed": 22,
        "prepared": 21,
        "unreadable": 1,
        "duplicates": 0,
    }
    assert counts["rows"]["pairing"] == {"paired": 60, "unpaired": 1}
    assert counts["rows"]["defect"] == {"non_white_background": 21, "watermark": 20, "wrong_angle": 20}
    assert counts["rows"]["product_type"] == {"shirt": 61}
    splits = table["split"].to_pylist()
    assert counts["rows"]["split"] == {split: splits.count(split) for split in ("train", "test")}
    assert [item["image_id"] for item in summary["unreadable"]] == ["broken"]
    assert LabelMap.parse((output / "label_map.yaml").read_text(), "copy") == LabelMap.default()
    assert pyarrow.dataset.dataset(held_back / "catalog").count_rows() == 2
    assert json.loads(capsys.readouterr().out)["max_side"] == 48

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


@pytest.mark.ray
def test_shards_have_the_same_bytes_however_many_workers_make_them(ray_local: None, tmp_path: Path) -> None:
    photos = [record(f"p{i}", mask=None if i % 4 == 0 else record()["mask"]) for i in range(70)]
    table = write_table(tmp_path / "a.parquet", photos, row_group_size=11)
    output = tmp_path / "out"
    assert main(["--photos", str(table), "--output", str(output), "--max-side", "48"]) == 0
    prepare([table], tmp_path / "here", unit_size=LEAST_ENTRIES)
    assert digests(output / "shards") == digests(tmp_path / "here" / "shards")
    assert len(digests(output / "shards")) == 5


@pytest.mark.ray
def test_saliency_in_actors_makes_pairs_of_photos_without_masks(ray_local: None, tmp_path: Path) -> None:
    table = write_table(tmp_path / "a.parquet", [record(f"p{i}", mask=None) for i in range(20)])
    output = tmp_path / "out"
    arguments = [
        "--photos",
        str(table),
        "--output",
        str(output),
        "--max-side",
        "48",
        "--saliency",
        "classical",
    ]
    assert main(arguments) == 0
    counts = json.loads((output / "dataset.json").read_text())["counts"]
    assert counts["masks"]["missing"] == 20
    assert counts["rows"]["pairing"]["paired"] == 3 * counts["masks"]["saliency_good"] > 0
    page = (output / "report" / "index.html").read_text()
    assert "Made by --saliency, trusted" in page


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    arguments = ["--photos", str(photos), "--output", str(output), "--limit", "7", "--dry-run"]
    assert main(arguments) == 0
    configuration = json.loads(capsys.readouterr().out)
    plan = configuration["plan"]
    assert plan["sources"]["sources"][0]["rows"] == 22
    assert (plan["run"], configuration["limit"]) == ("new", 7)
    assert plan["defects"] == list(LabelMap.default().defects)
    assert not output.exists()


def test_defects_that_cannot_be_made_are_told(
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
    assert plan["defects_without_synthesis"] == ["crease"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--min-quality", "2"], "--min-quality"),
        (["--max-side", "0"], "--max-side"),
        (["--test-limit", "3"], "--test-limit needs --test-catalog"),
        (["--label-map", "nowhere.yaml"], "--label-map: cannot read nowhere.yaml"),
        (["--synthesis", "watermark"], "--synthesis watermark: write DEFECT=NAME"),
        (["--synthesis", "dust=watermark"], "--synthesis dust=watermark: the label map has no defect 'dust'"),
        (["--benchmark", "paired4"], "--benchmark NAME and --root URI go together"),
        (["--saliency", "n.onnx", "--gpus-per-actor", "-1"], "--gpus-per-actor -1: above 0"),
        (["--saliency", "n.onnx", "--gpus-per-actor", "nan"], "--gpus-per-actor nan: above 0"),
        (["--saliency", "n.onnx", "--gpus-per-actor", "1.5"], "--gpus-per-actor 1.5: .* or whole"),
        (["--gpus-per-actor", "0.5"], "--gpus-per-actor asks for GPUs for a saliency network"),
        (
            ["--saliency", "n.onnx", "--device", "cpu", "--gpus-per-actor", "0.5"],
            "--gpus-per-actor asks for GPUs .* without --device cpu",
        ),
        (["--saliency", "fancy", "--dry-run"], "--saliency 'fancy': give 'classical', or the URI"),
        (["--saliency", "gone.onnx", "--dry-run"], r"--saliency: cannot read .*/gone\.onnx"),
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
    with pytest.raises(ConfigurationError, match="no column with images"):
        main(["--photos", str(tmp_path / "photos.parquet"), "--output", str(output), "--overwrite"])
    assert (output / "shards" / "part-00000.parquet").exists()


def test_overwriting_never_removes_the_input(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    table = write_table(shards / "photos.parquet", [record()])
    with pytest.raises(ConfigurationError, match="lies where this job writes"):
        main(["--photos", str(shards), "--output", str(tmp_path), "--overwrite"])
    sources = tmp_path / "sources.yaml"
    sources.write_text(f"version: 1\nsources: [{{reader: table, uri: {table}}}]\n")
    with pytest.raises(ConfigurationError, match=r"photos\.parquet lies where this job writes"):
        main(["--sources", str(sources), "--output", str(tmp_path), "--overwrite"])
    assert table.exists()


def test_a_file_uri_into_the_output_is_seen_through_its_percent_signs(tmp_path: Path) -> None:
    output = tmp_path / "my out"
    table = pa.table({"image_id": ["a"], "uri": [(output / "shards" / "a.jpg").as_uri()]})
    pq.write_table(table, tmp_path / "photos.parquet")
    with pytest.raises(ConfigurationError, match="lies where this job writes"):
        main(["--photos", str(tmp_path / "photos.parquet"), "--output", str(output)])


def test_a_run_that_is_refused_while_it_lists_its_sources_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        planning, "FILE_ENTRIES", 1
    )  # so that a part of the plan is written before the row is seen
    output = tmp_path / "out"
    table = pa.table({"image_id": ["a", "b"], "uri": ["/photos/a.jpg", str(output / "shards" / "b.jpg")]})
    pq.write_table(table, tmp_path / "photos.parquet")
    with pytest.raises(ConfigurationError, match="lies where this job writes"):
        main(["--photos", str(tmp_path / "photos.parquet"), "--output", str(output)])
    assert not output.exists() or not list(output.iterdir())


def test_an_output_inside_the_input_is_refused_because_the_next_run_would_read_it(tmp_path: Path) -> None:
    write_table(tmp_path / "photos.parquet", [record()])
    with pytest.raises(ConfigurationError, match=r"--photos: .* lies where this job writes"):
        main(["--photos", str(tmp_path), "--output", str(tmp_path / "out")])


@pytest.mark.parametrize("name", ["shards", "work/held-back"])
def test_a_test_catalog_among_the_training_data_is_refused(photos: Path, tmp_path: Path, name: str) -> None:
    arguments = ["--photos", str(photos), "--output", str(tmp_path / "out"), "--dry-run"]
    with pytest.raises(ConfigurationError, match=r"--test-catalog .* lies among the training data"):
        main([*arguments, "--test-catalog", str(tmp_path / "out" / name)])
    assert main([*arguments, "--test-catalog", str(tmp_path / "out" / "held-back")]) == 0


def test_a_run_that_was_killed_while_it_planned_is_begun_by_the_same_command(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draft = tmp_path / "out" / "work" / "plan"
    draft.mkdir(parents=True)
    (draft / "entries-00000.parquet").write_bytes(b"the first entries")
    assert main(["--photos", str(photos), "--output", str(tmp_path / "out"), "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["run"] == "new"


def test_a_run_does_not_go_on_with_a_table_that_was_rewritten_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_table(tmp_path / "photos.parquet", [record(f"p{i}") for i in range(3)])
    arguments = ["--photos", str(photos), "--output", str(tmp_path / "out")]

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.preparation.job.session.start", lambda *_: Cluster(1, 0))
    monkeypatch.setattr("pipelines.preparation.job.run_units", killed)
    for _ in range(2):  # killed, continued and killed again
        with pytest.raises(KeyboardInterrupt):
            main(arguments)
    write_table(photos, [record(f"q{i}") for i in range(3)])
    with pytest.raises(ConfigurationError, match=r"photos\.parquet \(planned as .*again with --overwrite"):
        main(arguments)


@pytest.mark.parametrize(
    ("defects", "complaint"),
    [
        (
            "crease: {id: 0, group: background, order: 1}",
            r"^--label-map names none of the defects .*--synthesis",
        ),
        (
            "watermark: {id: 0, group: background, order: 1}",
            r"^pair: the label map has no defect 'crease'; it has watermark; correct it, or add it there",
        ),
    ],
)
def test_what_nothing_can_be_made_of_is_told_before_work_begins(
    tmp_path: Path, defects: str, complaint: str
) -> None:
    (tmp_path / "map.yaml").write_text(
        f"version: 1\ngroups: {{background: 0}}\ndefects: {{{defects}}}\n"
        f"rules: [{{label: x, defect: {defects.partition(':')[0]}}}]\n"
    )
    rows = [{"image_id": "photo", "source": b"x"}, {"image_id": "pair", "source": b"x", "defect": "crease"}]
    chosen = rows[:1] if "crease" in defects else rows[1:]
    pq.write_table(pa.Table.from_pylist(chosen), tmp_path / "a.parquet")
    arguments = ["--photos", str(tmp_path / "a.parquet"), "--output", str(tmp_path / "out")]
    with pytest.raises(ConfigurationError, match=complaint):
        main([*arguments, "--label-map", str(tmp_path / "map.yaml")])
    assert not (tmp_path / "out" / "shards").exists()


@pytest.mark.parametrize(
    "arguments", [["--limit", "0"], ["--limit", "many"], [], ["--output", "o", "--append"]]
)
def test_a_wrong_command_line_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--photos", "x", *arguments])
    assert caught.value.code == 2
    assert "--help" in capsys.readouterr().err


def test_a_storage_that_does_not_answer_is_one_message(photos: Path, dead_s3: None) -> None:
    with pytest.raises(ConfigurationError, match="--output: cannot read s3://b/x"):
        main(["--photos", str(photos), "--output", "s3://b/x", "--dry-run"])
