"""Drawn products: photos with exact masks and targets, for demos, tests and benchmarks."""

from pipelines.synthesis.products.scene import PRODUCT_TYPES, Scene, draw_scene

__all__ = ["PRODUCT_TYPES", "Scene", "draw_scene"]
