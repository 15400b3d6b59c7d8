from collections import Counter
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.errors import ConfigurationError
from pipelines.dataset.photos import PhotoSettings, catalog_row, read_photo, reference_row, training_rows
from pipelines.decode import ImageError, decode_image
from pipelines.splits import split_of
from tests.photo_tables import HEIGHT, WIDTH, encode, product, record, scene

GROUPS = {"non_white_background": "background", "watermark": "background", "wrong_angle": "angle"}
SETTINGS = PhotoSettings(groups=GROUPS, max_side=64)


def rows(settings: PhotoSettings = SETTINGS, **changes: Any) -> dict[str, dict[str, Any]]:
    return {row["defect"]: row for row in training_rows(read_photo(record(**changes), settings), settings)}


def test_a_photo_with_a_good_mask_gives_a_pair_for_every_defect() -> None:
    made = rows()
    assert {defect: row["group"] for defect, row in made.items()} == GROUPS
    for row in made.values():
        assert row["pairing"] == "paired"
        assert row["image_id"] == "photo"
        assert row["split"] == split_of("photo")
        assert row["product_type"] == "shirt"
        source, target = decode_image(row["source"]), decode_image(row["target"])
        assert source.shape == target.shape == (64, 43, 3)
        assert np.abs(source.astype(int) - target).mean() > 0.5


def test_the_target_is_the_product_on_white() -> None:
    target = decode_image(rows(SETTINGS, image_id="x")["non_white_background"]["target"]).astype(int)
    assert target[:10].min() > 240
    assert np.abs(target[20:48, 16:26] - (200, 40, 40)).max() < 12


def test_the_background_source_is_the_photo() -> None:
    source = decode_image(rows()["non_white_background"]["source"]).astype(int)
    assert np.abs(source[:10] - (60, 140, 90)).max() < 12
    assert np.abs(source[20:48, 16:26] - (200, 40, 40)).max() < 12


def test_all_defects_of_a_photo_share_one_target() -> None:
    assert len({row["target"] for row in rows().values()}) == 1


def test_a_turned_product_shows_no_photo_background() -> None:
    turned = decode_image(rows()["wrong_angle"]["source"]).astype(int)
    green = (turned[..., 1] > turned[..., 0] + 30) & (turned[..., 1] > turned[..., 2] + 20)
    assert not green.any()
    assert turned[:2, :2].min() > 240


@pytest.mark.parametrize(
    ("mask", "state"),
    [
        (None, "missing"),
        (b"", "missing"),
        (b"not a picture", "unreadable"),
        (encode(np.full((HEIGHT, WIDTH), 128, np.uint8)), "doubtful"),
        (encode(np.zeros((HEIGHT, WIDTH), np.uint8)), "doubtful"),
        (encode(np.full((WIDTH, HEIGHT), 255, np.uint8)), "wrong_size"),
    ],
)
def test_without_a_trusted_mask_the_photo_alone_is_left(mask: bytes | None, state: str) -> None:
    photo = read_photo(record(mask=mask), SETTINGS)
    (row,) = training_rows(photo, SETTINGS)
    assert photo.mask_state == state
    assert (row["defect"], row["pairing"], row["target"]) == ("non_white_background", "unpaired", None)
    assert np.abs(decode_image(row["source"])[:10].astype(int) - (60, 140, 90)).max() < 12
    assert reference_row(photo) is None


def test_min_quality_decides_which_masks_are_trusted() -> None:
    # A third of the product is see-through: between a clean mask and a useless one.
    mask = product().astype(np.uint8) * 255
    mask[20:36] //= 2
    for min_quality, pairing in ((0.0, "paired"), (1.0, "unpaired")):
        settings = PhotoSettings(groups=GROUPS, max_side=64, min_quality=min_quality)
        assert rows(settings, mask=encode(mask))["non_white_background"]["pairing"] == pairing


def test_the_mask_follows_the_photo_as_shown_not_as_stored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    stored = np.rot90(scene(), 1)  # undone by the orientation tag
    image = encode(np.ascontiguousarray(stored), "JPEG", quality=95, subsampling=0, exif=exif)
    target = decode_image(rows(image=image)["watermark"]["target"]).astype(int)
    assert target.shape == (64, 43, 3)
    assert target[:10].min() > 240
    assert np.abs(target[20:48, 16:26] - (200, 40, 40)).max() < 20


def test_rows_depend_on_the_id_and_the_seed_alone() -> None:
    assert rows() == rows()
    other_seed = rows(PhotoSettings(groups=GROUPS, max_side=64, seed=1))
    other_id = rows(image_id="another")
    for defect in ("watermark", "wrong_angle"):
        assert other_seed[defect]["source"] != rows()[defect]["source"]
        assert other_id[defect]["source"] != rows()[defect]["source"]
    assert other_seed["non_white_background"] == rows()["non_white_background"]


def test_only_defects_of_the_label_map_are_made() -> None:
    settings = PhotoSettings(groups={"wrong_angle": "pose"}, max_side=64)
    assert {row["defect"]: row["group"] for row in rows(settings).values()} == {"wrong_angle": "pose"}
    assert rows(settings, mask=None) == {}
    assert catalog_row(read_photo(record(mask=None), settings), settings) is None


def test_small_photos_are_not_enlarged() -> None:
    settings = PhotoSettings(groups=GROUPS, max_side=384)
    assert decode_image(rows(settings)["watermark"]["source"]).shape == (HEIGHT, WIDTH, 3)


def test_a_photo_that_cannot_be_read_says_why() -> None:
    for image, code in ((b"", "empty"), (None, "empty"), (b"<html>", "unknown_format")):
        with pytest.raises(ImageError) as caught:
            read_photo(record(image=image), SETTINGS)
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"max_side": 8}, "--max-side"),
        ({"min_quality": 1.5}, "--min-quality"),
        ({"min_quality": float("nan")}, "--min-quality"),
        ({"groups": {"dust": "background"}}, "--label-map"),
    ],
)
def test_wrong_settings_name_their_flag(changes: dict[str, Any], flag: str) -> None:
    with pytest.raises(ConfigurationError, match=flag):
        PhotoSettings(**{"groups": GROUPS, **changes})


def test_the_test_catalog_shows_each_defect_equally_often_as_the_shards_have_it() -> None:
    photo_rows = rows()
    row = catalog_row(read_photo(record(), SETTINGS), SETTINGS)
    assert row is not None
    (label,) = row["labels"]
    assert row["image"] == photo_rows[label["label"]]["source"]
    small = PhotoSettings(groups=GROUPS, max_side=32)
    photo = read_photo(record(), small)
    seen: Counter[str] = Counter()
    for i in range(150):
        made = catalog_row(type(photo)(**{**vars(photo), "image_id": f"p{i}"}), small)
        assert made is not None
        seen[made["labels"][0]["label"]] += 1
    assert set(seen) == set(GROUPS)
    assert min(seen.values()) > 30


def test_a_doubtful_photo_enters_the_test_catalog_with_its_background_only() -> None:
    for i in range(5):
        row = catalog_row(read_photo(record(f"p{i}", mask=None), SETTINGS), SETTINGS)
        assert row is not None
        assert row["labels"] == [{"label": "non_white_background", "score": 1.0}]


def test_the_reference_is_the_clean_image_without_loss() -> None:
    photo = read_photo(record(), SETTINGS)
    row = reference_row(photo)
    assert row is not None
    assert row["image"].startswith(b"\x89PNG")
    assert (decode_image(row["image"]) == photo.clean).all()
    assert row["defect"] is None
