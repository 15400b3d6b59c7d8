import numpy as np
import pytest

from pipelines.saliency.random_walk import RandomWalk


def test_it_minimises_the_energy() -> None:
    random = np.random.default_rng(0)
    features, probability = random.normal(size=(5, 4, 2)), random.uniform(size=(5, 4))
    certainty = random.uniform(0.1, 1, (5, 4))
    cells = [(y, x) for y in range(5) for x in range(4)]
    system = np.diag(certainty.ravel())
    for i, one in enumerate(cells):
        for j, other in enumerate(cells):
            step = abs(one[0] - other[0]), abs(one[1] - other[1])
            if i != j and max(step) == 1:
                difference = ((features[one] - features[other]) ** 2).sum()
                tie = 3.0 * (np.exp(-difference / (2 * 0.8**2)) + 0.01) / np.hypot(*step)
                system[i, i] += tie
                system[i, j] -= tie
    expected = np.linalg.solve(system, (certainty * probability).ravel()).reshape(5, 4)
    found = RandomWalk(features, 0.8, 0.01).smooth(probability, certainty, 3.0, probability)
    assert found == pytest.approx(expected, abs=5e-3)  # the solver's tolerance


def test_a_doubtful_pixel_joins_the_neighbours_that_look_alike() -> None:
    features = np.zeros((8, 8, 1))
    features[:, 4:] = 50
    probability = np.where(features[..., 0] > 0, 0.9, 0.1)
    certainty = np.ones((8, 8))
    probability[3, 5], certainty[3, 5] = 0.2, 0.02  # beyond the edge, looks like its right neighbours
    found = RandomWalk(features, 3.0, 0.001).smooth(probability, certainty, 5.0, probability)
    assert found[3, 5] > 0.8
    assert found[:, :4].max() < 0.2


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 1)])
def test_degenerate_photos_pass(size: tuple[int, int]) -> None:
    probability = np.full(size, 0.3)
    found = RandomWalk(np.zeros((*size, 2)), 1.0, 0.1).smooth(probability, np.ones(size), 10.0, probability)
    assert found == pytest.approx(probability, abs=1e-6)
