import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from jobs import command, correct_catalog
from jobs.correct_catalog import main
from model.errors import RunError
from pipelines.cluster.placement import Placement
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.schemas import CATALOG
from pipelines.correction.inspect.pending import Inspection
from pipelines.correction.inspect.survey import Survey
from pipelines.correction.plan import CorrectionConfig, Plan, resolve
from pipelines.correction.report.summary import summary
from pipelines.correction.run import Run
from pipelines.correction.stream.totals import Totals, summarise
from pipelines.images.allowed_uris import AllowedUris
from tests.catalogs import row, rows, write_bundle, write_catalog
from tests.hostile_images import drawing, encode


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    write_catalog(tmp_path / "catalog" / "a.parquet", rows(12))
    write_bundle(tmp_path / "bundle")
    places = {"--catalog": "catalog", "--output": "out", "--model": "bundle"}
    return [text for flag, name in places.items() for text in (flag, str(tmp_path / name))] + ["--no-fid"]


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of the job as a process would have it."""
    monkeypatch.setattr(sys, "argv", ["correct_catalog.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        command.run(main)
    return int(caught.value.code or 0)


def replaced(arguments: list[str], flag: str, value: str) -> list[str]:
    index = arguments.index(flag)
    return [*arguments[: index + 1], value, *arguments[index + 2 :]]


WRONG_FLAGS = {
    "wrong flag": ["--colour", "blue"],
    "wrong value": ["--actors", "many"],
    "wrong prefix": ["--allow-uri", "ftp://shop/"],
    "empty prefix": ["--allow-uri", ""],
    "no time to decode": ["--max-decode-seconds", "0"],
    "contradiction": ["--device", "cpu", "--gpus-per-actor", "1"],
    "no scale": ["--score-scale", "0"],
}


WRONG_ROWS = {
    "uris that may not be read": row("a", "watermark", uri="s3://shop/a.jpg"),
    "scores of 100": row("a", labels=[{"label": "watermark", "score": 12}]),
}


def prepare_wrong(case: str, arguments: list[str], folder: Path) -> list[str]:
    if case in WRONG_FLAGS:
        return [*arguments, *WRONG_FLAGS[case]]
    if case == "output is a file":
        (folder / "file").touch()
        return replaced(arguments, "--output", str(folder / "file"))
    if case == "two columns of one name":
        columns = [["a"], ["x"], ["x"], ["watermark"]]
        table = pa.table([pa.array(column) for column in columns], ["image_id", "uri", "uri", "label"])
        pq.write_table(table, folder / "catalog" / "b.parquet")
        return arguments
    if case in WRONG_ROWS:
        (folder / "catalog" / "a.parquet").unlink()
        write_catalog(folder / "catalog" / "b.parquet", [WRONG_ROWS[case]])
        return arguments
    if case == "invalid label map":
        (folder / "map.yaml").write_text("version: 1\ngroups: {background: zero}\n")
        return [*arguments, "--label-map", str(folder / "map.yaml")]
    if case == "missing catalog":
        return replaced(arguments, "--catalog", str(folder / "gone"))
    if case == "missing bundle":
        return replaced(arguments, "--model", str(folder / "gone"))
    if case == "bundle that does not fit":
        (folder / "map.yaml").write_text(LabelMap.default().to_yaml().replace("watermark", "blur"))
        return [*arguments, "--label-map", str(folder / "map.yaml")]
    if case == "altered bundle":
        (folder / "bundle" / "label_map.yaml").write_text("version: 1\n")
        return arguments
    (folder / "catalog" / "b.parquet").write_text("no parquet")
    return arguments


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ("wrong flag", "--colour"),
        ("wrong value", "--actors"),
        ("contradiction", "--gpus-per-actor"),
        ("output is a file", "--output"),
        ("two columns of one name", "2 columns 'uri'"),
        ("uris that may not be read", "--allow-uri s3://bucket/uploads/"),
        ("wrong prefix", "--allow-uri"),
        ("empty prefix", "--allow-uri"),
        ("no time to decode", "--max-decode-seconds"),
        ("no scale", "--score-scale"),
        (
            "scores of 100",
            "row 0 ('a') has label 'watermark' with score 12; scores are 0 to 1: divide them, with --score-scale 100",
        ),
        ("invalid label map", "map.yaml"),
        ("missing catalog", "--catalog"),
        ("missing bundle", "--model"),
        ("bundle that does not fit", "'blur'"),
        ("altered bundle", "label_map.yaml"),
        ("broken catalog", "b.parquet"),
    ],
)
def test_a_mistake_is_exit_code_2_one_message_and_no_traceback(
    case: str,
    named: str,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was started"))
    assert run(prepare_wrong(case, arguments, tmp_path), monkeypatch) == command.EXIT_USAGE
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert text.count("error: ") == 1
    assert named in text
    assert "Traceback" not in text
    assert not (tmp_path / "out").exists()


def test_a_dry_run_prints_configuration_and_plan_without_ray_and_writes_nothing(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was started"))
    assert main([*arguments, "--dry-run", "--limit", "7"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["model"] == str(tmp_path / "bundle")
    assert shown["plan"]["rows"] == 7
    assert shown["plan"]["rows_by_route"] == {
        "watermark": 2,
        "non_white_background": 2,
        "no defect": 1,
        "wrong_angle": 2,
    }
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_that_half_a_catalog_would_be_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even if the earlier run ended with exit code 3, without _SUCCESS: its manifest is what the next run replaces."""
    (tmp_path / "out" / "manifest").mkdir(parents=True)
    (tmp_path / "out" / "run.json").write_text("{}")
    pq.write_table(
        pa.table({"image_id": [str(n) for n in range(40)]}), tmp_path / "out" / "manifest" / "a.parquet"
    )
    with pytest.raises(command.ConfigurationError, match="12 rows and the manifest in --output 40"):
        main([*arguments, "--dry-run"])
    for allowed in (["--max-dropped", "1"], ["--overwrite"]):
        assert main([*arguments, "--dry-run", *allowed]) == 0
    assert '"rows_of_the_manifest_there": 40' in capsys.readouterr().out


@pytest.mark.ray
def test_a_gpu_that_was_asked_for_is_never_replaced_by_a_cpu(
    ray_local: None,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([*arguments, "--device", "cuda"], monkeypatch) == command.EXIT_USAGE
    assert "--device cuda: the cluster has no GPU" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*"))


def test_relative_paths_become_absolute_for_workers_elsewhere(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = replaced(replaced(arguments, "--catalog", "catalog"), "--output", "out")
    assert main([*relative, "--dry-run"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["catalog"], shown["output"]) == ([str(tmp_path / "catalog")], str(tmp_path / "out"))


def test_a_dry_run_shows_the_scale_and_what_it_makes_of_the_scores(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = [
        row(f"i{score}", labels=[{"label": "watermark", "score": score}]) for score in (12, 17, 50, 99)
    ]
    write_catalog(tmp_path / "catalog" / "a.parquet", catalog)
    assert main([*arguments, "--score-scale", "100", "--dry-run"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["score_scale"] == 100
    assert shown["plan"]["rows_by_route"] == {"no defect": 2, "watermark": 2}
    write_catalog(
        tmp_path / "catalog" / "a.parquet", [row("a", labels=[{"label": "x", "score": float("nan")}])]
    )
    with pytest.raises(command.ConfigurationError, match=r"row 0 \('a'\) .*score nan.*null"):
        main([*arguments, "--dry-run"])


def test_rules_for_product_types_see_those_that_stand_in_the_path(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = LabelMap.default().to_yaml().replace("watermark, min", "watermark, product_types: [shirt], min")
    (tmp_path / "map.yaml").write_text(text)
    schema = CATALOG.remove(CATALOG.get_field_index("product_type"))
    for kind in ("shirt", "mug"):
        place = tmp_path / "parts" / f"product_type={kind}" / "day=1" / "a.pq"
        write_catalog(place, [row(f"{kind} {n}", "watermark") for n in range(2)], schema=schema)
    for catalog in ("parts", "parts/product_type=*/*"):
        where = replaced(arguments, "--catalog", str(tmp_path / catalog))
        assert main([*where, "--label-map", str(tmp_path / "map.yaml"), "--dry-run"]) == 0
        shown = json.loads(capsys.readouterr().out)["plan"]
        assert (shown["rows"], shown["rows_by_route"]) == (4, {"watermark": 2, "no defect": 2})


def test_a_place_that_may_be_read_is_a_path_or_a_uri(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my photos").mkdir()
    uris = [(tmp_path / "my photos").as_uri(), f"file:{tmp_path}/my%20photos"]
    flags = [text for uri in ("my photos", *uris) for text in ("--allow-uri", uri)]
    assert main([*arguments, *flags, "--dry-run"]) == 0
    prefixes = json.loads(capsys.readouterr().out)["allow_uri"]
    assert prefixes == [str(tmp_path / "my photos"), *uris]
    for prefix in prefixes:
        assert AllowedUris((prefix,)).find(f"{uris[0]}/a%20b.jpg") == f"{tmp_path}/my photos/a b.jpg"


def test_a_run_that_waited_for_another_reads_the_catalog_as_it_is_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that it waited for has removed what this one had prepared (here the table of a folder of images)."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(encode(drawing(), "PNG"))

    @contextmanager
    def locked(output: str, break_lock: bool, wait: float) -> Iterator[SimpleNamespace]:
        assert wait == 60
        shutil.rmtree(tmp_path / "out")
        (tmp_path / "photos" / "b.png").write_bytes(encode(drawing(), "PNG"))
        yield SimpleNamespace(waited=30.0)

    seen: list[Plan] = []

    def run(plan: Plan, *_: object) -> NoReturn:
        seen.append(plan)
        raise RunError("enough")

    monkeypatch.setattr(correct_catalog, "locked", locked)
    monkeypatch.setattr(correct_catalog.correction_job, "run", run)
    words = ["--catalog", str(tmp_path / "photos"), "--label", "watermark", "--output", str(tmp_path / "out")]
    words += ["--model", str(write_bundle(tmp_path / "bundle")), "--no-fid", "--wait-for-lock", "60"]
    with pytest.raises(RunError, match="enough"):
        correct_catalog.main(words)
    (plan,) = seen
    assert plan.listing.rows == 2
    assert all(Path(unit.uri).exists() for unit in plan.listing.units)


def test_the_help_explains_outputs_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        correct_catalog.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "manifest" in text
    assert "3 more images" in " ".join(text.split())


DETAILS: dict[str, dict[str, Any]] = {
    "failed": {"error_code": "decode_timeout", "error_message": "too slow"},
    "corrected": {"error_code": None, "profile_issues": ["bytes 9 > 8"]},
}


def one_run(folder: Path, statuses: dict[str, int], **told: Any) -> Run:
    """A run over 20 rows, of which `statuses` were worked on."""
    write_catalog(folder / "catalog" / "a.parquet", rows(2))
    config = CorrectionConfig((str(folder / "catalog"),), "/out", model=str(write_bundle(folder / "bundle")))
    inspection = Inspection(Survey(0), rows=20)
    seconds = {"correct": 4.0, "total": 9.0}
    began = datetime(2026, 1, 1, tzinfo=timezone.utc)
    run = Run(
        resolve(config), Placement("cpu", 1, 1), began, "a", inspection=inspection, seconds=seconds, **told
    )
    manifest = [
        {"image_id": status, "status": status, **DETAILS.get(status, {"error_code": None})}
        for status in Counter(statuses).elements()
    ]
    (row,) = summarise(manifest, ["watermark"] * len(manifest)).to_pylist()
    for totals in (run.totals, run.night):
        totals.add(row)
    return run


def test_the_last_words_are_counts_a_table_and_places(tmp_path: Path) -> None:
    row = {
        "n": 12,
        "fid_before": 200.125,
        "fid_after": None,
        "kid_before": 0.25,
        "kid_after": 0.0,
        "note": "few images",
    }
    fid = {"defects": {"watermark": row, "wrong_angle": {**row, "n": 3}}}
    run = one_run(tmp_path, {"corrected": 15, "failed": 1}, fid=fid)
    text = summary(run)
    assert "4 images have not changed since an earlier run" in text
    counts = "16 images: 15 corrected, 0 passthrough, 0 rejected, 1 failed"
    assert f"{counts}; 4.0 images/s while correcting, 9 s in all" in text
    assert "interrupted" not in text
    assert "  decode_timeout: 1, such as 'failed'" in text
    assert "  corrected, but not as --profile asks: bytes 15" in text
    assert "watermark    12      200.12          -      0.2500     0.0000" in text
    assert text.count("note: few images") == 1
    assert "report    /out/report/index.html" in text
    run.fid, run.fid_missing = None, "because"
    assert "no FID: because" in summary(run)
    run.totals = Totals()  # all of it had been finished
    text = summary(run)
    assert f"{counts}; 9 s in all" in text
    assert "16 of these were finished by an interrupted attempt" in text
    run.night = Totals()
    assert "nothing was corrected" in summary(run)
