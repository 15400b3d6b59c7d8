"""The whole correction job in this process, on the session's Ray and local folders."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import command
from jobs.correct_catalog import main
from model.bundle import load_bundle
from pipelines.contracts.schemas import MANIFEST
from pipelines.images.decode import decode_image
from tests.catalogs import picture, published, read_parquet, row, rows, tree, write_bundle, write_catalog
from tests.hostile_images import encode, hostile_images, odd_images
from tests.poison import poison

pytestmark = pytest.mark.ray

POISON = {"kill": "decoder_crashed", "endless": "decode_timeout", "balloon": "decoder_out_of_memory"}


def correct(catalog: Path, output: Path, bundle: Path, *flags: str) -> int:
    places = ["--catalog", str(catalog), "--output", str(output), "--model", str(bundle)]
    gates = () if "--gates" in flags else ("--gates", "off")  # toy bundles' corrections pass none
    return main([*places, "--device", "cpu", *gates, *flags])


def manifest(output: Path) -> list[dict[str, Any]]:
    found = read_parquet(output / "manifest")
    assert all(list(one) == MANIFEST.names for one in found)
    return found


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose matte is 0 everywhere."""
    return write_bundle(tmp_path_factory.mktemp("bundle"), content=0.5, matte=0)


def test_a_catalog_of_odd_and_hostile_uploads_loses_no_row(
    ray_local: None, untouched: Path, tmp_path: Path
) -> None:
    odd, hostile = odd_images(), hostile_images()
    (tmp_path / "there.png").write_bytes(encode(picture(1), "PNG"))
    catalog = [
        *(row(f"odd {name}", "watermark", image=data) for name, (data, _, _) in odd.items()),
        *(row(f"hostile {name}", "watermark", image=data) for name, (data, _) in hostile.items()),
        *(row(f"unlabelled {name}", image=data) for name, (data, _) in hostile.items()),
        *(row(f"poison {kind}", "watermark", image=poison(kind)) for kind in POISON),
        row("fetched", "watermark", uri=str(tmp_path / "there.png")),
        row("missing", "watermark", uri=str(tmp_path / "gone.png")),
        row("nothing", "watermark", uri=None),
        row("not allowed", "watermark", uri="/etc/hostname"),
    ]
    write_catalog(tmp_path / "catalog" / "a.parquet", catalog, row_group_size=9)
    output = tmp_path / "out"
    flags = ("--no-fid", "--format", "png", "--max-failed", "0.7", "--max-decode-seconds", "2")
    flags += ("--allow-uri", str(tmp_path))
    assert correct(tmp_path / "catalog", output, untouched, *flags) == command.EXIT_OK

    found = {one["image_id"]: one for one in manifest(output)}
    assert len(found) == len(catalog)
    for name, (_, expected, tolerance) in odd.items():
        one = found[f"odd {name}"]
        assert one["status"] == "corrected"
        pixels = decode_image(Path(one["output_uri"]).read_bytes())
        assert np.abs(pixels.astype(int) - expected).max() <= tolerance, name
        assert (one["height"], one["width"]) == expected.shape[:2]
    for name, (_, code) in hostile.items():
        for kind in ("hostile", "unlabelled"):
            one = found[f"{kind} {name}"]
            assert (one["status"], one["error_code"], one["output_uri"]) == ("failed", code, None)
            assert one["error_message"]
    # They killed only the process that decoded them.
    assert {kind: found[f"poison {kind}"]["error_code"] for kind in POISON} == POISON
    codes = {name: found[name]["error_code"] for name in ("fetched", "missing", "nothing", "not allowed")}
    assert codes == {
        "fetched": None,
        "missing": "missing",
        "nothing": "no_image",
        "not allowed": "uri_not_allowed",
    }
    np.testing.assert_array_equal(decode_image(Path(found["fetched"]["output_uri"]).read_bytes()), picture(1))

    told = json.loads((output / "run.json").read_text())
    failed = 2 * len(hostile) + len(POISON) + 3
    assert told["state"] == "complete"
    assert told["counts"] == {"corrected": len(odd) + 1, "passthrough": 0, "rejected": 0, "failed": failed}
    assert sum(error["count"] for error in told["errors"]) == failed
    assert told["configuration"]["model_version"] == load_bundle(untouched).version
    assert (output / "_SUCCESS").exists()
    assert "truncated" in (output / "report" / "index.html").read_text()
    with Image.open(output / "report" / "before_after.png") as sheet:
        assert sheet.format == "PNG"
    assert not (output / ".run").exists()


def test_too_many_failures_are_exit_code_3_with_outputs_and_without_success(
    ray_local: None, untouched: Path, tmp_path: Path
) -> None:
    catalog = [row("a", "watermark"), row("b", "clean"), row("c", "watermark", image=b"")]
    write_catalog(tmp_path / "catalog" / "a.parquet", catalog)
    output = tmp_path / "out"
    assert correct(tmp_path / "catalog", output, untouched, "--no-fid") == command.EXIT_TOO_MANY_FAILED
    assert [one["status"] for one in manifest(output)] == ["corrected", "passthrough", "failed"]
    assert set(published(output)) == {"watermark/a.jpg"}
    assert (output / "report" / "index.html").exists()
    assert not (output / "_SUCCESS").exists()
    (record,) = (output / "runs").iterdir()
    said = json.loads(record.read_text())
    assert (said["state"], said["exit_code"], said["error_counts"]) == ("too many failed", 3, {"empty": 1})
    # As docs/nightly.md reads failed rows.
    failed = pq.read_table(
        output / "manifest", columns=["image_id", "error_code"], filters=[("status", "==", "failed")]
    )
    assert failed.to_pylist() == [{"image_id": "c", "error_code": "empty"}]


def test_runs_agree_whatever_their_parallelism(ray_local: None, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    for index in range(3):
        catalog = rows(39)[index * 13 : index * 13 + 13]
        write_catalog(tmp_path / "catalog" / f"{index}.parquet", catalog, row_group_size=5)
    outputs = [tmp_path / "one", tmp_path / "other"]
    for output, actors in zip(outputs, ("1:1", "3:3"), strict=True):
        assert (
            correct(tmp_path / "catalog", output, bundle, "--no-fid", "--actors", actors) == command.EXIT_OK
        )
    one, other = (tree(output / "images") for output in outputs)
    assert len(one) == 39 - 8  # every fifth is clean
    assert one == other
    rest = [
        [
            {
                name: value
                for name, value in found.items()
                if name not in ("output_uri", "corrected_at", "row_key", "image_key")
            }
            for found in manifest(output)
        ]
        for output in outputs
    ]
    assert rest[0] == rest[1]


def test_fid_compares_with_the_catalogs_clean_images(
    ray_local: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    write_catalog(tmp_path / "catalog" / "a.parquet", rows(25))
    output = tmp_path / "out"
    assert (
        correct(tmp_path / "catalog", output, bundle, "--fid-samples", "3", "--actors", "1:1")
        == command.EXIT_OK
    )
    fid = json.loads((output / "report" / "fid.json").read_text())
    assert set(fid["defects"]) == {"wrong_angle", "watermark", "non_white_background"}
    for figures in fid["defects"].values():
        assert figures["n"] == figures["n_reference"] == 3
        assert figures["fid_before"] > 0
        assert figures["fid_after"] > 0
        assert "the catalog's own clean images" in figures["note"]
    assert (output / "report" / "fid.csv").read_text().count("\n") == 4
    shown = capsys.readouterr().out
    assert "FID before" in shown
    assert str(output / "report" / "index.html") in shown


def test_a_used_output_is_replaced_when_asked(ray_local: None, untouched: Path, tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog" / "a.parquet", rows(5))
    output = tmp_path / "out"
    assert correct(tmp_path / "catalog", output, untouched, "--no-fid", "--limit", "3") == command.EXIT_OK
    (output / "images" / "watermark" / "of-long-ago.jpg").write_bytes(b"x")
    before = manifest(output)
    assert correct(tmp_path / "catalog", output, untouched, "--no-fid", "--overwrite") == command.EXIT_OK
    after = manifest(output)
    assert len(after) == 5
    assert all(one["corrected_at"] > before[0]["corrected_at"] for one in after)
    assert not (output / "images" / "watermark" / "of-long-ago.jpg").exists()


def test_what_a_gate_turns_down_keeps_its_original_and_is_counted(ray_local: None, tmp_path: Path) -> None:
    painted = write_bundle(tmp_path / "bundle", content=0.5, matte=1)  # everything grey
    write_catalog(tmp_path / "catalog" / "a.parquet", rows(5))
    (tmp_path / "gates.yaml").write_text("{version: 1, product_changed: ~}")
    output = tmp_path / "out"
    flags = ("--no-fid", "--gates", str(tmp_path / "gates.yaml"), "--profile", "amazon")
    assert correct(tmp_path / "catalog", output, painted, *flags) == command.EXIT_OK
    found = manifest(output)
    assert sorted(one["status"] for one in found) == ["passthrough"] + 4 * ["rejected"]
    assert {one["error_code"] for one in found} == {None, "nearly_constant"}
    assert all(one["output_uri"] is None for one in found)
    assert not (output / "images").exists()
    told = json.loads((output / "run.json").read_text())
    assert (told["counts"]["rejected"], told["profile_issues"]) == (4, {})
    assert told["configuration"]["delivery"]["profile"]["name"] == "Amazon main image"
    assert told["errors"][0]["code"] == "nearly_constant"
    page = (output / "report" / "index.html").read_text()
    assert "Rejected: the original was kept" in page
    assert "--gates: nearly_constant" in page


def test_a_folder_of_images_and_a_csv_are_catalogs_too(
    ray_local: None, untouched: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    (photos / "shirts").mkdir(parents=True)
    for number, name in enumerate(("a.png", "shirts/a.png")):
        (photos / name).write_bytes(encode(picture(number), "PNG"))
    (photos / "broken.jpg").write_bytes(b"no image")
    flags = ("--no-fid", "--max-failed", "0.5")
    assert correct(photos, tmp_path / "out", untouched, "--label", "watermark", *flags) == 0
    found = {row["image_id"]: row for row in manifest(tmp_path / "out")}
    assert {name: row["status"] for name, row in found.items()} == {
        "a.png": "corrected",
        "shirts/a.png": "corrected",
        "broken.jpg": "failed",
    }
    assert found["shirts/a.png"]["source_uri"] == str(photos / "shirts" / "a.png")
    assert not list((tmp_path / "out").glob(".*"))
    again = tree(tmp_path / "out" / "images")
    (photos / "c.png").write_bytes(encode(picture(3), "PNG"))
    assert correct(photos, tmp_path / "out", untouched, "--label", "watermark", *flags) == 0
    assert len(manifest(tmp_path / "out")) == 4
    assert again.items() <= tree(tmp_path / "out" / "images").items()  # only the new image was corrected

    (photos / "list.csv").write_text(
        "uri,label\nshirts/a.png,wrong_angle\na.png,clean\n../secret.png,watermark\n"
    )
    (tmp_path / "secret.png").write_bytes(encode(picture(4), "PNG"))
    assert correct(photos / "list.csv", tmp_path / "listed", untouched, *flags) == 0
    assert {row["image_id"]: (row["status"], row["error_code"]) for row in manifest(tmp_path / "listed")} == {
        "shirts/a.png": ("corrected", None),
        "a.png": ("passthrough", None),
        "../secret.png": ("failed", "uri_not_allowed"),
    }
