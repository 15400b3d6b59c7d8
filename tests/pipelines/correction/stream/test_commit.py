import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model.detector.network import load_detector
from model.edits import Edit, identity_theta
from pipelines import storage
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.profiles.profile import Bounds, Profile
from pipelines.contracts.schemas import MANIFEST, STATUSES
from pipelines.correction.deliver.deliver import DeliverySettings
from pipelines.correction.deliver.gate_detector import DetectorGate
from pipelines.correction.deliver.gates import GateConfig
from pipelines.correction.models import Models
from pipelines.correction.rows import EDITED, SAMPLES, STRIPS, to_table
from pipelines.correction.stream.commit import FID_SIDE, STRIP_SIDE, CommitSettings, commit_block
from pipelines.images.decode import decode_image, decode_upload
from pipelines.images.exif import COPYRIGHT
from pipelines.images.metadata import srgb_profile
from pipelines.images.resize import resize_bicubic
from pipelines.inference.edits.apply import apply_edits
from pipelines.inference.edits.codec import encode_edits
from pipelines.published.parts import StorageWriteError
from tests.catalogs import picture, read_parquet, tree, write_detector
from tests.hostile_images import encode
from tests.pipelines.correction.inspected import models_of

GROUPS = {"watermark": "background", "wrong_angle": "angle"}
#: Paints the left half grey.
MATTE = torch.zeros(1, 1, 8, 8)
MATTE[..., :4] = 1
GATES_OFF: dict[str, Any] = dict.fromkeys(
    (
        *("nearly_constant", "empty_product", "product_lost", "product_holes", "weak_outline"),
        *("background_not_white", "product_changed"),
    )
)
PAINT = encode_edits(Edit(identity_theta(1), torch.zeros(1, 3, 8, 8), MATTE))


@pytest.fixture
def commit_settings(tmp_path: Path) -> CommitSettings:
    return CommitSettings(
        str(tmp_path / "out"),
        "000-a",
        models_of("m" * 64),
        GROUPS,
        DeliverySettings(format="png"),
    )


def edited(image_id: str, *defects: str, **columns: Any) -> dict[str, Any]:
    upload = encode(picture(sum(image_id.encode())), "PNG") if defects else None
    base = {
        "image_id": image_id,
        "defects": list(defects),
        "upload": upload,
        "edits": PAINT * len(defects) or None,
    }
    route = defects[0] if defects else "clean"
    fixed = {
        "route": route,
        "sampled": False,
        "in_strip": False,
        "width": 60,
        "height": 44,
        "product_type": "mug",
        "purpose": "correct",
        "position": f"catalog row {image_id}",
        "input_version": "etag:1:2",
        "row_key": b"r" * 16,
        "image_key": b"k" * 16,
        "times": 1,
    }
    return {**base, **fixed, "input_sha256": "i" * 64, "source_uri": f"s3://shop/{image_id}", **columns}


def commit(
    rows: list[dict[str, Any]], settings: CommitSettings
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    (summary,) = commit_block(to_table(rows, EDITED), settings).to_pylist()
    return summary, read_parquet(Path(settings.journal))


def test_another_image_of_an_id_does_not_take_the_place_of_the_one_before(
    commit_settings: CommitSettings,
) -> None:
    _, (first,) = commit([edited("a", "watermark", upload=encode(picture(1), "PNG"))], commit_settings)
    data = Path(first["output_uri"]).read_bytes()
    later = dataclasses.replace(commit_settings, attempt="001-later")
    _, (second,) = commit([edited("a", "watermark", upload=encode(picture(2), "PNG"))], later)
    assert second["output_uri"] != first["output_uri"]
    assert Path(first["output_uri"]).read_bytes() == data
    _, (third,) = commit(
        [edited("a", "watermark", upload=encode(picture(1), "PNG"))],
        dataclasses.replace(commit_settings, attempt="002-again"),
    )
    assert (
        third["output_uri"] == first["output_uri"]
    )  # the same bytes: an attempt that goes on writes it again


def test_an_image_that_stands_for_several_rows_of_its_id_makes_them_all(
    commit_settings: CommitSettings,
) -> None:
    summary, rows = commit([edited("a", "watermark", times=3), edited("b")], commit_settings)
    assert [one["image_id"] for one in rows] == ["a", "a", "a", "b"]
    assert rows[0] == rows[1] == rows[2]
    assert (summary["rows"], summary["passthrough"]) == (4, 1)
    assert {one["route"]: sum(one[name] for name in STATUSES) for one in summary["routes"]} == {
        "watermark": 3,
        "clean": 1,
    }


def test_the_summary_has_the_bytes_that_were_read_and_those_that_were_written(
    commit_settings: CommitSettings,
) -> None:
    rows = [
        edited("a", "watermark", input_bytes=1000, in_strip=True),
        edited("b", input_bytes=10),
        edited("c", "watermark", error_code="missing", error_message="gone"),  # was not read
    ]
    summary, _ = commit(rows, commit_settings)
    written = [path for path in Path(commit_settings.output).rglob("*") if path.is_file()]
    assert len(written) == 3  # an image, the journal, the report's pictures
    assert summary["written_bytes"] == sum(path.stat().st_size for path in written)
    assert summary["read_bytes"] == 1010


def test_the_uploads_copyright_and_profile_come_along(commit_settings: CommitSettings) -> None:
    exif = Image.Exif()
    exif[COPYRIGHT] = "© Ann's Shop".encode()
    upload = encode(picture(1), "PNG", exif=exif, icc_profile=srgb_profile())
    _, (row,) = commit([edited("a", "watermark", upload=upload)], commit_settings)
    kept = decode_upload(Path(row["output_uri"]).read_bytes()).metadata
    assert (kept.copyright, kept.has_profile) == ("© Ann's Shop", True)


def test_a_corrected_image_is_written_under_its_defect_and_named_in_the_journal(
    commit_settings: CommitSettings,
) -> None:
    one = edited("shop/1", "wrong_angle", "watermark")
    summary, (row,) = commit([one], commit_settings)
    path = Path(row["output_uri"])
    assert path.parent == Path(commit_settings.output) / "images" / "wrong_angle"
    data = path.read_bytes()
    assert path.name == f"shop~2F1.{hashlib.sha256(data).hexdigest()[:16]}.png"
    expected = apply_edits(decode_image(one["upload"]), PAINT * 2).image
    np.testing.assert_array_equal(decode_image(data), expected)
    assert (expected[:, 44:] == decode_image(one["upload"])[:, 44:]).all()
    assert list(row) == MANIFEST.names
    columns = {name: value for name, value in row.items() if name != "corrected_at"}
    assert columns == {
        "image_id": "shop/1",
        "source_uri": "s3://shop/shop/1",
        "product_type": "mug",
        "status": "corrected",
        "defects": ["wrong_angle", "watermark"],
        "group": "angle",
        "defect": "wrong_angle",
        "output_uri": str(path),
        "width": 60,
        "height": 44,
        "input_sha256": "i" * 64,
        "output_sha256": hashlib.sha256(data).hexdigest(),
        "model_version": "m" * 64,
        "config_hash": "c" * 64,
        "error_code": None,
        "error_message": None,
        "profile_issues": None,
        "input_version": "etag:1:2",
        "row_key": b"r" * 16,
        "image_key": b"k" * 16,
    }
    assert row["corrected_at"].utcoffset().total_seconds() == 0
    assert (summary["rows"], summary["corrected"]) == (1, 1)


def test_every_row_has_a_manifest_row_with_its_status(commit_settings: CommitSettings) -> None:
    truncated = edited("d", "watermark", upload=encode(picture(1))[:-400])
    failed = edited("c", "watermark", error_code="empty", error_message="no bytes", upload=None, edits=None)
    summary, manifest = commit([edited("a", "watermark"), edited("b"), failed, truncated], commit_settings)
    assert [row["status"] for row in manifest] == ["corrected", "passthrough", "failed", "failed"]
    assert [row["error_code"] for row in manifest] == [None, None, "empty", "truncated"]
    assert [row["output_uri"] is None for row in manifest] == [False, True, True, True]
    assert [row["defect"] for row in manifest] == ["watermark", None, "watermark", "watermark"]
    assert (summary["corrected"], summary["passthrough"], summary["failed"]) == (1, 1, 2)


def test_an_unexpected_exception_is_a_failed_row(
    commit_settings: CommitSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError("600 MB")

    monkeypatch.setattr("pipelines.correction.stream.commit.apply_edits", no_memory)
    _, (row,) = commit([edited("a", "watermark")], commit_settings)
    assert (row["status"], row["error_code"], row["output_uri"]) == ("failed", "unexpected", None)
    assert row["error_message"] == "MemoryError: 600 MB"


def test_edges_lose_the_background_that_a_correction_paints_over(
    commit_settings: CommitSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[list[bool]] = []

    def apply(image: np.ndarray, edits: Any, background: list[bool]) -> Any:
        passed.append(background)
        return apply_edits(image, edits, background)

    monkeypatch.setattr("pipelines.correction.stream.commit.apply_edits", apply)
    gates = GateConfig(**GATES_OFF, white_background=("watermark",))
    rows = [edited("a", "wrong_angle", "watermark")]
    commit(rows, commit_settings)
    delivery = DeliverySettings(format="png", gates=gates)
    _, (row,) = commit(rows, dataclasses.replace(commit_settings, attempt="001-b", delivery=delivery))
    assert row["status"] == "corrected"
    assert passed == [[False, False], [False, True]]


def test_a_retry_writes_the_same_bytes_to_the_same_keys(commit_settings: CommitSettings) -> None:
    rows = [edited(name, "watermark", sampled=True, in_strip=True) for name in "abc"]
    commit(rows, commit_settings)
    first = tree(Path(commit_settings.output))
    commit(rows, commit_settings)
    second = tree(Path(commit_settings.output))
    assert set(first) == set(second)
    differing = {name for name in first if first[name] != second[name]}
    assert all(name.startswith(".run/journal/") for name in differing)  # corrected_at


@pytest.mark.parametrize(("format", "extension"), [("jpeg", "jpg"), ("png", "png"), ("webp", "webp")])
def test_formats(commit_settings: CommitSettings, format: str, extension: str) -> None:
    _, (row,) = commit(
        [edited("a", "watermark")], dataclasses.replace(commit_settings, delivery=DeliverySettings(format))
    )
    assert re.fullmatch(rf".*/a\.[0-9a-f]{{16}}\.{extension}", row["output_uri"])
    assert decode_image(storage.read_bytes(row["output_uri"])).shape == (44, 60, 3)


def test_samples_are_pairs_at_the_fid_networks_size(commit_settings: CommitSettings) -> None:
    clean = edited("z", sampled=True, upload=encode(picture(7), "PNG"))
    rows = [edited("a", "watermark", sampled=True), edited("b", "watermark"), clean]
    commit(rows, commit_settings)
    first, last = read_parquet(Path(commit_settings.output) / ".run" / SAMPLES / commit_settings.attempt)
    before = decode_image(rows[0]["upload"])
    assert (first["route"], last["route"]) == ("watermark", "clean")
    np.testing.assert_array_equal(decode_image(first["before"]), resize_bicubic(before, FID_SIDE, FID_SIDE))
    after = resize_bicubic(apply_edits(before, PAINT).image, FID_SIDE, FID_SIDE)
    np.testing.assert_array_equal(decode_image(first["after"]), after)
    np.testing.assert_array_equal(
        decode_image(last["before"]), resize_bicubic(picture(7), FID_SIDE, FID_SIDE)
    )
    assert last["after"] is None


def test_strips_keep_the_aspect_ratio(commit_settings: CommitSettings) -> None:
    wide = encode(picture(1, 800, 400), "PNG")
    commit([edited("a", "watermark", in_strip=True, upload=wide)], commit_settings)
    (strip,) = read_parquet(Path(commit_settings.output) / ".run" / STRIPS / commit_settings.attempt)
    assert decode_image(strip["before"]).shape == decode_image(strip["after"]).shape == (160, STRIP_SIDE, 3)
    assert strip["product_type"] == "mug"


def test_a_block_without_rows_writes_nothing(commit_settings: CommitSettings) -> None:
    (summary,) = commit_block(to_table([], EDITED), commit_settings).to_pylist()
    assert summary["rows"] == 0
    assert not Path(commit_settings.output).exists()


def test_a_storage_failure_is_not_a_failed_row(
    commit_settings: CommitSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(uri: str, data: bytes, through: str | None = None) -> None:
        raise PermissionError(13, "denied")

    monkeypatch.setattr(storage, "write_bytes", refuse)
    with pytest.raises(
        StorageWriteError, match=r"StorageWriteError|cannot write .*/images/watermark/a\..*\.png"
    ):
        commit([edited("a", "watermark")], commit_settings)


def test_the_manifest_names_nothing_before_it_is_written(
    commit_settings: CommitSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    write = storage.write_bytes
    monkeypatch.setattr(storage, "write_bytes", lambda uri, *more: (write(uri, *more), order.append(uri))[0])
    commit([edited(f"{n}", "watermark", sampled=True) for n in range(20)], commit_settings)
    assert len(order) == 22
    assert "/journal/" in order[-1]


def test_a_rejected_row_says_why_and_nothing_is_written_for_it(commit_settings: CommitSettings) -> None:
    strict = DeliverySettings(gates=GateConfig(product_changed=0.1))
    settings = dataclasses.replace(commit_settings, delivery=strict)
    summary, (row,) = commit([edited("a", "watermark", sampled=True, in_strip=True)], settings)
    assert (row["status"], row["error_code"], row["output_uri"], row["output_sha256"]) == (
        "rejected",
        "product_changed",
        None,
        None,
    )
    assert "--gates: product_changed" in row["error_message"]
    assert row["source_uri"] == "s3://shop/a"
    assert (summary["rejected"], summary["corrected"], summary["errors"][0]["count"]) == (1, 0, 1)
    output = Path(commit_settings.output)
    assert not (output / "images").exists()
    assert not (output / ".run" / SAMPLES).exists()  # FID describes what is published
    (strip,) = read_parquet(output / ".run" / STRIPS / commit_settings.attempt)
    assert strip["rejected"] == row["error_message"]


def test_a_profile_names_files_and_fills_its_column(commit_settings: CommitSettings) -> None:
    profile = Profile("shop", "page", "today", ("webp",), longest_side=Bounds(minimum=100))
    settings = dataclasses.replace(commit_settings, delivery=DeliverySettings("webp", profile=profile))
    summary, manifest = commit([edited("a", "watermark"), edited("b")], settings)
    assert [row["profile_issues"] for row in manifest] == [["longest_side 60 < 100"], None]
    assert summary["profile_issues"] == [{"rule": "longest_side", "count": 1}]


def test_the_gate_detector_is_loaded_where_images_are_committed(
    commit_settings: CommitSettings, tmp_path: Path
) -> None:
    folder = write_detector(tmp_path / "detector", {"watermark": 3.0})
    gate = DetectorGate(str(folder), load_detector(folder).version, LabelMap.default())
    gates = GateConfig(product_changed=None, defect_remains={"watermark": 0.5})
    settings = dataclasses.replace(commit_settings, delivery=DeliverySettings(gates=gates, detector=gate))
    _, rows = commit([edited("a", "watermark"), edited("b", "wrong_angle")], settings)
    assert [row["error_code"] for row in rows] == ["defect_remains", None]


def test_a_process_that_is_killed_while_it_writes_an_image_leaves_nothing_beside_the_images(
    commit_settings: CommitSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished = []

    def replace(self: Path, target: Path, rename: Any = Path.replace) -> Any:
        if target.parent.parent.name == "images":
            unfinished.append(self.parent)
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    commit([edited("a", "watermark"), edited("b", "watermark")], commit_settings)
    assert (
        unfinished == [Path(commit_settings.output) / ".run" / "writing"] * 2
    )  # removed when the run is published


def with_canary(settings: CommitSettings) -> CommitSettings:
    """Settings of a run whose canary corrects every image, with one gate, which rejects images of one colour."""
    current = settings.models.current
    models = Models("out", current, dataclasses.replace(current, version="n" * 64), 1.0)
    gates = GateConfig(**{**GATES_OFF, "nearly_constant": 10.0})
    return dataclasses.replace(settings, models=models, delivery=DeliverySettings("png", gates=gates))


def edits_of(matte: float) -> list[dict[str, bytes]]:
    return encode_edits(Edit(identity_theta(1), torch.zeros(1, 3, 8, 8), torch.full((1, 1, 8, 8), matte)))


def test_what_the_current_bundle_makes_of_the_canarys_images_is_compared_and_not_published(
    commit_settings: CommitSettings,
) -> None:
    settings = with_canary(commit_settings)
    grey, kept = edits_of(1), edits_of(0)
    route = {"route": "watermark (canary)", "sampled": True, "in_strip": True}
    rows = [
        edited("a", "watermark", edits=kept, current_edits=grey, **route),
        edited("b", "watermark", edits=grey, current_edits=kept, **route),
        edited("c", "watermark", edits=kept, current_edits=PAINT, times=2, **route),
        edited("d", "watermark", edits=kept, current_edits=None, **route),  # was not finite
    ]
    summary, manifest = commit(rows, settings)
    statuses = [(one["image_id"], one["status"]) for one in manifest]
    assert statuses == [("a", "corrected"), ("b", "rejected"), *[("c", "corrected")] * 2, ("d", "corrected")]
    assert {one["model_version"] for one in manifest} == {"n" * 64}
    routes = {
        one["route"]: [one[name] for name in ("corrected", "rejected", "failed")] for one in summary["routes"]
    }
    assert routes == {"watermark (canary)": [4, 1, 0], "watermark (current)": [3, 1, 1]}
    assert (summary["corrected"], summary["rejected"], summary["failed"]) == (4, 1, 0)
    run = Path(settings.output) / ".run"
    (sample,) = read_parquet(run / SAMPLES / settings.attempt)  # the only image that both would publish
    assert sample["image_id"] == "c"
    assert sample["after"] == sample["before"] != sample["current"]
    strips = {one["image_id"]: one for one in read_parquet(run / STRIPS / settings.attempt)}
    assert [strips[name]["rejected"] is not None for name in "abcd"] == [False, True, False, False]
    assert [strips[name]["current_rejected"] is not None for name in "abcd"] == [True, False, False, False]
    assert [strips[name]["current"] is not None for name in "abcd"] == [True, True, True, False]
    assert len(list((Path(settings.output) / "images").rglob("*.png"))) == 3


def test_an_image_is_published_though_it_cannot_be_compared(
    commit_settings: CommitSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def apply(image: np.ndarray, edits: Any, background: list[bool]) -> Any:
        if edits == PAINT:
            raise MemoryError("600 MB")
        return apply_edits(image, edits, background)

    monkeypatch.setattr("pipelines.correction.stream.commit.apply_edits", apply)
    one = edited("a", "watermark", edits=edits_of(0), current_edits=PAINT, in_strip=True)
    summary, (row,) = commit([one], with_canary(commit_settings))
    assert row["status"] == "corrected"
    assert {one["route"]: one["failed"] for one in summary["routes"]} == {
        "watermark": 0,
        "watermark (current)": 1,
    }
