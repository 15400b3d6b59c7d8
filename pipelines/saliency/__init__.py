"""Find the product in photos: soft masks, by a network or by colour and position alone."""

from pipelines.saliency.load import CLASSICAL, Saliency, load_saliency

__all__ = ["CLASSICAL", "Saliency", "load_saliency"]
