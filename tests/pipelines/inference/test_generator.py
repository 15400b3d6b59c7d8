from pathlib import Path

import pytest
import torch

from model.bundle import load_bundle
from model.edits import Edit, apply_edit
from model.errors import ConfigurationError
from pipelines.images.fit import fit_inside, place, squared
from pipelines.images.pixels import to_tensor
from pipelines.inference.generator import GeneratorPass
from tests.catalogs import SIDE, picture, write_bundle


def loaded(folder: Path) -> GeneratorPass:
    return GeneratorPass(
        str(folder), "--model", load_bundle(folder).version, torch.device("cpu"), "float32", 3
    )


class Turner:
    """A generator that turns what it sees by 90 degrees and paints one pixel of the square's middle red."""

    def __init__(self) -> None:
        self.seen = torch.empty(0)

    def edit(self, x: torch.Tensor, group: torch.Tensor, type_: torch.Tensor) -> Edit:
        self.seen = x.clone()
        theta = torch.tensor([[[0.0, 1.0, 0.25], [-1.0, 0.0, 0.0]]]).repeat(len(x), 1, 1)
        matte = torch.zeros_like(x[:, :1])
        matte[:, :, SIDE // 2 - 3, SIDE // 2 + 2] = 1
        return Edit(theta, torch.tensor([1.0, -1.0, -1.0])[:, None, None].expand_as(x).contiguous(), matte)


def test_an_edit_covers_the_image_and_does_to_it_what_the_generator_did_to_the_square(tmp_path: Path) -> None:
    one = loaded(write_bundle(tmp_path, fit="letterbox"))
    turner = Turner()
    one.generator = turner  # type: ignore[assignment]
    images = [fit_inside(picture(7, *size), size, SIDE, one.fit) for size in ((50, 100), (100, 50), (90, 90))]
    edits, finite = one(images, [(0, 0)] * 3)
    saw = turner.seen
    assert finite == [True] * 3
    for index, (image, edit) in enumerate(zip(images, edits, strict=True)):
        seen = to_tensor(squared(image, SIDE)[None])
        assert torch.equal(saw[index : index + 1], seen)
        assert edit.matte.shape[2:] == image.shape[:2]
        square = apply_edit(seen, turner.edit(seen, edit.theta, edit.theta))
        rows, columns = place(*image.shape[:2], SIDE)
        found = apply_edit(to_tensor(image[None]), edit)
        # Inwards of the border, where the square has white beside the image and interpolates towards it.
        expected = square[..., rows, columns]
        near = (found - expected).abs().amax(dim=1)[0]
        assert (near < 1e-3).float().mean() > 0.8
        assert found[0, :, SIDE // 2 - 3 - rows.start, SIDE // 2 + 2 - columns.start].tolist() == [1, -1, -1]


def test_an_edit_that_moves_nothing_stays_exactly_that(tmp_path: Path) -> None:
    one = loaded(write_bundle(tmp_path, 0.5, 1.0, fit="letterbox"))
    (edit,), _ = one([fit_inside(picture(3, 30, 70), (30, 70), SIDE, "letterbox")], [(0, 0)])
    assert torch.equal(edit.theta, torch.eye(2, 3)[None])


def test_bundles_that_do_not_say_stretch_images_and_nonsense_is_refused(tmp_path: Path) -> None:
    assert load_bundle(write_bundle(tmp_path / "old")).fit == "stretch"
    assert load_bundle(write_bundle(tmp_path / "new", fit="letterbox")).fit == "letterbox"
    with pytest.raises(ConfigurationError, match="fit is 'crop'"):
        load_bundle(write_bundle(tmp_path / "odd", fit="crop"))
