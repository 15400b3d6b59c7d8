"""Which pixels are the product: soft foreground masks of photos, by a network or by colour and place alone."""

from pipelines.saliency.load import CLASSICAL, Saliency, load_saliency

__all__ = ["CLASSICAL", "Saliency", "load_saliency"]
