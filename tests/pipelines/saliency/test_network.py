import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import RunError
from pipelines.saliency.network import NetworkSaliency
from pipelines.saliency.preprocessing import Preprocessing

PHOTO = np.full((10, 12, 3), 128, np.uint8)


def answering(*outputs: NDArray[np.float32], **settings: object) -> NetworkSaliency:
    """A saliency whose network answers `outputs`, whatever the photo."""
    return NetworkSaliency(lambda batch: outputs, Preprocessing(size=(4, 6), **settings))  # type: ignore[arg-type]


def test_the_network_sees_normalised_rgb_in_nchw() -> None:
    seen: list[NDArray[np.float32]] = []

    def network(batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        seen.append(batch)
        return [batch[:, 0]]

    photo = np.broadcast_to(np.uint8([255, 0, 51]), (10, 12, 3)).copy()
    NetworkSaliency(network, Preprocessing(size=(4, 6), mean=(0.5, 0.5, 0.1), std=(0.5, 0.25, 1)))([photo])
    assert seen[0].shape == (1, 3, 4, 6)
    assert seen[0].dtype == np.float32
    assert seen[0][0].mean(axis=(1, 2)) == pytest.approx([1, -2, 0.1], abs=1e-6)


def test_huge_logits_are_certain_and_do_not_overflow() -> None:
    raw = np.full((1, 1, 4, 6), -1e30, np.float32)
    raw[..., :3] = 1e30
    with np.errstate(all="raise"):
        mask = answering(raw)([PHOTO])[0]
    assert mask[:, :4].min() == 1
    assert mask[:, -4:].max() == 0


def test_probabilities_that_overshoot_a_little_are_no_logits() -> None:
    raw = np.zeros((1, 1, 4, 6), np.float32)
    raw[..., :3] = 1.00001
    raw[..., 3:] = -0.02
    mask = answering(raw)([PHOTO])[0]
    assert mask[:, :4].min() == 1
    assert mask[:, -4:].max() == 0


@pytest.mark.parametrize("shape", [(1, 2, 4, 6), (2, 1, 4, 6), (4, 6), (1, 1, 0, 6)])
def test_an_answer_that_is_no_mask_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(RunError, match="masks are"):
        answering(np.zeros(shape, np.float32))([PHOTO])


def test_an_output_that_is_not_there_is_an_error() -> None:
    with pytest.raises(RunError, match=r"has 1 outputs, not number 3; set `output`"):
        answering(np.zeros((1, 1, 4, 6), np.float32), output=3)([PHOTO])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_are_an_error(value: float) -> None:
    with pytest.raises(RunError, match="not finite"):
        answering(np.full((1, 1, 4, 6), value, np.float32))([PHOTO])
