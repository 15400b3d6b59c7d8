from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.errors import ConfigurationError
from pipelines.contracts.splits import split_of
from pipelines.images.decode import ImageError, decode_image
from pipelines.preparation.entries import Entry, Locator, Record
from pipelines.preparation.unit.rows import (
    RowSettings,
    Sample,
    catalog_row,
    read_sample,
    reference_row,
    training_rows,
    with_saliency,
)
from tests.photo_tables import HEIGHT, WIDTH, encode, product, record, scene

GROUPS = {"non_white_background": "background", "watermark": "background", "wrong_angle": "angle"}
SYNTHESES = {name: name for name in GROUPS}
#: Fixed pairs, which tests can compare; `ANEW` leaves them to training.
SETTINGS = RowSettings(GROUPS, SYNTHESES, max_side=64, draws=1)
ANEW = replace(SETTINGS, draws=0)
TRAINED, HELD_BACK = (
    next(f"p{n}" for n in range(99) if split_of(f"p{n}") == side) for side in ("train", "test")
)
SOMEWHERE = Locator("somewhere")


def sample(settings: RowSettings = SETTINGS, image_id: str = "photo", **changes: Any) -> Sample:
    """Return a decoded photo, with a perfect mask except for `changes`."""
    row = record(image_id, **changes)
    entry = Entry(image_id, SOMEWHERE, mask=SOMEWHERE, product_type=row["product_type"])
    return read_sample(Record(entry, row["image"], mask=row["mask"]), settings)


def rows(settings: RowSettings = SETTINGS, **changes: Any) -> dict[str, dict[str, Any]]:
    return by_defect(sample(settings, **changes), settings)


def by_defect(decoded: Sample, settings: RowSettings = SETTINGS) -> dict[str, dict[str, Any]]:
    return {row["defect"]: row for row in training_rows(decoded, settings)}


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


def test_training_rows_of_a_photo_hold_the_material_of_pairs() -> None:
    made = rows(ANEW, image_id=TRAINED)
    assert set(made) == set(GROUPS)
    for defect, row in made.items():
        assert (row["pairing"], row["split"]) == ("paired", "train")
        covered = decode_image(row["mask"])[..., 0] > 127
        assert (covered == (decode_image(row["target"]).min(axis=-1) < 128)).mean() > 0.97
        shows = defect == "non_white_background"
        # The photo is the source of the background's defect; for the others, it is what marks may be drawn over.
        assert (row["source"] is not None, row["photo"] is not None) == (shows, not shows)
        photo = decode_image(row["source"] or row["photo"]).astype(int)
        assert np.abs(photo[:10] - (60, 140, 90)).max() < 12


def test_a_product_image_leaves_its_sources_to_training() -> None:
    image = np.full((64, 48, 3), 255, np.uint8)
    image[16:48, 12:36] = (200, 40, 40)
    entry = Entry(TRAINED, None, target=SOMEWHERE)
    made = by_defect(read_sample(Record(entry, None, encode(image)), ANEW), ANEW)
    assert set(made) == set(GROUPS)
    assert all(row["source"] is row["mask"] is row["photo"] is None for row in made.values())
    assert all(row["pairing"] == "paired" and row["target"] for row in made.values())


def test_pairs_of_the_test_split_are_fixed() -> None:
    assert rows(ANEW, image_id=HELD_BACK) == rows(SETTINGS, image_id=HELD_BACK)
    for row in rows(ANEW, image_id=HELD_BACK).values():
        assert row["source"] is not None
        assert row["mask"] is row["photo"] is None


def test_draws_give_different_pairs_of_drawn_defects() -> None:
    settings = replace(SETTINGS, draws=3)
    drawn = list(training_rows(sample(settings, TRAINED), settings))
    assert Counter(row["defect"] for row in drawn) == {
        "non_white_background": 1,
        "watermark": 3,
        "wrong_angle": 3,
    }
    assert len({row["source"] for row in drawn}) == 7
    held_back = list(training_rows(sample(settings, HELD_BACK), settings))
    assert len(held_back) == 3


def test_all_defects_of_a_photo_share_one_target() -> None:
    assert len({row["target"] for row in rows().values()}) == 1


def test_a_turned_product_shows_no_photo_background() -> None:
    turned = decode_image(rows()["wrong_angle"]["source"]).astype(int)
    green = (turned[..., 1] > turned[..., 0] + 30) & (turned[..., 1] > turned[..., 2] + 20)
    assert not green.any()
    assert turned[:2, :2].min() > 240


@pytest.mark.parametrize(
    ("mask", "missing"),
    [
        (None, "missing"),
        (b"", "missing"),
        (b"not a picture", "unreadable"),
        (encode(np.full((HEIGHT, WIDTH), 128, np.uint8)), None),
        (encode(np.zeros((HEIGHT, WIDTH), np.uint8)), None),
        (encode(np.full((WIDTH, HEIGHT), 255, np.uint8)), "wrong_size"),
    ],
)
def test_without_a_trusted_mask_only_the_photo_is_used(mask: bytes | None, missing: str | None) -> None:
    photo = sample(mask=mask)
    (row,) = training_rows(photo, SETTINGS)
    assert photo.mask_missing == missing
    assert (photo.mask is None) == (missing is not None)
    assert (row["defect"], row["pairing"], row["target"]) == ("non_white_background", "unpaired", None)
    assert np.abs(decode_image(row["source"])[:10].astype(int) - (60, 140, 90)).max() < 12
    assert reference_row(photo) is None


def test_min_quality_decides_which_masks_are_trusted() -> None:
    # A third of the product is see-through: between a clean mask and a useless one.
    mask = product().astype(np.uint8) * 255
    mask[20:36] //= 2
    for min_quality, pairing in ((0.0, "paired"), (1.0, "unpaired")):
        settings = replace(SETTINGS, min_quality=min_quality)
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
    other_seed = rows(replace(SETTINGS, seed=1))
    other_id = rows(image_id="another")
    for defect in ("watermark", "wrong_angle"):
        assert other_seed[defect]["source"] != rows()[defect]["source"]
        assert other_id[defect]["source"] != rows()[defect]["source"]
    assert other_seed["non_white_background"] == rows()["non_white_background"]


def test_only_defects_of_the_label_map_are_made() -> None:
    settings = RowSettings({"wrong_angle": "pose"}, {"wrong_angle": "wrong_angle"}, max_side=64, draws=1)
    assert {row["defect"]: row["group"] for row in rows(settings).values()} == {"wrong_angle": "pose"}
    assert rows(settings, mask=None) == {}
    assert catalog_row(sample(settings, mask=None), []) is None


def test_small_photos_are_not_enlarged() -> None:
    settings = replace(SETTINGS, max_side=384)
    assert decode_image(rows(settings)["watermark"]["source"]).shape == (HEIGHT, WIDTH, 3)


def test_an_unreadable_photo_has_an_error_code() -> None:
    for record_, code in (
        (Record(Entry("p", SOMEWHERE), b""), "empty"),
        (Record(Entry("p", SOMEWHERE), b"<html>"), "unknown_format"),
        (Record(Entry("p", SOMEWHERE), error=("missing", "no such file")), "missing"),
        (
            Record(Entry("p", SOMEWHERE, SOMEWHERE, defect="watermark"), encode(scene()), b"junk"),
            "unknown_format",
        ),
    ):
        with pytest.raises(ImageError) as caught:
            read_sample(record_, SETTINGS)
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"max_side": 8}, "--max-side"),
        ({"min_quality": 1.5}, "--min-quality"),
        ({"min_quality": float("nan")}, "--min-quality"),
        (
            {"syntheses": {"dust": "watermark"}},
            "--synthesis dust=watermark: the label map has no defect 'dust'",
        ),
        ({"syntheses": {"watermark": "magic"}}, "magic"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        RowSettings(**{"groups": GROUPS, "syntheses": SYNTHESES, **changes})


@cache
def sample_once() -> Sample:
    return sample()


def test_the_test_catalog_shows_each_defect_equally_often_as_the_shards_have_it() -> None:
    made = list(training_rows(sample(), SETTINGS))
    seen: Counter[str] = Counter()
    for i in range(150):
        renamed = [{**row, "image_id": f"p{i}"} for row in made]
        row = catalog_row(replace(sample_once(), entry=Entry(f"p{i}")), renamed)
        assert row is not None
        (label,) = row["labels"]
        seen[label["label"]] += 1
        assert row["image"] == next(r["source"] for r in made if r["defect"] == label["label"])
    assert set(seen) == set(GROUPS)
    assert min(seen.values()) > 30


def test_a_doubtful_photo_enters_the_test_catalog_with_its_background_only() -> None:
    for i in range(5):
        photo = sample(image_id=f"p{i}", mask=None)
        row = catalog_row(photo, list(training_rows(photo, SETTINGS)))
        assert row is not None
        assert row["labels"] == [{"label": "non_white_background", "score": 1.0}]


def test_the_reference_is_the_clean_image_without_loss() -> None:
    photo = sample()
    row = reference_row(photo)
    assert row is not None
    assert row["image"].startswith(b"\x89PNG")
    assert (decode_image(row["image"]) == photo.clean).all()
    assert row["defect"] is None


def test_a_clean_product_gives_a_pair_for_every_defect() -> None:
    clean = np.where(product()[..., None], np.uint8((200, 40, 40)), np.uint8(255))
    entry = Entry("studio", target=SOMEWHERE, product_type="shirt")
    made = by_defect(read_sample(Record(entry, target=encode(clean)), SETTINGS))
    assert set(made) == set(GROUPS)
    for row in made.values():
        assert row["pairing"] == "paired"
        assert np.abs(decode_image(row["target"]).astype(int)[:8] - 255).max() < 5
        assert np.abs(decode_image(row["source"]).astype(int) - decode_image(row["target"])).mean() > 0.5
    row = reference_row(read_sample(Record(entry, target=encode(clean)), SETTINGS))
    assert row is not None
    assert row["defect"] is None


def test_a_given_pair_is_kept_at_the_stored_size() -> None:
    other = encode(np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    entry = Entry("pair", SOMEWHERE, SOMEWHERE, defect="wrong_angle", split="test")
    pair = read_sample(Record(entry, encode(scene()), other), SETTINGS)
    (row,) = training_rows(pair, SETTINGS)
    assert (row["defect"], row["group"], row["pairing"]) == ("wrong_angle", "angle", "paired")
    assert row["split"] == "test"  # the dataset's own split goes before the hash
    assert decode_image(row["source"]).shape == decode_image(row["target"]).shape == (64, 43, 3)
    assert np.abs(decode_image(row["target"]).astype(int) - 90).max() < 4
    reference = reference_row(pair)
    assert reference is not None
    assert reference["defect"] == "wrong_angle"


@pytest.mark.parametrize("side", ["source", "target"])
def test_an_unpaired_image_is_kept_alone(side: str) -> None:
    entry = Entry("one", **{side: SOMEWHERE}, defect="watermark")  # type: ignore[arg-type]
    decoded = read_sample(Record(entry, **{side: encode(scene())}), SETTINGS)  # type: ignore[arg-type]
    (row,) = training_rows(decoded, SETTINGS)
    other = "target" if side == "source" else "source"
    assert row[side] is not None
    assert (row[other], row["pairing"]) == (None, "unpaired")
    assert (catalog_row(decoded, [row]) is None) == (side == "target")


def test_a_saliency_mask_is_judged_like_one_that_came_with_the_photo() -> None:
    bare = sample(mask=None)
    assert bare.source is not None
    height, width = bare.source.shape[:2]
    alpha = np.zeros((height, width), np.float32)
    alpha[14:53, 12:31] = 1
    good = with_saliency(bare, alpha, SETTINGS)
    assert good.mask is not None
    assert (good.mask.accepted, good.mask.origin) == (True, "saliency")
    assert set(by_defect(good)) == set(GROUPS)
    doubtful = with_saliency(bare, np.full((height, width), 0.5, np.float32), SETTINGS)
    assert doubtful.mask is not None
    assert not doubtful.mask.accepted
    assert doubtful.mask.quality < SETTINGS.min_quality
    assert by_defect(doubtful)["non_white_background"]["pairing"] == "unpaired"


def test_a_defects_synthesis_decides_whether_photos_show_it() -> None:
    settings = RowSettings(
        {"clutter": "background", "logo": "background"},
        {"clutter": "non_white_background", "logo": "watermark"},
        max_side=64,
    )
    made = rows(settings)
    assert set(made) == {"clutter", "logo"}
    assert np.abs(decode_image(made["clutter"]["source"])[:10].astype(int) - (60, 140, 90)).max() < 12
    assert set(rows(settings, mask=None)) == {"clutter"}
