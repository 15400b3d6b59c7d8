"""Shadows of products that lie, hang or stand: float32 (H, W), the share of missing light."""

import math

import numpy as np

from pipelines.synthesis.products.noise import softened


def lying_shadow(coverage: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Return a dark rim where the product touches the surface and a soft shadow to one side: float32 (H, W)."""
    reach = scale * rng.uniform(0.02, 0.06)
    angle = rng.uniform(0.2, math.pi - 0.2)
    thrown = softened(
        _shifted(coverage, reach * math.cos(angle), reach * math.sin(angle)), max(3.0, reach * 1.4)
    )
    contact = softened(coverage, max(2.0, scale * 0.018))
    return np.clip(
        thrown * np.float32(rng.uniform(0.25, 0.5)) + contact * np.float32(rng.uniform(0.2, 0.4)), 0, 0.8
    )


def standing_shadow(coverage: np.ndarray, foot: float, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Return the silhouette thrown onto the surface behind the product, darkest at the foot: float32 (H, W)."""
    height, width = coverage.shape
    flat = rng.uniform(0.12, 0.25)
    lean = rng.uniform(-0.6, 0.6)
    row = np.arange(height, dtype=np.float32)[:, None]
    column = np.arange(width, dtype=np.float32)[None, :]
    above = (foot + scale * 0.02 - row) / np.float32(flat)  # height on the silhouette that shades this point
    source_row = np.clip(foot - above, 0, height - 1).astype(np.int32)
    source_column = np.clip(column - above * np.float32(lean), 0, width - 1).astype(np.int32)
    cast = np.where(
        (above > -scale * 0.04) & (above < foot), coverage[source_row, source_column], 0.0
    ).astype(np.float32)
    thrown = softened(cast, max(3.0, scale * 0.06)) * np.exp(
        -np.clip(above, 0, None) / np.float32(1.4 * scale)
    )
    near = np.exp(-(((row - foot) / np.float32(scale * 0.045)) ** 2))
    columns = coverage[int(max(0, foot - scale * 0.12)) : int(min(height, foot + 2))]
    span = (
        softened(np.broadcast_to(columns.max(axis=0), (8, width)), 6.0)[4]
        if columns.size
        else np.zeros(width)
    )
    contact = near * np.clip(span, 0, 1)[None, :].astype(np.float32)
    return np.clip(
        thrown * np.float32(rng.uniform(0.3, 0.55)) + contact * np.float32(rng.uniform(0.4, 0.65)), 0, 0.85
    )


def _shifted(field: np.ndarray, right: float, down: float) -> np.ndarray:
    """Return `field` moved by whole pixels, filled with zeros."""
    dx, dy = round(right), round(down)
    height, width = field.shape
    moved = np.zeros_like(field)
    moved[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)] = field[
        max(0, -dy) : height + min(0, -dy), max(0, -dx) : width + min(0, -dx)
    ]
    return moved
