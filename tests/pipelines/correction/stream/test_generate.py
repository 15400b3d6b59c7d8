import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.bundle import load_bundle
from model.edits import Edit, identity_theta
from model.errors import BundleError, ConfigurationError
from pipelines.correction.models import Model, Models
from pipelines.correction.rows import DECODED, EDITED, to_table
from pipelines.correction.stream.generate import NOT_FINITE, Corrector
from pipelines.inference.edits.apply import apply_edits
from pipelines.inference.edits.codec import SURE, decode_edit
from pipelines.inference.generator import GeneratorPass
from tests.catalogs import DEFECTS, SIDE, picture, write_bundle
from tests.reported import Reported

CONDITIONS = {"wrong_angle": (1, 2), "watermark": (0, 1), "non_white_background": (0, 0)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle"))


def corrector(bundle: Path, batch_size: int = 4, precision: str = "float32", **changes: Any) -> Corrector:
    version = changes.pop("version", load_bundle(bundle).version)
    current = Model(str(bundle), "--model", version, SIDE, "stretch", "c")
    settings = {"device": "cpu", "models": Models("out", current), **changes}
    return Corrector(conditions=CONDITIONS, batch_size=batch_size, precision=precision, **settings)


def generator_of(actor: Corrector) -> GeneratorPass:
    """The only generator of an actor."""
    (editor,) = actor._editors.values()
    return editor.edits_of


def decoded(image_id: str, *defects: str, **columns: Any) -> dict[str, Any]:
    model_input = picture(sum(image_id.encode()), SIDE, SIDE).tobytes() if defects else None
    return {
        "image_id": image_id,
        "defects": list(defects),
        "model_input": model_input,
        "upload": b"u",
        "width": SIDE,
        "height": SIDE,
        **columns,
    }


def block(count: int = 11) -> list[dict[str, Any]]:
    kinds = [("watermark",), (), DEFECTS, ("wrong_angle",), ("wrong_angle", "non_white_background")]
    return [decoded(f"i{index}", *kinds[index % len(kinds)]) for index in range(count)]


def edited(actor: Corrector, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    table = actor(to_table(rows, DECODED))
    assert table.schema == EDITED
    return table.to_pylist()


def test_each_row_gets_one_edit_per_defect_and_nothing_else_changes(bundle: Path) -> None:
    rows = [*block(), decoded("broken", error_code="empty", error_message="no bytes", product_type="mug")]
    results = edited(corrector(bundle), rows)
    assert [one["image_id"] for one in results] == [one["image_id"] for one in rows]
    assert [len(one["edits"] or ()) for one in results] == [len(one["defects"]) for one in rows]
    assert results[-1]["error_code"] == "empty"
    assert results[-1]["product_type"] == "mug"


def test_an_actors_time_is_either_busy_or_idle(bundle: Path, reported: Reported) -> None:
    started = time.perf_counter()
    actor = corrector(bundle)
    for _ in range(2):
        edited(actor, block())
    ended = time.perf_counter()
    busy, idle = (reported.values["generator_seconds", state] for state in ("busy", "idle"))
    assert busy > 0
    assert idle > 0
    assert busy + idle <= ended - started


def test_an_edit_is_what_the_generator_says(bundle: Path) -> None:
    (results,) = edited(corrector(bundle, batch_size=1), [decoded("a", "watermark")])
    image = torch.from_numpy(picture(97, SIDE, SIDE)).permute(2, 0, 1)[None] / 127.5 - 1
    expected = load_bundle(bundle).generator.edit(image, torch.tensor([0]), torch.tensor([1]))
    edit = decode_edit(results["edits"][0])
    torch.testing.assert_close(edit.content, expected.content.detach(), rtol=0, atol=1.6 / 255)
    torch.testing.assert_close(edit.matte, expected.matte.detach(), rtol=0, atol=SURE + 0.9 / 255)


def test_an_images_edits_do_not_depend_on_its_neighbours(bundle: Path) -> None:
    actor = corrector(bundle)
    rows = block()
    together = {one["image_id"]: one["edits"] for one in edited(actor, rows)}
    reverse = {one["image_id"]: one["edits"] for one in edited(actor, rows[::-1])}
    alone = {one["image_id"]: edited(actor, [one])[0]["edits"] for one in rows}
    assert together == alone == reverse


def test_the_batch_size_moves_no_value_by_more_than_a_level(bundle: Path) -> None:
    def pixels(batch_size: int) -> np.ndarray:
        results = edited(corrector(bundle, batch_size), block())
        edits = [edit for one in results for edit in one["edits"] or ()]
        return np.frombuffer(b"".join(edit["content"] + edit["matte"] for edit in edits), np.uint8).astype(
            int
        )

    assert np.abs(pixels(1) - pixels(8)).max() <= 1


def test_an_image_of_several_rows_goes_through_the_generator_once(bundle: Path) -> None:
    actor = corrector(bundle, batch_size=1)
    rows = [decoded(f"i{number}", "watermark", "wrong_angle", input_sha256="1") for number in range(5)]
    for one in rows:
        one["model_input"] = rows[0]["model_input"]
    rows[0] |= {
        "model_input": None,
        "error_code": "unknown_label",
    }  # it has failed, and is no example for others
    rows[3]["defects"] = ["watermark"]
    rows[4]["input_sha256"] = "2"
    alone = [edited(actor, [one])[0]["edits"] for one in rows]
    painter = Painter()
    results = edited(actor, rows)
    assert [one["edits"] for one in results] == alone
    assert [one["generator_seconds"] > 0 for one in results] == [False, True, False, True, True]
    generator_of(actor).generator = painter  # type: ignore[assignment]
    edited(actor, rows)
    assert len(painter.seen) == 2 + 1 + 2


class Painter:
    """A generator that halves the distance to a colour of each defect, so that the order matters."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def edit(self, x: torch.Tensor, group: torch.Tensor, type_: torch.Tensor) -> Edit:
        size = (len(x), 1, *x.shape[2:])
        colour = (type_.float() - 1)[:, None, None, None].expand(len(x), *x.shape[1:])
        self.seen += list(zip(type_.tolist(), x.mean(dim=(1, 2, 3)).tolist(), strict=True))
        return Edit(identity_theta(len(x)), colour.contiguous(), torch.full(size, 0.5))


def test_a_later_defect_sees_the_image_as_earlier_ones_left_it(bundle: Path) -> None:
    actor = corrector(bundle, batch_size=1)
    painter = Painter()
    generator_of(actor).generator = painter  # type: ignore[assignment]
    edited(actor, [decoded("a", *DEFECTS)])
    before = float(picture(97, SIDE, SIDE).mean()) / 127.5 - 1
    types, means = zip(*painter.seen, strict=True)
    assert types == (2, 1, 0)  # wrong_angle, watermark, non_white_background
    half = 128 / 255  # 0.5 in 8 bits
    expected = [before, before * (1 - half) + half]
    expected.append(expected[1] * (1 - half))
    assert means == pytest.approx(expected, abs=0.01)


def test_between_two_passes_edges_lose_the_background_that_was_painted_over(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[list[bool]] = []

    def apply(image: np.ndarray, edits: Any, background_defects: list[bool]) -> Any:
        passed.append(background_defects)
        return apply_edits(image, edits, background_defects)

    monkeypatch.setattr("pipelines.correction.stream.generate.apply_edits", apply)
    edited(corrector(bundle, background_defects=("watermark",)), [decoded("a", *DEFECTS)])
    assert passed == [[False], [True]]  # wrong_angle, watermark; the last edit is not applied here


def spoiled(what: str) -> Callable[..., Edit]:
    def edit(x: torch.Tensor, group: torch.Tensor, type_: torch.Tensor) -> Edit:
        values = Edit(identity_theta(len(x)).clone(), torch.zeros_like(x), torch.zeros_like(x[:, :1]))
        getattr(values, what)[type_ == 1] = float("nan")
        return values

    return edit


@pytest.mark.parametrize("what", ["theta", "content", "matte"])
def test_an_edit_that_is_not_finite_fails_only_its_row(bundle: Path, what: str) -> None:
    actor = corrector(bundle)
    generator_of(actor).generator.edit = spoiled(what)  # type: ignore[method-assign]
    rows = [
        decoded("a", "non_white_background"),
        decoded("b", *DEFECTS),
        decoded("c", "watermark"),
        decoded("d"),
    ]
    results = edited(actor, rows)
    assert [one["error_code"] for one in results] == [None, NOT_FINITE, NOT_FINITE, None]
    assert "'watermark'" in results[1]["error_message"]
    assert [len(one["edits"] or ()) for one in results] == [1, 0, 0, 0]
    assert [one["upload"] for one in results] == [b"u", None, None, b"u"]


def test_blocks_without_work_keep_their_types(bundle: Path) -> None:
    actor = corrector(bundle)
    assert edited(actor, []) == []
    assert [one["edits"] for one in edited(actor, [decoded("a"), decoded("b")])] == [None, None]


def test_a_bundle_that_changed_meanwhile_is_refused(bundle: Path) -> None:
    with pytest.raises(BundleError, match="changed after the run began"):
        corrector(bundle, version="0" * 64)


def test_a_gpu_that_is_not_there_is_an_error(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError, match="no GPU"):
        corrector(bundle, device="cuda")


def test_each_bundle_edits_its_own_images_and_the_current_one_those_to_compare(
    bundle: Path, tmp_path: Path
) -> None:
    other = write_bundle(tmp_path / "new", 0.5, 1, side=48)
    current, canary = (
        Model(str(uri), flag, load_bundle(uri).version, side, "stretch", "c")
        for uri, flag, side in ((bundle, "--model", SIDE), (other, "--canary", 48))
    )
    models = Models("out", current, canary, 0.5)
    rows = [decoded(f"i{number}", "watermark", input_sha256="same") for number in range(8)]
    for one in rows:
        side = models.of(one["image_id"]).image_size
        one["model_input"] = picture(3, side, side).tobytes()
        one["current_input"] = picture(3, SIDE, SIDE).tobytes() if side == 48 else None
    alone = {
        side: edited(corrector(bundle, models=Models("out", model)), [one])[0]["edits"]
        for side, model, one in (
            (SIDE, current, {**rows[0], "model_input": picture(3, SIDE, SIDE).tobytes()}),
            (48, canary, {**rows[0], "model_input": picture(3, 48, 48).tobytes()}),
        )
    }
    results = edited(corrector(bundle, models=models), rows)
    assert {models.in_canary(one["image_id"]) for one in rows} == {True, False}
    for one in results:
        in_canary = models.in_canary(one["image_id"])
        assert one["edits"] == alone[48 if in_canary else SIDE]
        assert one["current_edits"] == (alone[SIDE] if in_canary else None)
