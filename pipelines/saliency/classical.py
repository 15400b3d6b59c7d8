"""Find the product without weights: it stands in the middle, has its own colours, and ends where colours change.

Product and surroundings are mixtures of Gaussians over colour (Lab) and local texture. The first guess comes from where
products usually are and from what is rare at the photo's border. Then, in turns as in GrabCut (Rother et al., 2004),
the mixtures judge each pixel, the random walker (Grady, 2005) decides the doubtful ones by their neighbours, and the
mixtures are fitted again. The border need not be clean: a product cut by an edge is recovered by its colours. Finally
debris and pinholes are removed, and a guided filter (He et al., 2013) moves the matte's edge to the photo's.

A network finds more, above all if product and background are alike. `pipelines.preparation.unit.mask_quality` judges
these masks, and `tests/benchmarks/saliency_quality.py` measures them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipelines.images.colour import rgb_to_lab
from pipelines.images.resize import scaled_size
from pipelines.saliency.matte import guided_matte, tidy
from pipelines.saliency.mixture import Mixture, Pixels
from pipelines.saliency.protocol import check_photos
from pipelines.saliency.random_walk import RandomWalk

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ClassicalConfig:
    """Constants, chosen on one half of 1,428 real photos of clothing and measured on the other."""

    #: Longest side at which product and surroundings are separated. Time grows with its square.
    side: int = 112
    #: Number of Gaussians of the surroundings and of the product.
    surroundings: int = 6
    product: int = 5
    #: Rounds of judging and fitting, and EM steps in each.
    rounds: int = 5
    em_steps: int = 2
    #: Weight of lightness beside a and b (shadows change it), and of texture (its local standard deviation).
    lightness: float = 0.6
    texture: float = 1.0
    #: Variance that each Gaussian has at least, CIE Lab units squared.
    variance: float = 9.0
    #: Weight of the colours' log odds, and the bound of all log odds.
    evidence: float = 1.5
    max_log_odds: float = 4.0
    #: Weight of the position's log odds.
    place: float = 0.3
    #: The random walker: weight of neighbours, difference (Lab) that separates them, and the connection that remains.
    neighbours: float = 60.0
    edge: float = 3.0
    tie: float = 0.001
    #: Width of the border as a share of the longest side; its pixels count border_weight times for the surroundings.
    border: float = 0.05
    border_weight: float = 2.0
    #: Steepness by which the random walker's probability becomes a matte.
    steepness: float = 20.0
    #: See `matte.tidy`.
    piece_share: float = 0.15
    hole_share: float = 0.02
    #: See `matte.guided_matte`.
    radius: int = 3
    eps: float = 1e-3
    #: Values of the guided filter this near to 0 or 1 are haze of the background's texture and become 0 or 1.
    haze: float = 0.2


class ClassicalSaliency:
    """Find the product by colour, texture and position: about 0.1 s of one core per photo, whatever its size."""

    def __init__(self, config: ClassicalConfig = ClassicalConfig()) -> None:
        self._config = config

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Return the photos' masks, see `Saliency`."""
        check_photos(images)
        return [self._mask(image) for image in images]

    def _mask(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        config = self._config
        small = _shrunk(image, config.side)
        steep = _steep(_foreground(small, config), config.steepness)
        alpha = tidy(steep.astype(np.float32), config.piece_share, config.hole_share)
        full = guided_matte(image, small, alpha, config.radius, config.eps)
        return np.clip((full - config.haze) / (1 - 2 * config.haze), 0, 1, dtype=np.float32)


def _foreground(small: NDArray[np.uint8], config: ClassicalConfig) -> Array:
    """Return the probability (h, w) of being product, by rounds of colour models and random walker."""
    features = _features(small, config)
    pixels = Pixels(features.reshape(-1, features.shape[-1]))
    walk = RandomWalk(features, config.edge, config.tie)
    place = usual_place(*small.shape[:2])
    border = _border(small.shape[:2], config.border)
    place_odds = config.place * np.log(place / (1 - place))
    product = _first_guess(pixels, place, border, config)
    models: tuple[Mixture, Mixture] | None = None
    for _ in range(config.rounds):
        inside = (product * place).ravel() + 1e-6
        outside = ((1 - product) * np.where(border, config.border_weight, 1.0)).ravel() + 1e-6
        if models is None:
            models = (
                Mixture(pixels, inside, config.product, config.variance),
                Mixture(pixels, outside, config.surroundings, config.variance),
            )
        models[0].fit(inside, config.em_steps)
        models[1].fit(outside, config.em_steps)
        evidence = (models[0].log_density() - models[1].log_density()).reshape(place.shape)
        odds = np.clip(config.evidence * evidence + place_odds, -config.max_log_odds, config.max_log_odds)
        probability = 1 / (1 + np.exp(-odds))
        certainty = np.abs(2 * probability - 1) + 0.02
        product = walk.smooth(probability, certainty, config.neighbours, product)
    return product


def _first_guess(pixels: Pixels, place: Array, border: NDArray[np.bool_], config: ClassicalConfig) -> Array:
    """Return the mean of the usual position, and of that times the rarity of a pixel's look at the border."""
    weights = np.where(border.ravel(), 1.0, 1e-6)
    at_border = Mixture(pixels, weights, config.surroundings, config.variance)
    at_border.fit(weights, config.em_steps)
    likely = at_border.log_density().reshape(place.shape)
    usual = np.quantile(likely[border], 0.1)
    rare = 1 / (1 + np.exp(np.clip((likely - usual) / 2, -50, 50)))
    return place * (0.5 + 0.5 * rare)


def usual_place(height: int, width: int) -> Array:
    """Return the share of photos in which each pixel is product: (height, width), in [0.01, 0.93].

    A plateau with steep sides, fitted to the mean of the real photos' masks.
    """
    down, right = (np.abs((np.arange(side) + 0.5) / side * 2 - 1) / 0.78 for side in (height, width))
    return np.clip(0.93 * np.exp(-(down[:, None] ** 5) - right[None] ** 5), 0.01, 0.93)


def _features(small: NDArray[np.uint8], config: ClassicalConfig) -> Array:
    """Return lightness, a, b and texture (h, w, 4) of every pixel, weighted."""
    lab = rgb_to_lab(small).astype(np.float64)
    lightness = lab[..., 0]
    mean, square = (ndimage.gaussian_filter(v, 2.0, mode="nearest") for v in (lightness, lightness**2))
    texture = np.sqrt(np.maximum(square - mean**2, 0))
    return np.stack(
        [config.lightness * lightness, lab[..., 1], lab[..., 2], config.texture * texture], axis=-1
    )


def _border(size: tuple[int, ...], share: float) -> NDArray[np.bool_]:
    thick = max(1, round(share * max(size)))
    border = np.ones(size, bool)
    border[thick:-thick, thick:-thick] = False
    return border


def _shrunk(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    size = scaled_size(width, height, min(side, max(width, height)))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def _steep(probability: Array, steepness: float) -> Array:
    return 1 / (1 + np.exp(-steepness * (probability - 0.5)))
