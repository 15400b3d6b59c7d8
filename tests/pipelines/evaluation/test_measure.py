from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from model.bundle import load_bundle
from model.errors import BundleError
from pipelines.evaluation import measure
from pipelines.evaluation.contestants import Contestant, read_contestants
from pipelines.evaluation.measure import ANSWER, MEASURES, TARGET, TRAIN_TARGET, UPLOAD, Measurer
from pipelines.evaluation.rows import COMPARED, DECODED, Input
from pipelines.images.decode import decode_image
from pipelines.images.fit import fit_inside
from pipelines.images.resize import resize_bicubic
from pipelines.inference.edits.apply import apply_edits
from pipelines.inference.edits.codec import encode_edits
from pipelines.metrics.pixel_errors import l1, psnr
from tests.catalogs import picture, write_bundle
from tests.evaluation_data import Extractor

INPUTS = (Input(32, "stretch"), Input(64, "letterbox"), Input(64, "stretch"), COMPARED)


@pytest.fixture
def extractor(monkeypatch: pytest.MonkeyPatch) -> Extractor:
    stub = Extractor()
    monkeypatch.setattr(measure, "load_features", lambda weights, device: stub)
    return stub


@pytest.fixture(scope="module")
def contestants(tmp_path_factory: pytest.TempPathFactory) -> tuple[Contestant, ...]:
    folder = tmp_path_factory.mktemp("bundles")
    return read_contestants(
        [str(write_bundle(folder / "a")), str(write_bundle(folder / "b", side=64, seed=1))]
    )


def measurer(contestants: tuple[Contestant, ...], weights: str | None = "w") -> Measurer:
    return Measurer(contestants, INPUTS, weights, "cpu", "float32")


def row(index: int, defect: str = "watermark", **columns: Any) -> dict[str, Any]:
    source, target = picture(index), picture(1000 + index)
    return {
        "row": f"r{index}",
        "image_id": f"p{index}",
        "defect": defect,
        "split": "test",
        "paired": True,
        "shown": False,
        "sources": [fit_inside(source, (60, 44), *wanted).tobytes() for wanted in INPUTS],
        "target": resize_bicubic(target, 256, 256).tobytes(),
        "width": 60,
        "height": 44,
        **columns,
    }


def measured(one: Measurer, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    table = one(pa.Table.from_pylist(list(rows), DECODED))
    assert table.schema == MEASURES
    return table.to_pylist()


def features(image: np.ndarray) -> list[float]:
    return Extractor()([image])[0].tolist()


def test_every_image_is_measured_once_and_features_belong_to_their_image(
    contestants: tuple[Contestant, ...], extractor: Extractor
) -> None:
    measures = measured(measurer(contestants), *(row(index) for index in range(5)))
    kinds = [(one["kind"], one["bundle"]) for one in measures]
    assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(
        [(UPLOAD, -1), (TARGET, -1), (ANSWER, 0), (ANSWER, 1)], 5
    )
    for one in measures:
        index = int(one["row"][1:])
        vector = np.frombuffer(one["features"], np.float32).tolist()
        if one["kind"] in (UPLOAD, TARGET):
            seed = index if one["kind"] == UPLOAD else 1000 + index
            assert vector == features(resize_bicubic(picture(seed), 256, 256))


def test_an_answer_is_the_generators_edit_of_the_upload_whatever_its_neighbours(
    contestants: tuple[Contestant, ...], extractor: Extractor
) -> None:
    together = measured(measurer(contestants), *(row(index, shown=True) for index in range(5)))
    alone = measured(measurer(contestants), row(3, shown=True))
    for index, side in enumerate((32, 64)):
        chosen = [one for one in together if one["bundle"] == index and one["row"] == "r3"]
        assert chosen == [one for one in alone if one["bundle"] == index]
        image = torch.from_numpy(resize_bicubic(picture(3), side, side)).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.inference_mode():
            edit = load_bundle(Path(contestants[index].uri)).generator.edit(
                image, torch.tensor([0]), torch.tensor([1])
            )
        expected = apply_edits(resize_bicubic(picture(3), 256, 256), encode_edits(edit)).image
        answer = decode_image(chosen[0]["picture"])
        # One level, because passes of another size round differently.
        assert np.abs(answer.astype(int) - expected).max() <= 1
        target = resize_bicubic(picture(1003), 256, 256)
        assert chosen[0]["psnr"] == pytest.approx(psnr(answer, target))
        assert chosen[0]["l1"] == pytest.approx(l1(answer, target))


def test_a_target_that_several_defects_share_is_computed_once(extractor: Extractor) -> None:
    one = measurer(())
    defects = ("watermark", "wrong_angle", "non_white_background")
    shared = [row(1, defect, sources=None, row=f"r{index}") for index, defect in enumerate(defects)]
    vectors = {entry["features"] for entry in measured(one, *shared[:2]) + measured(one, shared[2])}
    assert len(vectors) == 1
    assert extractor.images == 1


def test_unpaired_and_training_rows_have_no_errors_and_unknown_defects_no_answer(
    contestants: tuple[Contestant, ...], extractor: Extractor
) -> None:
    narrow = Contestant(**{**vars(contestants[0]), "conditions": {"watermark": (0, 1)}})
    measures = measured(
        measurer((narrow,)),
        row(1, paired=False),
        row(2, split="train", sources=None),
        row(3, "wrong_angle"),
        row(4, target=None, paired=False),
    )
    kinds = {
        number: [one["kind"] for one in measures if one["row"] == f"r{number}"] for number in range(1, 5)
    }
    assert kinds == {1: [TARGET, UPLOAD, ANSWER], 2: [TRAIN_TARGET], 3: [TARGET, UPLOAD], 4: [UPLOAD, ANSWER]}
    assert {one["row"] for one in measures if one["psnr"] is not None} == {"r3"}


def test_without_weights_there_are_errors_and_no_features(contestants: tuple[Contestant, ...]) -> None:
    measures = measured(measurer(contestants, weights=None), row(1))
    assert {one["features"] for one in measures} == {None}
    assert all(one["psnr"] is not None for one in measures if one["kind"] == ANSWER)


def test_what_cannot_be_decoded_or_is_not_finite_is_a_problem_and_no_crash(
    tmp_path: Path, extractor: Extractor
) -> None:
    folder = write_bundle(tmp_path / "nan")
    (diverged,) = read_contestants([str(folder)])
    one = measurer((diverged,))
    with torch.no_grad():
        for parameter in one._translators[0].edits_of.generator.parameters():  # type: ignore[attr-defined]
            parameter.fill_(float("nan"))
    broken = row(2, sources=None, target=None, problem="truncated")
    measures = measured(one, row(1), broken)
    problems = {(entry["kind"], entry["row"]): entry["problem"] for entry in measures if entry["problem"]}
    assert problems == {(ANSWER, "r1"): "not finite", (UPLOAD, "r2"): "truncated"}
    assert [entry["kind"] for entry in measures if entry["features"]] == [TARGET, UPLOAD]


def test_a_bundle_that_changed_meanwhile_is_refused(contestants: tuple[Contestant, ...]) -> None:
    stale = Contestant(**{**vars(contestants[0]), "version": "0" * 64})
    with pytest.raises(BundleError, match=r"--bundle .*changed after the run began"):
        measurer((stale,), weights=None)


def test_l1_is_on_the_models_scale() -> None:
    black, white = (np.full((2, 2, 3), value, np.uint8) for value in (0, 255))
    assert l1(black, white) == 2
    assert l1(white, white) == 0
