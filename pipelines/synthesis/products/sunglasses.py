"""Sunglasses lying open, seen from the front and above."""

from dataclasses import dataclass

import numpy as np

from pipelines.synthesis.products.canvas import Canvas, Region
from pipelines.synthesis.products.design import LIGHT, Design, Pose
from pipelines.synthesis.products.outlines import ellipse, moved, outline, spline
from pipelines.synthesis.products.surfaces import fabric_colour, hsv, rounded_light


def _lens_outline(shape: str, rng: np.random.Generator) -> np.ndarray:
    """Return the right lens about (0.5, 0): float (N, 2)."""
    if shape == "round":
        return ellipse((0.47, 0.0), 0.36, 0.35)
    if shape == "square":
        return ellipse((0.49, 0.0), 0.4, rng.uniform(0.26, 0.31), 3.4)
    if shape == "cat":
        return spline(
            [
                (0.12, -0.08),
                (0.3, -0.24),
                (0.66, -0.3),
                (0.98, -0.34),
                (0.88, -0.02),
                (0.68, 0.22),
                (0.36, 0.25),
                (0.16, 0.12),
            ],
            closed=True,
        )
    if shape == "aviator":
        return spline(
            [
                (0.14, -0.2),
                (0.34, -0.28),
                (0.66, -0.27),
                (0.88, -0.18),
                (0.87, 0.06),
                (0.68, 0.32),
                (0.42, 0.35),
                (0.2, 0.14),
            ],
            closed=True,
        )
    return spline(
        [
            (0.13, -0.17),
            (0.42, -0.26),
            (0.74, -0.27),
            (0.92, -0.22),
            (0.86, 0.06),
            (0.68, 0.26),
            (0.36, 0.25),
            (0.18, 0.08),
        ],
        closed=True,
    )


def _frame_colour(wire: bool, rng: np.random.Generator) -> np.ndarray:
    """Return gold, silver or gunmetal for wire; black, tortoiseshell or a colour for plastic."""
    if wire:
        gold = hsv(0.12, rng.uniform(0.2, 0.5), rng.uniform(0.6, 0.85))
        steel = hsv(0.6, 0.05, rng.uniform(0.15, 0.7))
        return gold if rng.random() < 0.6 else steel
    colours = (hsv(0, 0, 0.1), hsv(0.06, 0.65, 0.3), fabric_colour(rng))
    return colours[int(rng.choice(3, p=(0.4, 0.25, 0.35)))]


def _tint(mirror: bool, rng: np.random.Generator) -> np.ndarray:
    """Return a strong colour for mirrored lenses; dark brown, green or blue for others."""
    if mirror:
        return hsv(rng.random(), rng.uniform(0.5, 0.8), rng.uniform(0.5, 0.8))
    return hsv(float(rng.choice([0.08, 0.3, 0.6])), rng.uniform(0.1, 0.5), rng.uniform(0.12, 0.3))


@dataclass(frozen=True)
class _Sunglasses:
    """One pair: shape, proportions and colours."""

    shape: str
    wire: bool
    frame: np.ndarray
    thick: float  # of the frame, in units
    mirror: bool
    tint: np.ndarray
    lens: np.ndarray  # outline of the right lens
    arms: float  # length of the arms towards the back, which is upwards in the picture
    spread: float  # horizontal position of their ends

    def paint(self, canvas: Canvas) -> None:
        for side in (1, -1):
            self._arm(canvas, side)
        for side in (1, -1):
            self._rim(canvas, self.lens * np.array([side, 1]))
        self._bridge(canvas)

    def _arm(self, canvas: Canvas, side: int) -> None:
        width = 0.03 if self.wire else 0.065
        path = spline(
            [
                (0.9, -0.17),
                (0.93, -0.3),
                (self.spread + 0.04, -0.3 - self.arms * 0.75),
                (self.spread - 0.1, -0.3 - self.arms),
            ]
        )
        arm = canvas.stroke(path * [side, 1], width)
        canvas.paint(
            arm, self.frame, 0.7 * rounded_light(arm, 0.5 * width * canvas.placement.scale + 1, LIGHT, 0.4)
        )
        canvas.lighten(
            canvas.within(canvas.stroke(moved(path * [side, 1], -0.008, -0.006), width * 0.25), arm), 0.3
        )
        hinge = canvas.fill(ellipse((side * 0.89, -0.17), 0.055, 0.05, 3.0))
        canvas.paint(hinge, self.frame, 0.85)

    def _rim(self, canvas: Canvas, edge: np.ndarray) -> None:
        loop = np.vstack([edge, edge[:2]])
        ring = canvas.stroke(loop, self.thick * 1.5)
        canvas.paint(
            ring, self.frame, rounded_light(ring, 0.5 * self.thick * canvas.placement.scale + 1, LIGHT, 0.4)
        )
        glass = canvas.fill(edge)
        canvas.paint(glass, self.tint, self._glass_light(glass))
        centre = edge.mean(axis=0)
        for offset, width, gain in ((-0.12, 0.13, 0.22), (0.06, 0.05, 0.16)):
            streak = np.array(
                [(centre[0] + offset - 0.18, centre[1] + 0.45), (centre[0] + offset + 0.2, centre[1] - 0.45)]
            )
            canvas.lighten(
                canvas.within(canvas.stroke(streak, width), glass), gain if not self.mirror else gain * 1.5
            )
        inner = canvas.within(canvas.stroke(loop, self.thick * 0.5), ring)
        canvas.dye(inner, self.frame, 0.8)
        gloss = canvas.within(canvas.stroke(moved(loop, -0.006, -self.thick * 0.25), self.thick * 0.16), ring)
        upper = Region(gloss.rows, gloss.columns, gloss.coverage * (gloss.y < centre[1]), gloss.x, gloss.y)
        canvas.lighten(upper, 0.45)

    def _glass_light(self, glass: Region) -> np.ndarray:
        """Return light that is darker above than below, as on tinted lenses; a mirrored lens also shows a horizon."""
        fall = np.clip((glass.y + 0.3) / 0.6, 0, 1)
        light = 0.75 + (1.1 if not self.mirror else 0.3) * fall
        return np.asarray(light + (0.35 * (fall < 0.52) if self.mirror else 0.0), dtype=np.float32)

    def _bridge(self, canvas: Canvas) -> None:
        near = float(np.abs(self.lens[:, 0]).min())
        if self.wire:
            for y, sag in ((-0.2, -0.03), (-0.06, -0.06)) if self.shape == "aviator" else ((-0.06, -0.07),):
                canvas.paint(
                    canvas.stroke(
                        spline([(-near - 0.03, y), (0, y + sag), (near + 0.03, y)]), self.thick * 1.1
                    ),
                    self.frame,
                    0.95,
                )
            return
        top = [(-near - 0.03, -0.2), (0, -0.17), (near + 0.03, -0.2)]
        low = [(near + 0.02, 0.0), (0, -0.08), (-near - 0.02, 0.0)]
        bridge = canvas.fill(outline(top, low))
        canvas.paint(bridge, self.frame, rounded_light(bridge, 0.05 * canvas.placement.scale, LIGHT, 0.3))
        for side in (1, -1):
            pad = canvas.fill(ellipse((side * (near - 0.005), 0.08), 0.022, 0.06))
            canvas.paint(pad, self.frame, 0.6)


def design_sunglasses(rng: np.random.Generator) -> Design:
    """Return wayfarer, round, aviator, square or cat-eyed sunglasses; plastic or wire; tinted or mirrored lenses."""
    shape = str(rng.choice(["wayfarer", "round", "aviator", "square", "cat"]))
    wire = shape == "aviator" or (shape == "round" and rng.random() < 0.6)
    mirror = rng.random() < 0.3
    pair = _Sunglasses(
        shape=shape,
        wire=wire,
        frame=_frame_colour(wire, rng),
        thick=0.035 if wire else rng.uniform(0.07, 0.11),
        mirror=mirror,
        tint=_tint(mirror, rng),
        lens=_lens_outline(shape, rng),
        arms=rng.uniform(0.35, 0.75),
        spread=rng.uniform(0.62, 0.82),
    )
    return Design((-1.06, -0.34 - pair.arms, 1.06, 0.42), Pose.LYING, pair.paint)
