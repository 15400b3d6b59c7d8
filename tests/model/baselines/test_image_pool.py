import io

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from model.baselines.image_pool import ImagePool
from tests.model.builders import images


def contains(image: torch.Tensor, among: torch.Tensor) -> bool:
    return any(torch.equal(image, other) for other in among)


def test_until_it_is_full_a_pool_returns_its_inputs() -> None:
    pool, first = ImagePool(4), images(4)
    assert torch.equal(pool(first), first)
    assert len(pool.images) == 4


def test_a_full_pool_gives_half_earlier_images_and_keeps_the_new() -> None:
    torch.manual_seed(0)
    pool, first, later = ImagePool(50), images(50, 4), images(400, 4, seed=1)
    pool(first)
    given = pool(later)
    assert given.shape == later.shape
    everything = torch.cat([first, later])
    assert all(contains(image, everything) for image in given[:20])
    kept = sum(torch.equal(a, b) for a, b in zip(given, later, strict=True))
    assert 140 < kept < 260  # binomial(400, 1/2): six standard deviations
    assert len(pool.images) == 50
    assert sum(contains(image, first) for image in torch.stack(pool.images)) < 10  # replaced over time
    # An image that is returned is not kept, and none is lost: each is either returned or in the pool.
    returned_or_kept = [*given, *pool.images]
    assert len(returned_or_kept) == 450


def test_without_a_pool_images_pass() -> None:
    pool, first = ImagePool(0), images(3)
    assert pool(first) is first
    assert pool.images == []


def test_the_content_is_part_of_the_state() -> None:
    pool, restored = ImagePool(3), ImagePool(3)
    pool(images(2))
    buffer = io.BytesIO()
    torch.save(pool.state_dict(), buffer)
    buffer.seek(0)
    restored.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(torch.stack(restored.images), torch.stack(pool.images))
    more = images(8, seed=2)
    torch.manual_seed(1)
    first = pool(more)
    torch.manual_seed(1)
    assert torch.equal(first, restored(more))


def test_the_state_is_on_the_cpu_for_any_training_device() -> None:
    """It is sent to the first process, which would otherwise put it on a GPU with the sender's number."""
    with FakeTensorMode():  # in place of a GPU: devices without content
        pool = ImagePool(2)
        pool(torch.zeros(2, 3, 4, 4, device="cuda"))
        assert {image.device.type for image in pool.images} == {"cuda"}
        assert [image.device.type for image in pool.get_extra_state()["images"]] == ["cpu", "cpu"]


def test_kept_images_are_copies() -> None:
    pool, first = ImagePool(1), images(1)
    pool(first)
    expected = first.clone()
    first.zero_()
    assert torch.equal(pool.images[0], expected[0])
