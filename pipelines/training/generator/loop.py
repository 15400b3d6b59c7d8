"""Trains a generator: builds its networks, and turns the loop's draws into their inputs."""

import logging
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from model.baselines.resnet_blur import BlurGenerator
from model.discriminator import PatchDiscriminator
from model.layers import ImageGenerator
from model.method import Method
from model.precision import autocast, memory_format
from model.recipes import build_method
from model.training_step import TrainingStep
from pipelines.shards.reading import TrainingError
from pipelines.training.feed.batches import Batch
from pipelines.training.feed.order import Draw
from pipelines.training.generator.batch import Sample, augment, collate
from pipelines.training.generator.settings import TrainSettings
from pipelines.training.loop import Loop

logger = logging.getLogger("train")


class Training(Loop):
    """Train a generator in one worker."""

    settings: TrainSettings
    method: Method
    step_once: TrainingStep

    def build(self, init: Mapping[str, torch.Tensor] | None) -> None:
        """Build the method's networks. init: initial weights of G_XY, the only ones that a bundle has, or None."""
        settings = self.settings
        weight = torch.tensor(settings.defect_weight) if settings.defect_weight else None
        method = build_method(settings.method, weight)
        if init is not None:
            method.generator.load_state_dict(init)
            prefix = "encoder.backbone."
            known = {name[len(prefix) :]: value for name, value in init.items() if name.startswith(prefix)}
            for network in method.pretrained():  # G_YX starts from the same encoder
                network.encoder.load_pretrained(known)
        self.layout = memory_format(self.precision, self.device, method)
        self.method = method.to(self.device, memory_format=self.layout)  # type: ignore[call-overload]
        self.step_once = TrainingStep(
            self.method, settings.optimizer, autocast(self.device, self.precision), settings.ema
        )
        # After the running average was copied: it is not trained, so compiling it gains nothing.
        if settings.compile:
            self._compile()

    @property
    def generator(self) -> ImageGenerator:
        """Return G_XY as it goes into a bundle."""
        return self.step_once.generator

    def _compile(self) -> None:
        """Compile, in place, the networks that are called directly; pools and loss networks gain nothing."""
        for network in self.method.children():
            if isinstance(network, BlurGenerator):  # only its parts are called, unseen by the wrapper
                if self.rank == 0:
                    logger.info("--compile: the generator of %s is not compiled", self.settings.method.recipe)
            elif isinstance(network, (ImageGenerator, PatchDiscriminator)):
                network.compile()

    def update(self, batch: Batch, rate: float) -> dict[str, torch.Tensor]:
        """Make one update. Returns the method's losses, by name."""
        samples = [self._sample(draw) for draw in batch.draws]
        size = self.settings.batch_size
        parts = [
            collate(samples[start : start + size], self.device, self.layout)
            for start in range(0, len(samples), size)
        ]
        if self.settings.compile:  # every other number of samples would be compiled again
            parts = [part._replace(n_unpaired=None if part.n_unpaired else 0) for part in parts]
        return {**self.step_once(parts, rate), **self.method.monitors()}

    def _sample(self, draw: Draw) -> Sample:
        """Return the draw's pixels, augmented, with its labels and masks."""
        defect, settings = self.defects[draw.source.type], self.settings
        x, y = draw.source.source, draw.target.target
        if x is None or y is None:
            raise TrainingError(
                f"row {draw.source.number} ({defect.name}) lacks an image; prepare the data again"
            )
        made = draw.source.changed is not None  # already turned, cropped and mirrored
        flip = defect.name in settings.flipped_defects and not made
        group = self.label_map.groups[defect.group]
        return Sample(
            augment(x, settings.image_size, draw.chance[0], flip),
            augment(y, settings.image_size, draw.chance[1], flip),
            group,
            defect.id,
            draw.paired,
            not draw.paired or defect.group in settings.cycle_groups,
            self._painted(draw, group) if draw.paired else None,
            draw.source.theta if draw.paired else None,
        )

    def _painted(self, draw: Draw, group: int) -> NDArray[np.uint8] | None:
        """Return where a pair that was made anew must be painted, uint8 (S, S), or None if that is not known."""
        changed = draw.source.changed
        if changed is None or group not in self.settings.method.generator.geometric_groups:
            return changed
        # In a geometric group the whole image moves, so the difference only shows where the product was. If the exact
        # map is known, nothing is left to paint. Otherwise it depends on the map that the network predicts.
        return None if draw.source.theta is None else np.zeros_like(changed)
