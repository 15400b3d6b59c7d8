from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.detector.network import load_detector
from model.edits import Edit, identity_theta
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.profiles.profile import Bounds, Profile
from pipelines.correction.deliver.deliver import LOWEST_QUALITY, Delivered, DeliverySettings
from pipelines.correction.deliver.deliver import deliver as deliver_edited
from pipelines.correction.deliver.gate_detector import DetectorGate, Remaining
from pipelines.correction.deliver.gates import GateConfig, Rejection
from pipelines.correction.deliver.white import WHITE, measure_white
from pipelines.images.decode import decode_image
from pipelines.images.encode import encode_image
from pipelines.inference.edits.apply import EditedImage
from pipelines.inference.edits.codec import encode_edits
from tests.catalogs import write_detector

NOTHING = encode_edits(Edit(identity_theta(1), torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)))
SETTINGS = DeliverySettings(gates=GateConfig())
NO_PRODUCT_GATES = GateConfig(product_changed=None, product_lost=None, product_holes=None, weak_outline=None)
NO_PRODUCT = DeliverySettings(gates=NO_PRODUCT_GATES)  # no gate looks for the product
RULES = Profile("shop", "page", "today", ("jpeg", "png"))


def product(background: int) -> np.ndarray:
    """Return uint8 (200,160,3): a striped product on an even background."""
    image = np.full((200, 160, 3), background, np.uint8)
    image[50:150, 40:120] = (30, 60, 180)
    for top in range(50, 150, 20):
        image[top : top + 10, 40:120] = (200, 180, 40)
    return image


def row(*defects: str) -> dict[str, Any]:
    return {"defects": list(defects), "edits": NOTHING, "product_type": None}


def deliver(
    upload: np.ndarray,
    after: np.ndarray,
    row: dict[str, Any],
    settings: DeliverySettings,
    remaining: Remaining | None = None,
) -> Delivered:
    """Call `deliver` with a correction that painted nothing."""
    edited = EditedImage(after, np.zeros(after.shape[:2], np.uint8))
    return deliver_edited(upload, edited, row, settings, remaining)


BACKGROUND = row("non_white_background")
UPLOAD, CORRECTED = product(150), product(247)


def rejected(after: np.ndarray, settings: DeliverySettings = SETTINGS, **kwargs: Any) -> Rejection:
    with pytest.raises(Rejection) as caught:
        deliver(UPLOAD, after, BACKGROUND, settings, **kwargs)
    return caught.value


@pytest.mark.parametrize("format", ["jpeg", "webp", "png"])
def test_a_near_white_ground_is_white_in_the_file_and_the_product_is_not_touched(format: str) -> None:
    delivered = deliver(UPLOAD, CORRECTED, BACKGROUND, replace(SETTINGS, format=format))
    decoded = decode_image(delivered.encoded)
    np.testing.assert_array_equal(decoded, delivered.image)
    assert measure_white(decoded).worst == 0
    assert (decoded[:40] == 255).all()
    plain = decode_image(encode_image(product(255), format))
    assert np.abs(decoded[50:150, 40:120].astype(int) - plain[50:150, 40:120]).max() == 0
    assert delivered.issues is None
    other = deliver(UPLOAD, CORRECTED, row("watermark"), replace(SETTINGS, format="png"))
    np.testing.assert_array_equal(other.image, CORRECTED)  # no white background was asked for


def test_without_gates_the_correction_is_encoded_as_it_is() -> None:
    delivered = deliver(UPLOAD, np.zeros_like(UPLOAD), BACKGROUND, DeliverySettings("png"))
    np.testing.assert_array_equal(delivered.image, np.zeros_like(UPLOAD))


def test_each_gate_keeps_the_original_with_its_code() -> None:
    assert rejected(np.full_like(UPLOAD, 90)).code == "nearly_constant"
    assert rejected(np.full_like(UPLOAD, 255)).code == "nearly_constant"
    speck = np.full((200, 160, 3), 255, np.uint8)
    speck[100:106, 80:86] = 0
    gates = replace(SETTINGS, gates=replace(GateConfig(), nearly_constant=None))
    assert rejected(speck, gates).code == "empty_product"
    assert rejected(np.minimum(speck, 247), gates).code == "empty_product"  # it is white after whitening
    grey = rejected(product(200))
    assert (grey.code, grey.value) == ("background_not_white", 1.0)
    half = CORRECTED.copy()
    half[100:150, 40:120] = 255
    lost = rejected(half)
    assert lost.code == "product_lost"
    assert 0.4 < lost.value < 0.6
    hole = CORRECTED.copy()
    hole[80:120, 60:90] = 255
    assert rejected(hole).code == "product_holes"
    other = CORRECTED.copy()
    other[50:150, 40:120] = 90
    changed = rejected(other)
    assert changed.code == "product_changed"
    assert changed.value > 20
    around = CORRECTED.copy()
    around[60:140, 20:40] = UPLOAD[60:140, 20:40]
    assert rejected(around).code == "weak_outline"
    for wrong in (half, hole, other, around):
        assert deliver(UPLOAD, wrong, BACKGROUND, NO_PRODUCT).format == "jpeg"


def test_what_the_background_gates_look_for_is_not_asked_of_other_corrections() -> None:
    half = UPLOAD.copy()
    half[100:150, 40:120] = 255
    with pytest.raises(Rejection) as caught:
        deliver(UPLOAD, half, row("watermark"), SETTINGS)
    assert caught.value.code == "product_changed"


def test_a_product_that_the_photo_cuts_is_no_background() -> None:
    upload = product(150)
    upload[100:, 40:120] = upload[50:150, 40:120]
    after = upload.copy()
    after[(upload == 150).all(axis=2)] = 255
    assert deliver(upload, after, BACKGROUND, SETTINGS).encoded
    assert measure_white(after).border > 0.02


def test_the_detector_judges_the_encoded_file(tmp_path: Path) -> None:
    folder = write_detector(tmp_path, {"non_white_background": 3.0, "watermark": 3.0})
    gate = DetectorGate(str(folder), load_detector(folder).version, LabelMap.default())
    asked = replace(SETTINGS, gates=GateConfig(defect_remains={"non_white_background": 0.9}), detector=gate)
    assert rejected(CORRECTED, asked, remaining=gate.load()).code == "defect_remains"
    assert deliver(UPLOAD, product(150), row("watermark"), asked, gate.load()).format == "jpeg"  # not asked
    strict = replace(asked, gates=GateConfig(defect_remains={"non_white_background": 0.99}))
    assert deliver(UPLOAD, CORRECTED, BACKGROUND, strict, gate.load()).format == "jpeg"


def noisy() -> np.ndarray:
    """Return a product like gravel that reaches into a corner, on white."""
    image = np.full((120, 120, 3), 255, np.uint8)
    image[3:, 3:] = np.random.default_rng(0).integers(0, 240, (117, 117, 3), np.uint8)
    return image


FREE = replace(NO_PRODUCT, gates=replace(NO_PRODUCT_GATES, background_not_white=None))


def test_where_an_encoder_ripples_the_white_border_a_finer_file_is_written() -> None:
    plain = decode_image(encode_image(noisy(), "jpeg", 92))
    assert (plain[:2] < WHITE).any(axis=2).mean() > 0.1
    delivered = deliver(noisy(), noisy(), BACKGROUND, FREE)
    assert delivered.format == "jpeg"
    assert (delivered.image[:2] < WHITE).any(axis=2).mean() < 0.01
    coarse = replace(FREE, profile=replace(RULES, max_bytes=len(encode_image(noisy(), "jpeg", 92))))
    assert (
        deliver(noisy(), noisy(), BACKGROUND, coarse).image == plain
    ).all()  # finer qualities have too many bytes


def test_where_no_quality_keeps_white_png_is_written_if_the_profile_takes_it() -> None:
    webp = replace(FREE, format="webp")  # halved chroma bleeds at any quality
    delivered = deliver(noisy(), noisy(), BACKGROUND, webp)
    assert delivered.format == "png"
    np.testing.assert_array_equal(delivered.image, noisy())
    alone = replace(webp, profile=replace(RULES, formats=("webp",)))
    assert deliver(noisy(), noisy(), BACKGROUND, alone).format == "webp"


def test_quality_is_lowered_until_a_profiles_bytes_are_met() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (90, 90, 3), np.uint8)
    full = deliver(picture, picture, row("watermark"), replace(SETTINGS, gates=None))
    profile = replace(RULES, max_bytes=len(full.encoded) - 1)
    small = deliver(picture, picture, row("watermark"), DeliverySettings(profile=profile))
    assert len(small.encoded) <= len(full.encoded) - 1
    assert small.encoded == encode_image(picture, "jpeg", 86)
    assert small.issues == []
    never = DeliverySettings(profile=replace(RULES, max_bytes=10))
    least = deliver(picture, picture, row("watermark"), never)
    assert least.encoded == encode_image(picture, "jpeg", LOWEST_QUALITY)
    assert least.issues == [f"bytes {len(least.encoded)} > 10"]


def test_a_profile_says_what_is_missing_and_asks_for_white_of_every_defect() -> None:
    profile = replace(
        RULES, longest_side=Bounds(500, 1600), white_background=True, fill_share=Bounds(minimum=0.85)
    )
    settings = DeliverySettings(profile=profile, gates=None)
    snapped = deliver(UPLOAD, CORRECTED, row("watermark"), settings)
    assert snapped.issues == ["longest_side 200 < 500", "fill_share 0.50 < 0.85"]
    assert (snapped.image[0] == 255).all()
    assert deliver(UPLOAD, product(200), row("watermark"), settings).issues == [
        "longest_side 200 < 500",
        "background 1.00 of a corner or the border is not white",
    ]


def test_the_same_pixels_give_the_same_bytes() -> None:
    for format in ("jpeg", "webp", "png"):
        settings = replace(SETTINGS, format=format)
        first, second = (deliver(UPLOAD, CORRECTED.copy(), BACKGROUND, settings) for _ in range(2))
        assert first.encoded == second.encoded
