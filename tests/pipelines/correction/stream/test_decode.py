import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.sampling import Sample, sample_hash
from pipelines.correction.catalog import CATALOG_ROW
from pipelines.correction.inspect.survey import CLEAN
from pipelines.correction.models import Models
from pipelines.correction.rows import CORRECT, DECODED
from pipelines.correction.stream.decode import DecodeSettings, decode_rows
from pipelines.images.allowed_uris import AllowedUris
from pipelines.images.decode import DecodeLimits, ImageError
from pipelines.images.decode_apart import decode_apart
from pipelines.images.resize import resize_bicubic
from tests.catalogs import picture, row
from tests.hostile_images import encode, hostile_images
from tests.pipelines.correction.inspected import models_of

SETTINGS = DecodeSettings(LabelMap.default(), models_of("m"))


def decode(rows: list[dict[str, Any]], settings: DecodeSettings = SETTINGS) -> list[dict[str, Any]]:
    columns = {**dict.fromkeys(CATALOG_ROW.names), "purpose": CORRECT, "work_key": b"w" * 16}
    normal = [{**columns, **one, "source_uri": one.get("uri")} for one in rows]
    table = pa.Table.from_pylist(
        [{name: one[name] for name in CATALOG_ROW.names} for one in normal], CATALOG_ROW
    )
    tables = list(decode_rows(table, settings))
    assert all(part.schema == DECODED for part in tables)
    return [part for one in tables for part in one.to_pylist()]


def test_a_defective_image_becomes_the_models_input() -> None:
    image = picture(3, 20, 24)
    data = encode(image, "PNG")
    (decoded,) = decode([row("a", "watermark", "wrong_angle", image=data)])
    assert decoded["defects"] == ["wrong_angle", "watermark"]
    assert decoded["route"] == "wrong_angle"
    assert decoded["upload"] == data
    assert decoded["input_sha256"] == hashlib.sha256(data).hexdigest()
    assert decoded["input_bytes"] == len(data)
    assert (decoded["width"], decoded["height"]) == (20, 24)
    assert decoded["error_code"] is None
    model_input = np.frombuffer(decoded["model_input"], np.uint8).reshape(16, 16, 3)
    np.testing.assert_array_equal(model_input, resize_bicubic(image, 16, 16))


def test_the_size_is_the_uploads_though_it_is_decoded_smaller() -> None:
    (decoded,) = decode([row("a", "clean", image=encode(picture(3, 640, 480)))])
    assert (decoded["width"], decoded["height"]) == (640, 480)


def test_a_clean_image_carries_nothing_on_unless_it_is_sampled() -> None:
    keep = Sample({CLEAN: sample_hash("b")})
    plain = decode([row("a", "clean")])[0]
    sampled = decode([row("b", "clean")], dataclasses.replace(SETTINGS, sample=keep))[0]
    assert (plain["upload"], plain["model_input"], plain["sampled"]) == (None, None, False)
    assert sampled["sampled"]
    assert sampled["upload"] is not None


@pytest.mark.parametrize("label", ["watermark", "clean"])
def test_every_hostile_upload_is_a_failed_row_with_its_code(label: str) -> None:
    cases = hostile_images()
    decoded = decode([row(name, label, image=data) for name, (data, _) in cases.items()])
    assert {one["image_id"]: one["error_code"] for one in decoded} == {
        name: code for name, (_, code) in cases.items()
    }
    assert all(
        one["error_message"] and one["upload"] is None and one["model_input"] is None for one in decoded
    )
    assert all(one["input_sha256"] for one in decoded)


def test_images_are_fetched_and_missing_ones_fail_alone(tmp_path: Path) -> None:
    data = encode(picture(1))
    (tmp_path / "there.jpg").write_bytes(data)
    (tmp_path / "empty.jpg").write_bytes(b"")
    decoded = decode(
        [
            row("a", "watermark", uri=str(tmp_path / "there.jpg")),
            row("b", "watermark", uri=(tmp_path / "there.jpg").as_uri()),
            row("c", "watermark", uri=str(tmp_path / "gone.jpg")),
            row("d", "watermark", uri=str(tmp_path / "empty.jpg")),
            row("e", "watermark", uri=None),
            row("f", "watermark", uri="gopher://old/picture"),
            row("g", "watermark", uri="/etc/hostname"),
        ],
        dataclasses.replace(SETTINGS, allowed=AllowedUris((str(tmp_path),))),
    )
    assert [one["error_code"] for one in decoded] == [
        None,
        None,
        "missing",
        "empty",
        "no_image",
        "uri_not_allowed",
        "uri_not_allowed",
    ]
    assert [one["upload"] for one in decoded[:2]] == [data, data]
    assert decoded[0]["source_uri"] == str(tmp_path / "there.jpg")


def test_unknown_labels_fail_only_where_the_map_says_so() -> None:
    strict = dataclasses.replace(SETTINGS.label_map, unknown_labels="fail")
    catalog = [row("a", "polka dots")]
    lenient, refused = decode(catalog)[0], decode(catalog, dataclasses.replace(SETTINGS, label_map=strict))[0]
    assert lenient["error_code"] is None
    assert refused["error_code"] == "unknown_label"
    assert "'polka dots'" in refused["error_message"]


def test_order_and_number_of_rows_are_kept_over_many_batches() -> None:
    assert [one["image_id"] for one in decode([row(f"{n}", "clean") for n in range(40)])] == [
        f"{n}" for n in range(40)
    ]


def test_no_rows_are_no_tables() -> None:
    assert decode([]) == []


def test_a_row_whose_image_lacks_the_stated_hash_is_read_again(tmp_path: Path) -> None:
    data = encode(picture(1))
    stated = f"sha256:{hashlib.sha256(data).hexdigest().upper()}"
    settings = dataclasses.replace(SETTINGS, allowed=AllowedUris((str(tmp_path),)))
    rows = {
        "as stated": row("a", "watermark", image=data),
        "not yet": row("b", "watermark", image=encode(picture(2))),
        "not there": row("c", "watermark", uri=str(tmp_path / "gone")),
        "not allowed": row("d", "watermark", uri="/elsewhere"),
        "no image": row("e", "watermark", image=None, uri=None),
        "broken, as stated": row("f", "watermark", image=b"broken"),
    }
    version = {"broken, as stated": f"sha256:{hashlib.sha256(b'broken').hexdigest()}"}
    asked = [
        {**one, "row_key": b"r" * 16, "input_version": version.get(name, stated)}
        for name, one in rows.items()
    ]
    keeps_key = {
        name: one["row_key"] is not None for name, one in zip(rows, decode(asked, settings), strict=True)
    }
    assert keeps_key == {
        "as stated": True,
        "not yet": False,
        "not there": False,
        "not allowed": False,
        "no image": True,
        "broken, as stated": True,
    }


def test_an_image_of_the_canary_is_made_for_it_and_to_compare_for_the_current_bundle_too() -> None:
    current = models_of("old").current
    canary = dataclasses.replace(current, version="new", image_size=24, fit="letterbox")
    strips = Sample({"watermark (canary)": sample_hash("a")})
    settings = dataclasses.replace(SETTINGS, models=Models("out", current, canary, 1.0), strips=strips)
    shown, _, clean = decode([row("a", "watermark"), row("b", "watermark"), row("c")], settings)
    assert shown["route"] == "watermark (canary)"
    assert clean["route"] == CLEAN
    assert len(shown["model_input"]) == 3 * 24 * 18  # of 60 x 44
    (alone,) = decode([row("a", "watermark")])
    assert shown["current_input"] == alone["model_input"]
    assert alone["current_input"] is None
    plain = dataclasses.replace(settings, strips=Sample({}))
    assert decode([row("a", "watermark")], plain)[0]["current_input"] is None


def test_an_image_that_cannot_be_decoded_to_compare_is_corrected_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails_if_large(upload: bytes, limits: DecodeLimits, max_side: int) -> Any:
        if max_side > 2 * 16:
            raise ImageError("decode_timeout", "too slow")
        return decode_apart(upload, limits, max_side=max_side)

    monkeypatch.setattr("pipelines.correction.stream.decode.decode_apart", fails_if_large)
    canary = dataclasses.replace(models_of("new").current, flag="--canary")
    current = dataclasses.replace(models_of("old").current, image_size=64)
    strips = Sample({"watermark (canary)": sample_hash("a")})
    settings = dataclasses.replace(SETTINGS, models=Models("out", current, canary, 1.0), strips=strips)
    (one,) = decode([row("a", "watermark")], settings)
    assert (one["error_code"], one["current_input"]) == (None, None)
    assert one["model_input"] is not None
