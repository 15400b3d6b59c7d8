"""The correction job in a process of its own, with catalog, model and output on S3."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines import storage
from pipelines.images.decode import decode_image
from tests.catalogs import picture, row, rows, write_bundle, write_catalog
from tests.fault_proxy import KINDS, TENTH, FaultProxy
from tests.hostile_images import encode
from tests.nights import contents, images, night

pytestmark = pytest.mark.ray


def upload(path: Path, uri: str) -> None:
    for file in sorted(path.rglob("*")):
        if file.is_file():
            storage.write_bytes(storage.join(uri, str(file.relative_to(path))), file.read_bytes())


def test_everything_on_s3(s3_folder: str, tmp_path: Path, repository: Path) -> None:
    catalog = [
        row("shop/1", "watermark"),
        row("clean", "clean"),
        row("gone", "watermark", uri=f"{s3_folder}/gone.jpg"),
    ]
    catalog.append(row("fetched", "non_white_background", uri=f"{s3_folder}/photos/a b.png"))
    storage.write_bytes(f"{s3_folder}/photos/a b.png", encode(picture(8), "PNG"))
    write_catalog(tmp_path / "catalog" / "a.parquet", catalog)
    write_bundle(tmp_path / "bundle", content=0.5, matte=0)
    for name in ("catalog", "bundle"):
        upload(tmp_path / name, f"{s3_folder}/{name}")
    places = {"--catalog": "catalog", "--model": "bundle", "--output": "out"}
    flags = [text for flag, name in places.items() for text in (flag, f"{s3_folder}/{name}")]
    flags += [
        "--no-fid",
        *("--gates", "off"),
        "--format",
        "png",
        "--max-failed",
        "0.3",
        "--actors",
        "1:1",
        "--allow-uri",
        s3_folder,
    ]
    done = subprocess.run(
        [sys.executable, "jobs/correct_catalog.py", *flags],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parts = storage.list_files(f"{s3_folder}/out/manifest", ".parquet")
    found = {one["image_id"]: one for part in parts for one in _rows(part)}
    assert {name: one["status"] for name, one in found.items()} == {
        "shop/1": "corrected",
        "clean": "passthrough",
        "gone": "failed",
        "fetched": "corrected",
    }
    assert found["gone"]["error_code"] == "missing"
    digest = found["fetched"]["output_sha256"][:16]
    assert (
        found["fetched"]["output_uri"] == f"{s3_folder}/out/images/non_white_background/fetched.{digest}.png"
    )
    pixels = decode_image(storage.read_bytes(found["fetched"]["output_uri"]))
    np.testing.assert_array_equal(pixels, picture(8))
    assert storage.exists(found["shop/1"]["output_uri"])
    for name in ("_SUCCESS", "run.json", "report/index.html", f"manifests/{_run(s3_folder)}"):
        assert storage.exists(f"{s3_folder}/out/{name}"), name
    assert f"{s3_folder}/out/report/index.html" in done.stdout
    assert "Traceback" not in done.stderr


def test_with_one_request_in_ten_failing_every_row_is_there_once(
    s3_folder: str, s3_settings: dict[str, str], tmp_path: Path, repository: Path
) -> None:
    catalog = rows(40)
    for number in range(0, 40, 4):
        uri = f"{s3_folder}/photos/{number}.png"
        storage.write_bytes(uri, catalog[number]["image"])
        catalog[number] |= {"image": None, "uri": uri}
    write_catalog(tmp_path / "catalog" / "a.parquet", catalog)
    write_bundle(tmp_path / "bundle")
    for name in ("catalog", "bundle"):
        upload(tmp_path / name, f"{s3_folder}/{name}")
    flags = ["--catalog", f"{s3_folder}/catalog", "--model", f"{s3_folder}/bundle", "--no-fid"]
    flags += ["--output", f"{s3_folder}/out", "--actors", "1:1", "--max-failed", "0", "--gates", "off"]
    flags += ["--allow-uri", f"{s3_folder}/photos/"]
    with FaultProxy(urlsplit(s3_settings["AWS_ENDPOINT_URL"]).port, TENTH) as proxy:
        done = subprocess.run(
            [sys.executable, "jobs/correct_catalog.py", *flags],
            cwd=repository,
            env={**os.environ, "PYTHONPATH": str(repository), "AWS_ENDPOINT_URL": proxy.url},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert sum(proxy.counts[kind] for kind in KINDS) > 5, proxy.counts
    parts = storage.list_files(f"{s3_folder}/out/manifest", ".parquet")
    found = [one for part in parts for one in _rows(part)]
    assert sorted(str(one["image_id"]) for one in found) == sorted(one["image_id"] for one in catalog)
    for one in found:
        assert one["status"] == ("passthrough" if one["defect"] is None else "corrected")
        if one["output_uri"] is not None:
            data = storage.read_bytes(str(one["output_uri"]))
            assert hashlib.sha256(data).hexdigest() == one["output_sha256"]
    assert storage.exists(f"{s3_folder}/out/_SUCCESS")
    fs, path = storage.resolve(f"{s3_folder}/out")
    assert not [name for name in fs.find(path) if "/.lock/" in name]


def test_a_night_is_undone_erased_from_and_cleaned_up_with_one_request_in_ten_failing(
    s3_folder: str, s3_settings: dict[str, str], repository: Path
) -> None:
    output = f"{s3_folder}/out"
    for run in "123":
        night(output, run, {f"{number}": f"{number} of {run}" for number in range(8)}, {"person": run})
    with FaultProxy(urlsplit(s3_settings["AWS_ENDPOINT_URL"]).port, TENTH) as proxy:
        for words in ("rollback --to 1", "erase --image-id person", "clean --keep-runs 1"):
            done = subprocess.run(
                [sys.executable, "jobs/maintain_output.py", *words.split(), "--output", output, "--apply"],
                cwd=repository,
                env={**os.environ, "PYTHONPATH": str(repository), "AWS_ENDPOINT_URL": proxy.url},
                capture_output=True,
                text=True,
                check=False,
            )
            assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "done"), done.stderr
    assert sum(proxy.counts[kind] for kind in KINDS) > 5, proxy.counts
    first = {f"{number}": f"{number} of 1" for number in range(8)}
    assert contents(output) == contents(output, "manifests", "1") == {**first, "person": None}
    third = {f"{number}": f"{number} of 3" for number in range(8)}
    assert contents(output, "manifests", "3") == {**third, "person": None}
    assert images(output) == {*first.values(), *third.values()}
    assert storage.exists(f"{output}/_SUCCESS")
    assert not storage.list_files(f"{output}/manifests/2")
    fs, path = storage.resolve(output)
    assert not [name for name in fs.find(path) if "/.lock/" in name or "/.run/" in name]


def _run(folder: str) -> str:
    return str(json.loads(storage.read_bytes(f"{folder}/out/run.json"))["run"])


def _rows(uri: str) -> list[dict[str, object]]:
    filesystem, path = storage.arrow_filesystem(uri)
    return list(pq.read_table(path, filesystem=filesystem).to_pylist())
