"""A catalog without labels: a detector is trained on shards, and the correction labels the rows with it."""

import json
from pathlib import Path

import numpy as np
import pytest

from jobs import command
from jobs.correct_catalog import main as correct
from jobs.train_detector import main as train
from model.detector.network import load_detector
from pipelines.contracts.schemas import CATALOG
from tests.catalogs import read_parquet, row, write_bundle, write_catalog
from tests.hostile_images import encode
from tests.training_data import picture, write_dataset

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that was trained long enough to distinguish a coloured background from white."""
    folder = tmp_path_factory.mktemp("detector")
    data = write_dataset(folder / "data", photos=48)
    places = ["--data", str(data), "--output", str(folder / "run"), "--device", "cpu", "--workers", "0"]
    sizes = ["--image-size", "32", "--batch-size", "8", "--steps", "40", "--overlay", "0", "--rate", "3e-3"]
    assert train([*places, *sizes]) == command.EXIT_OK
    return folder / "run" / "bundle"


def test_uploads_without_labels_are_labelled_and_corrected(
    ray_local: None, detector: Path, tmp_path: Path
) -> None:
    scores = load_detector(detector).config["scores"]["labels"]
    assert scores["non_white_background"]["average_precision"] > 0.95

    photos, clean = zip(*(picture(1000 + seed) for seed in range(12)), strict=True)
    unlabelled = CATALOG.remove(CATALOG.get_field_index("labels"))
    bare = [row(f"photo-{n}", image=encode(image, "PNG")) for n, image in enumerate(photos)]
    bare += [row(f"clean-{n}", image=encode(image, "PNG")) for n, image in enumerate(clean)]
    bare.append(row("broken", image=b"no image"))
    write_catalog(tmp_path / "catalog" / "bare.parquet", bare, row_group_size=10, schema=unlabelled)
    photo = encode(photos[0], "PNG")
    some = [
        row("labelled", "watermark", image=photo),
        row("found clean", image=photo),
        row("null", image=photo, labels=None),
    ]
    write_catalog(tmp_path / "catalog" / "some.parquet", some)

    output = tmp_path / "out"
    flags = ["--catalog", str(tmp_path / "catalog"), "--output", str(output), "--detector", str(detector)]
    flags += [
        "--model",
        str(write_bundle(tmp_path / "model")),
        "--no-fid",
        "--gates",
        "off",
        "--device",
        "cpu",
    ]
    assert correct(flags) == command.EXIT_OK
    found = {one["image_id"]: one for one in read_parquet(output / "manifest")}
    assert len(found) == len(bare) + len(some)
    assert "non_white_background" in found["null"]["defects"]
    assert found["labelled"]["defects"] == ["watermark"]
    assert (found["found clean"]["status"], found["found clean"]["defects"]) == ("passthrough", [])
    assert (found["broken"]["status"], found["broken"]["error_code"]) == ("failed", "unknown_format")
    shown = ["non_white_background" in found[f"photo-{n}"]["defects"] for n in range(12)]
    hidden = ["non_white_background" in found[f"clean-{n}"]["defects"] for n in range(12)]
    assert (np.mean(shown), np.mean(hidden)) == (pytest.approx(1, abs=0.1), pytest.approx(0, abs=0.1))

    told = json.loads((output / "run.json").read_text())
    assert told["detected"] == {"rows": len(found), "unlabelled": len(bare) + 1, "unreadable": 1}
    assert told["configuration"]["detector_version"] == load_detector(detector).version
    routed = sum(sum(counts.values()) for counts in told["counts_by_route"].values())
    assert routed == len(found)

    said = {one["image_id"]: one["labels"] for one in read_parquet(next((output / "labels").iterdir()))}
    assert said["labelled"] is said["found clean"] is said["broken"] is None
    assert all(label["score"] >= 0.5 for label in said["null"])
