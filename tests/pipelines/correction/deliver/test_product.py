import numpy as np
import torch

from model.edits import Edit, warp
from pipelines.correction.deliver.product import SIDE, Product, compared, find_product
from pipelines.correction.deliver.product import product_change as change_of_pair
from pipelines.images.pixels import to_tensor, to_uint8
from pipelines.inference.edits.codec import encode_edits


def photo(width: int = 160, height: int = 120) -> np.ndarray:
    """Return a blue product in the middle of a grey background."""
    image = np.full((height, width, 3), 150, np.uint8)
    image[30:90, 50:110] = (30, 60, 180)
    return image


def edit(theta: list[list[float]]) -> list[dict[str, bytes]]:
    return encode_edits(Edit(torch.tensor([theta]), torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)))


def product_change(
    upload: np.ndarray,
    corrected: np.ndarray,
    edits: list[dict[str, bytes]],
    product: Product,
    only_kept: bool = False,
) -> float:
    return change_of_pair(*compared(upload, corrected, edits), product, only_kept)


STILL = edit([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def test_the_product_is_found_at_a_small_size() -> None:
    core = find_product(photo()).core
    assert core.shape == (72, SIDE)
    truth = np.zeros_like(core)
    truth[18:54, 30:66] = True
    assert (core & truth).sum() > 0.8 * truth.sum()
    assert (core & ~truth).sum() < 0.05 * truth.sum()


def test_a_new_ground_is_no_change_and_a_product_that_fades_is() -> None:
    upload = photo()
    product = find_product(upload)
    white = upload.copy()
    white[(upload == 150).all(axis=2)] = 255
    assert product_change(upload, white, STILL, product) < 1
    nothing = Product(*np.zeros((2, *product.mask.shape), bool))
    faded = white.copy()
    faded[60:90, 50:110] = 255  # half of it
    assert product_change(upload, faded, STILL, product) > 20
    assert product_change(upload, faded, STILL, nothing) == 0
    # What is white was lost; the row of pixels at its edge is mixed.
    assert product_change(upload, faded, STILL, product, only_kept=True) < 8
    tinted = white.copy()
    tinted[60:90, 50:110, 2] = 90
    assert product_change(upload, tinted, STILL, product, only_kept=True) > 5
    assert product_change(upload, np.full_like(upload, 255), STILL, product, only_kept=True) == 0


def test_a_move_is_undone_and_what_left_the_picture_is_lost() -> None:
    upload = photo()
    product = find_product(upload)
    turn = [[0.9, -0.3, 0.05], [0.35, 0.95, 0.0]]
    turned = to_uint8(warp(to_tensor(upload[None]), torch.tensor([turn]), outside=1.0))[0]
    moved = product_change(upload, turned, edit(turn), product)
    assert moved < 3 < product_change(upload, turned, STILL, product)
    half_of_each = edit([[1.0, 0.0, 0.025], [0.0, 1.0, 0.0]]) * 2
    shifted = to_uint8(
        warp(to_tensor(upload[None]), torch.tensor([[[1.0, 0.0, 0.05], [0.0, 1.0, 0.0]]]), outside=1.0)
    )[0]
    assert product_change(upload, shifted, half_of_each, product) < 3  # two passes, one after the other
    away = [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    cut = to_uint8(warp(to_tensor(upload[None]), torch.tensor([away]), outside=1.0))[0]
    assert product_change(upload, cut, edit(away), product) > 20
    flat = edit([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert product_change(upload, upload, flat, product) > 20
