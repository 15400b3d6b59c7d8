import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.images.encode import encode_image
from pipelines.preparation.finish.report import (
    COLUMNS,
    MEASURES,
    Preparation,
    render,
    rows_of_defects,
    write_report,
)
from pipelines.preparation.totals import Example, Totals, UnitRecord
from pipelines.preparation.unit.mask_quality import measure_mask
from pipelines.reports.pictures import CAPTION, CELL, GAP


def example(number: int, quality: float) -> Example:
    pictures = [encode_image(np.full((30, 20, 3), level, np.uint8)) for level in (40, 120, 230)]
    return Example(f"photo-{number}", quality, "contrast", "saliency", *pictures)


@pytest.fixture
def preparation() -> Preparation:
    totals = Totals()
    totals.counts.update(
        {
            "entries/listed": 1003,
            "entries/prepared": 1000,
            "entries/unreadable": 1,
            "entries/duplicates": 2,
            "rows/watermark/paired/train/shirt": 700,
            "rows/watermark/paired/test/dress": 200,
            "rows/non_white_background/unpaired/train/shirt": 100,
            "quality/03": 4,
            "quality/14": 900,
            "masks/saliency_good": 900,
            "masks/saliency_doubtful": 4,
            "doubtful_because/contrast": 4,
            "unreadable/corrupt": 1,
            "masks/unreadable": 5,
            "unreadable_masks/missing": 3,
            "unreadable_masks/truncated": 2,
        }
    )
    totals.unreadable.append(("<script>alert(1)</script>", "corrupt", "no\x00 picture <b>"))
    record = UnitRecord(
        totals, accepted=[example(i, 0.6 + i / 100) for i in range(15)], rejected=[example(99, 0.55)]
    )
    return Preparation(record, 0.6, "abc" * 20, ["twice"], ["maps: 1 <i>odd</i> file"], {"seed": 0}, 12.5)


def test_the_page_shows_counts_and_the_pairs_around_the_threshold(preparation: Preparation) -> None:
    page = render(preparation)
    assert "1,000 training rows from 1,000 images" in page
    assert page.count("<figure>") == 16
    assert (
        page.index("Worst accepted")
        < page.index("photo-0")
        < page.index("Best rejected")
        < page.index("photo-99")
    )
    assert "0.55, blends into the background, saliency" in page
    assert "twice" in page
    assert "cannot be read (missing: 3, truncated: 2)" in page


def test_text_from_the_data_is_escaped(preparation: Preparation) -> None:
    page = render(preparation)
    assert "<script" not in page
    assert "<i>odd" not in page
    assert "&lt;script&gt;" in page
    assert "\x00" not in page


def test_rows_add_up_by_defect(preparation: Preparation) -> None:
    assert set(rows_of_defects(preparation.record.totals, ["blur"])["blur"].values()) == {0}
    by_defect = rows_of_defects(preparation.record.totals)
    assert by_defect["watermark"] == {
        "paired train": 700,
        "paired test": 200,
        "unpaired train": 0,
        "unpaired test": 0,
    }
    assert sum(sum(row.values()) for row in by_defect.values()) == 1000


def test_the_files_agree_with_the_page(preparation: Preparation, tmp_path: Path) -> None:
    assert write_report(str(tmp_path), preparation) == str(tmp_path / "index.html")
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["counts"]["rows"]["pairing"] == {"paired": 900, "unpaired": 100}
    assert document["counts"]["rows"]["product_type"] == {"shirt": 800, "dress": 200}
    assert sum(document["mask_quality"]["counts"]) == 904
    assert document["masks"]["rejected"] == [
        {"image_id": "photo-99", "quality": 0.55, "lowest": "contrast", "origin": "saliency"}
    ]
    with Image.open(io.BytesIO((tmp_path / "masks_accepted.png").read_bytes())) as sheet:
        assert sheet.size == (GAP + COLUMNS * (CELL + GAP), GAP + 3 * (CELL + GAP) + CAPTION)
        lines = [sheet.convert("L").getpixel((100, GAP + n * (CELL + GAP) + CELL // 2)) for n in range(3)]
    np.testing.assert_allclose(np.array(lines, float), [40, 120, 230], atol=2)


def test_a_dataset_without_masks_has_a_page_without_them(tmp_path: Path) -> None:
    record = UnitRecord(Totals())
    record.totals.counts["entries/listed"] = record.totals.counts["entries/prepared"] = 3
    page = render(Preparation(record, 0.6, "f" * 64, (), (), {}, 1))
    assert "Mask quality" not in page
    write_report(str(tmp_path), Preparation(record, 0.6, "f" * 64, (), (), {}, 1))
    assert not list(tmp_path.glob("*.png"))


def test_every_measure_of_a_mask_has_a_caption() -> None:
    grey = np.full((8, 8, 3), 100, np.uint8)
    assert set(MEASURES) == set(measure_mask(grey, grey[..., 0]).scores())
