from pathlib import Path

import pytest
import torch

from model.bundle import load_bundle
from model.edits import Edit, apply_edit
from model.errors import ConfigurationError
from pipelines.images.fit import fit_inside, inner_slices, squared
from pipelines.images.pixels import to_tensor
from pipelines.inference.generator import GeneratorPass
from tests.catalogs import SIDE, picture, write_bundle


def loaded(folder: Path) -> GeneratorPass:
    return GeneratorPass(
        str(folder), "--model", load_bundle(folder).version, torch.device("cpu"), "float32", 3
    )


class Turner:
    """Stand for a generator that turns its input by 90 degrees and paints one pixel near the square's middle red."""

    def __init__(self) -> None:
        self.input = torch.empty(0)

    def edit(self, x: torch.Tensor, group: torch.Tensor, type_: torch.Tensor) -> Edit:
        self.input = x.clone()
        theta = torch.tensor([[[0.0, 1.0, 0.25], [-1.0, 0.0, 0.0]]]).repeat(len(x), 1, 1)
        matte = torch.zeros_like(x[:, :1])
        matte[:, :, SIDE // 2 - 3, SIDE // 2 + 2] = 1
        return Edit(theta, torch.tensor([1.0, -1.0, -1.0])[:, None, None].expand_as(x).contiguous(), matte)


def test_an_edit_covers_the_image_and_has_the_same_effect_as_on_the_square(tmp_path: Path) -> None:
    one = loaded(write_bundle(tmp_path, fit="letterbox"))
    turner = Turner()
    one.generator = turner  # type: ignore[assignment]
    images = [fit_inside(picture(7, *size), size, SIDE, one.fit) for size in ((50, 100), (100, 50), (90, 90))]
    edits, finite = one(images, [(0, 0)] * 3)
    inputs = turner.input
    assert finite == [True] * 3
    for index, (image, edit) in enumerate(zip(images, edits, strict=True)):
        expected_input = to_tensor(squared(image, SIDE)[None])
        assert torch.equal(inputs[index : index + 1], expected_input)
        assert edit.matte.shape[2:] == image.shape[:2]
        square = apply_edit(expected_input, turner.edit(expected_input, edit.theta, edit.theta))
        rows, columns = inner_slices(*image.shape[:2], SIDE)
        edited = apply_edit(to_tensor(image[None]), edit)
        # They differ near the border, where the square interpolates with the white beside the image.
        expected = square[..., rows, columns]
        difference = (edited - expected).abs().amax(dim=1)[0]
        assert (difference < 1e-3).float().mean() > 0.8
        assert edited[0, :, SIDE // 2 - 3 - rows.start, SIDE // 2 + 2 - columns.start].tolist() == [1, -1, -1]


def test_an_edit_without_motion_stays_exactly_the_identity(tmp_path: Path) -> None:
    one = loaded(write_bundle(tmp_path, 0.5, 1.0, fit="letterbox"))
    (edit,), _ = one([fit_inside(picture(3, 30, 70), (30, 70), SIDE, "letterbox")], [(0, 0)])
    assert torch.equal(edit.theta, torch.eye(2, 3)[None])


def test_bundles_without_a_fit_stretch_images_and_unknown_fits_are_refused(tmp_path: Path) -> None:
    assert load_bundle(write_bundle(tmp_path / "old")).fit == "stretch"
    assert load_bundle(write_bundle(tmp_path / "new", fit="letterbox")).fit == "letterbox"
    with pytest.raises(ConfigurationError, match="fit is 'crop'"):
        load_bundle(write_bundle(tmp_path / "odd", fit="crop"))
