"""A bundle on trial corrects a share of the catalog, beside the current one."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.contracts.hashing import in_share
from tests.catalogs import read_parquet, rows, write_bundle
from tests.end_to_end.test_run_again import Shop

pytestmark = pytest.mark.ray

SHARE = 0.4
CATALOG = rows(40)
IN_CANARY = {one["image_id"] for one in CATALOG if in_share(SHARE, "canary", one["image_id"])}
DEFECTIVE = {one["image_id"] for one in CATALOG if one["labels"][0]["label"] != "clean"}


def manifest(shop: Shop) -> dict[str, dict[str, Any]]:
    return {one["image_id"]: one for one in read_parquet(shop.output / "manifest")}


def brightness(path: str) -> float:
    with Image.open(io.BytesIO(Path(path).read_bytes())) as image:
        return float(np.asarray(image).mean())


def corrected(told: dict[str, Any]) -> int:
    return int(sum(told["corrected_now"].values()))


def test_a_canary_corrects_its_share_can_be_withdrawn_and_can_be_promoted(tmp_path: Path) -> None:
    dark = write_bundle(tmp_path / "dark", -0.5, 1)
    bright = write_bundle(tmp_path / "bright", 0.5, 1, side=48)
    shop = Shop(tmp_path, dark)
    shop.write(CATALOG)
    trial = ("--canary", str(bright), "--canary-share", str(SHARE))

    told = shop.correct(*trial, "--fid-samples", "4")
    found = manifest(shop)
    versions = {one["model_version"] for name, one in found.items() if name in IN_CANARY}
    assert len(versions) == 1
    assert {name for name, one in found.items() if one["model_version"] in versions} == IN_CANARY
    for name in DEFECTIVE:
        assert (brightness(found[name]["output_uri"]) > 128) == (name in IN_CANARY)
    comparison = told["canary"]
    assert comparison["version"] in versions
    assert sum(by["canary"]["corrected"] for by in comparison["counts"].values()) == len(
        IN_CANARY & DEFECTIVE
    )
    assert sum(told["counts_by_route"][defect]["corrected"] for defect in comparison["counts"]) == len(
        DEFECTIVE
    )
    for defect, by in comparison["counts"].items():
        assert (
            by["current"]["corrected"] == by["canary"]["corrected"]
        )  # fewer than the report has pictures of
        figures = comparison["fid"][defect]
        assert figures["canary"]["n"] == figures["current"]["n"]
        assert figures["canary"]["fid_before"] == figures["current"]["fid_before"]
        assert figures["canary"]["fid_after"] != figures["current"]["fid_after"]
    page = (shop.output / "report" / "index.html").read_text()
    assert page.count("corrected by the canary") == page.count("corrected by the current bundle") > 0

    told = shop.correct()  # withdrawn
    assert corrected(told) == len(IN_CANARY)
    assert told["canary"] is None
    assert all(brightness(manifest(shop)[name]["output_uri"]) < 128 for name in DEFECTIVE)

    assert corrected(shop.correct(*trial, "--no-fid")) == len(IN_CANARY)
    told = shop.correct("--model", str(bright), "--no-fid")  # promoted
    assert corrected(told) == len(CATALOG) - len(IN_CANARY)
    assert all(brightness(manifest(shop)[name]["output_uri"]) > 128 for name in DEFECTIVE)
