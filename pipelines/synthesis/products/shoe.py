"""Sneakers and boots seen from the side."""

from dataclasses import dataclass

import numpy as np

from pipelines.synthesis.products.canvas import Canvas, Region
from pipelines.synthesis.products.design import LIGHT, Design, Pose
from pipelines.synthesis.products.outlines import ellipse, moved, outline, spline
from pipelines.synthesis.products.surfaces import (
    Pattern,
    accent_to,
    creases,
    fabric,
    fabric_colour,
    hsv,
    plain,
    rounded_light,
    stripes,
    weave,
)


@dataclass(frozen=True)
class _Look:
    """The colours of one shoe's parts."""

    base: np.ndarray
    accent: np.ndarray
    pattern: Pattern
    rubber: np.ndarray
    cap: np.ndarray
    panel: np.ndarray
    laces: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Look":
        base = fabric_colour(rng)
        accent = accent_to(base, rng)
        rubbers = (hsv(0.1, rng.uniform(0, 0.12), 0.93), accent, hsv(0, 0, 0.12))
        rubber = rubbers[int(rng.choice(3, p=(0.66, 0.17, 0.17)))]
        return cls(
            base=base,
            accent=accent,
            pattern=fabric(rng, base, 0.5) if rng.random() < 0.2 else plain(base),
            rubber=rubber,
            cap=rubber if rng.random() < 0.45 else base * 0.8,
            panel=accent if rng.random() < 0.6 else base * 0.72,
            laces=hsv(0, 0, 0.95) if float(base.mean()) < 0.6 or rng.random() < 0.4 else accent,
        )


@dataclass(frozen=True)
class _Shoe:
    """One shoe: colours and proportions."""

    look: _Look
    high: float  # how much higher than a low shoe its collar is, in units
    chunky: float  # how much thicker the sole is under the heel
    mark: str  # 'stripes', 'band', 'disc' or 'none' on its side
    seed: int

    def paint(self, canvas: Canvas) -> None:
        local = np.random.default_rng(self.seed)
        # The collar's far side and the lining, visible above the near side.
        far = canvas.fill(
            outline(
                [(0.36, -0.42 - self.high), (0.62, -0.42 - self.high), (0.9, -0.5 - self.high)],
                [(0.9, -0.3 - self.high), (0.62, -0.2 - self.high), (0.36, -0.3 - self.high)],
            )
        )
        canvas.paint(far, self.look.panel * 0.5, 0.9)
        flap = canvas.fill(
            outline(
                [
                    (0.14, -0.26 - self.high),
                    (0.2, -0.5 - self.high),
                    (0.3, -0.52 - self.high),
                    (0.42, -0.5 - self.high),
                    (0.44, -0.2 - self.high),
                ]
            )
        )
        canvas.paint(
            flap, self.look.panel * 0.85, rounded_light(flap, 0.05 * canvas.placement.scale, LIGHT, 0.2)
        )
        heel = [(0.95, 0.34), (0.955, 0.08), (0.9, -0.2), (0.9 + 0.02, -0.44 - self.high)]
        collar = [
            (0.92, -0.46 - self.high),
            (0.8, -0.4 - self.high),
            (0.62, -0.29 - self.high),
            (0.46, -0.33 - self.high),
            (0.36, -0.44 - self.high),
        ]
        instep = [
            (0.36, -0.44 - self.high),
            (0.22, -0.36 - self.high * 0.8),
            (0.0, -0.19 - self.high * 0.25),
            (-0.26, -0.04),
            (-0.5, 0.03),
        ]
        toe = [(-0.5, 0.03), (-0.74, 0.07), (-0.92, 0.17), (-0.97, 0.32)]
        upper = canvas.fill(outline(heel, collar, instep, toe))
        folds = [
            (-0.45 + k * 0.09, -0.02, -0.3 + k * 0.12, 0.26, 0.03, local.uniform(0.08, 0.2)) for k in range(3)
        ]
        light = (
            rounded_light(upper, 0.1 * canvas.placement.scale, LIGHT, 0.24)
            + creases(upper, folds)
            + weave(local, upper, 0.01)
        )
        canvas.paint(
            upper,
            self.look.pattern(upper.x, upper.y),
            np.clip(light * (1.06 - 0.18 * (upper.y + 0.1)), 0.3, 1.4),
        )
        self._panels(canvas, upper)
        self._laces(canvas, upper)
        self._sole(canvas)

    def _patch(self, canvas: Canvas, upper: Region, points: np.ndarray, colour: np.ndarray) -> None:
        patch = canvas.within(canvas.fill(points), upper)
        light = rounded_light(patch, 0.05 * canvas.placement.scale, LIGHT, 0.2)
        canvas.dye(patch, colour, light * (1.04 - 0.16 * patch.y))
        stitches = canvas.stroke(np.vstack([points, points[:1]]), 0.012)
        canvas.darken(canvas.within(stitches, upper), 0.4)

    def _panels(self, canvas: Canvas, upper: Region) -> None:
        self._patch(
            canvas,
            upper,
            outline([(-1.1, 0.5), (-1.1, -0.1), (-0.62, -0.1)], [(-0.62, -0.1), (-0.58, 0.14), (-0.66, 0.5)]),
            self.look.cap,
        )
        self._patch(
            canvas,
            upper,
            outline([(1.1, 0.5), (0.62, 0.5), (0.66, 0.2), (0.84, -0.02), (1.1, -0.1)]),
            self.look.panel,
        )
        self._patch(
            canvas,
            upper,
            outline(
                [(0.76, -0.36 - self.high), (0.8, -0.6 - self.high), (1.0, -0.6 - self.high)],
                [(1.0, -0.2 - self.high), (0.84, -0.22 - self.high)],
            ),
            self.look.panel,
        )
        stay = [
            (0.5, -0.7 - self.high),
            (0.48, -0.3 - self.high),
            (0.36, -0.18 - 0.7 * self.high),
            (0.12, -0.01 - 0.15 * self.high),
            (-0.16, 0.12),
            (-0.4, 0.14),
            (-0.46, 0.0),
            (-0.4, -0.3),
        ]
        self._patch(
            canvas, upper, outline(stay), self.look.base * 0.78 if self.mark != "none" else self.look.panel
        )
        if self.mark == "stripes":
            for k in range(2):
                slant = np.array(
                    [
                        (0.2 + 0.17 * k, -0.02),
                        (0.28 + 0.17 * k, -0.05),
                        (0.12 + 0.17 * k, 0.3),
                        (0.03 + 0.17 * k, 0.3),
                    ]
                )
                self._patch(canvas, upper, slant, self.look.accent)
        elif self.mark == "band":
            self._patch(
                canvas,
                upper,
                outline([(0.62, 0.0), (0.3, 0.14), (-0.1, 0.2)], [(-0.1, 0.27), (0.32, 0.24), (0.66, 0.12)]),
                self.look.accent,
            )
        elif self.mark == "disc":
            self._patch(canvas, upper, ellipse((0.66, -0.08 - self.high * 0.5), 0.11, 0.11), self.look.accent)

    def _laces(self, canvas: Canvas, upper: Region) -> None:
        path = spline(
            [
                (0.32, -0.38 - self.high),
                (0.2, -0.3 - self.high * 0.75),
                (0.0, -0.15 - self.high * 0.25),
                (-0.26, -0.01),
            ]
        )
        for share in np.linspace(0.02, 0.97, 6 + int(self.high > 0.2)):
            x, y = path[int(share * (len(path) - 1))]
            lace = spline([(x - 0.07, y - 0.06), (x, y - 0.015), (x + 0.05, y + 0.06), (x + 0.075, y + 0.12)])
            canvas.darken(canvas.within(canvas.stroke(moved(lace, 0.012, 0.02), 0.042), upper), 0.35)
            canvas.paint(canvas.stroke(lace, 0.036), self.look.laces, 0.94)
            canvas.darken(canvas.fill(ellipse((x + 0.08, y + 0.13), 0.018, 0.018)), 0.6)

    def _sole(self, canvas: Canvas) -> None:
        top = [
            (-1.0, 0.25),
            (-0.8, 0.29),
            (-0.3, 0.3 - self.chunky * 0.5),
            (0.3, 0.28 - self.chunky),
            (0.75, 0.25 - self.chunky),
            (1.0, 0.21 - self.chunky),
        ]
        under = [
            (1.02, 0.3),
            (1.0, 0.44),
            (0.5, 0.465),
            (-0.2, 0.465),
            (-0.7, 0.46),
            (-0.93, 0.41),
            (-1.02, 0.31),
        ]
        sole = canvas.fill(outline(top, under))
        canvas.paint(sole, self.look.rubber, np.clip(1.08 - 1.3 * np.clip(sole.y - 0.26, 0, 1), 0.55, 1.1))
        canvas.darken(canvas.within(canvas.stroke(spline(top), 0.014), sole), 0.45)
        line = canvas.within(canvas.stroke(spline(moved(top, 0, 0.06)), 0.02), sole)
        canvas.dye(line, self.look.accent, 0.9)
        tread = canvas.within(
            canvas.stroke(spline([(-0.95, 0.43), (-0.6, 0.47), (0.4, 0.48), (1.0, 0.46)]), 0.05), sole
        )
        grip = stripes(self.look.rubber * 0.45, self.look.rubber * 0.75, 0.07, 0.5, np.pi / 2)
        canvas.dye(tread, grip(tread.x, tread.y))


def design_shoe(rng: np.random.Generator) -> Design:
    """Return a low or high sneaker with laces, toe cap, heel panel and a rubber sole."""
    shoe = _Shoe(
        look=_Look.draw(rng),
        high=float(rng.choice([0.0, 0.0, 0.22, 0.38])),
        chunky=rng.uniform(0.0, 0.07),
        mark=str(rng.choice(["stripes", "band", "disc", "none"])),
        seed=int(rng.integers(2**32)),
    )
    return Design((-1.03, -0.55 - shoe.high, 1.03, 0.48), Pose.STANDING, shoe.paint)
