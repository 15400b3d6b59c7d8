"""Answers that move, paint and blend: what a group may do, and where a network begins."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from model.config import GeneratorConfig
from model.editing import NEARLY, Answer, EditingGenerator, GeometryHead, split_head
from model.edits import apply_edit
from tests.model.builders import images

#: Group 1 may move images, group 0 may not.
CONFIG = GeneratorConfig(
    n_groups=2,
    n_types=2,
    width=4,
    n_blocks=1,
    n_before_eta=0,
    head="blend",
    geometry="affine",
    geometric_groups=(1,),
)
IDENTITY = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


class Fixed(EditingGenerator):
    """Answers every image with the same."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(CONFIG)
        self.fixed = answer

    def answer(self, image: torch.Tensor, group: torch.Tensor, type_: torch.Tensor) -> Answer:
        return self.fixed


def geometry_head(scale: float, seed: int = 0) -> GeometryHead:
    torch.manual_seed(seed)
    head = GeometryHead([nn.Conv2d(4, 3, 3, padding=1)], 3)
    nn.init.normal_(head.linear.weight, 0, scale)
    nn.init.normal_(head.linear.bias, 0, scale)
    return head


def test_a_geometry_head_begins_with_the_identity() -> None:
    head = geometry_head(0.0)
    assert torch.equal(head(torch.randn(3, 4, 20, 28)), IDENTITY.expand(3, 2, 3))


@given(st.floats(0.01, 1e4), st.integers(0, 1000))
def test_no_map_turns_left_to_right_or_upside_down_or_moves_the_image_out(scale: float, seed: int) -> None:
    theta = geometry_head(scale, seed)(torch.randn(4, 4, 16, 16) * 10)
    assert theta.dtype == torch.float32
    assert (theta[:, 0, 0] >= 0).all()
    assert (theta[:, 1, 1] >= 0).all()
    assert (theta - IDENTITY).abs().max() <= 1


def test_a_map_keeps_its_precision_under_autocast() -> None:
    """At 8 bits of mantissa the far edge of a large photo would jump by pixels."""
    torch.manual_seed(0)
    head = GeometryHead([], 4)
    features = torch.randn(2, 4, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        theta = head(features)
    assert torch.equal(theta, head(features))
    assert not torch.equal(theta, IDENTITY.expand(2, 2, 3))


def test_only_geometric_groups_move_images() -> None:
    theta = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]).expand(2, 2, 3)  # a quarter turn
    shape = (2, 1, 16, 16)
    network = Fixed(Answer(torch.zeros(2, 3, 16, 16), torch.zeros(shape), theta))
    group = torch.tensor([0, 1])
    image = images(2)
    out = network(image, group, group)
    assert torch.equal(out[0], image[0])
    turned = [torch.rot90(image[1], turns, (1, 2)) for turns in (1, 3)]
    assert min((out[1] - one).abs().max().item() for one in turned) < 1e-4
    assert torch.equal(network.allowed_theta(theta, group), torch.stack([IDENTITY, theta[1]]))


def test_a_picture_as_answer_replaces_the_image_and_nothing_is_moved_twice() -> None:
    content = images(2) * 0.5
    network = Fixed(Answer(content, None, torch.full((2, 2, 3), 9.0)))
    group = torch.tensor([1, 1])
    assert torch.equal(network(images(2), group, group), content)
    edit = network.edit(images(2), group, group)
    assert torch.equal(edit.theta, IDENTITY.expand(2, 2, 3))
    assert torch.equal(edit.matte, torch.ones(2, 1, 16, 16))
    torch.testing.assert_close(apply_edit(images(2), edit), content)


def test_an_edit_without_a_map_leaves_what_the_matte_leaves() -> None:
    matte = torch.zeros(1, 1, 16, 16)
    matte[..., 4:8, 4:8] = 1
    network = Fixed(Answer(torch.full((1, 3, 16, 16), 0.25), matte, None))
    image, group = images(1), torch.tensor([1])
    edit = network.edit(image, group, group)
    out = apply_edit(image, edit)
    inside = matte.bool().expand_as(image)
    assert torch.allclose(out[inside], torch.tensor(0.25))
    assert torch.allclose(out[~inside], image[~inside], atol=1e-5)
    assert torch.allclose(out, network(image, group, group), atol=1e-5)


@pytest.mark.parametrize("head", ["direct", "blend"])
def test_a_last_convolution_that_says_nothing_gives_the_image_that_it_starts_from(head: str) -> None:
    channels = 4 if head == "blend" else 3
    start = images(2)
    start[:, :, 0, 0], start[:, :, 0, 1] = 1.0, -1.0
    out = torch.zeros(2, channels, 16, 16, requires_grad=True)
    content, matte = split_head(out, head, start)
    content.sum().backward()
    assert (
        out.grad[:, :3] > 0
    ).all()  # white and black can be left again: they are a quarter of a level away
    assert (content - start).abs().max() <= 1 - NEARLY + 1e-4
    assert (matte is None) == (head == "direct")
    assert matte is None or torch.equal(matte, torch.full((2, 1, 16, 16), 0.5))
    grey, _ = split_head(torch.zeros(2, channels, 16, 16), head)
    assert torch.equal(grey, torch.zeros(2, 3, 16, 16))


def test_the_parts_of_a_last_convolution_have_their_ranges() -> None:
    content, matte = split_head(torch.randn(2, 4, 8, 8).bfloat16() * 100, "blend")
    assert content.dtype == torch.float32
    assert content.abs().max() <= 1
    assert matte is not None
    assert matte.shape == (2, 1, 8, 8)
    assert 0 <= matte.min() <= matte.max() <= 1
