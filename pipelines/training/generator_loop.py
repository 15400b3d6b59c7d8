"""A generator's training: its networks, and what the loop's draws become for them."""

import logging
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from model.discriminator import PatchDiscriminator
from model.layers import ImageGenerator
from model.method import Method
from model.precision import autocast
from model.recipes import build_method
from model.resnet_blur import BlurGenerator
from model.training_step import TrainingStep
from pipelines.training.data import Sample, augment, collate
from pipelines.training.decoding import TrainingError
from pipelines.training.feed import Batch
from pipelines.training.loop import Loop
from pipelines.training.order import Draw
from pipelines.training.settings import TrainSettings

logger = logging.getLogger("train")


class Training(Loop):
    """A generator's training."""

    settings: TrainSettings
    method: Method
    step_once: TrainingStep

    def build(self, init: Mapping[str, torch.Tensor] | None) -> None:
        """init: weights of a bundle to start G_XY from; a bundle holds no other."""
        settings = self.settings
        weight = torch.tensor(settings.task_weight) if settings.task_weight else None
        method = build_method(settings.method, weight)
        if init is not None:
            method.generator.load_state_dict(init)
            prefix = "encoder.backbone."
            known = {name[len(prefix) :]: value for name, value in init.items() if name.startswith(prefix)}
            for network in method.pretrained():  # G_YX starts from the same encoder
                network.encoder.load_pretrained(known)
        self.method = method.to(self.device, memory_format=self.layout)  # type: ignore[call-overload]
        self.step_once = TrainingStep(
            self.method, settings.optimizer, autocast(self.device, self.precision), settings.ema
        )
        if settings.compile:  # after the running average was copied: it is not trained
            self._compile()

    @property
    def generator(self) -> ImageGenerator:
        """G_XY as a bundle gets it."""
        return self.step_once.generator

    def _compile(self) -> None:
        """Compile the networks that are called as such, in place; pools and loss networks gain nothing."""
        for network in self.method.children():
            if isinstance(network, BlurGenerator):  # called by its parts only, which the wrapper does not see
                if self.rank == 0:
                    logger.info("--compile: the generator of %s is not compiled", self.settings.method.recipe)
            elif isinstance(network, (ImageGenerator, PatchDiscriminator)):
                network.compile()

    def update(self, batch: Batch, rate: float) -> dict[str, torch.Tensor]:
        """One update; the losses' names are the method's."""
        samples = [self._sample(draw) for draw in batch.draws]
        size = self.settings.batch_size
        parts = [
            collate(samples[start : start + size], self.device, self.layout)
            for start in range(0, len(samples), size)
        ]
        return {**self.step_once(parts, rate), **self.method.monitors()}

    def _sample(self, draw: Draw) -> Sample:
        """The draw's pixels, augmented, with its labels and masks."""
        defect, settings = self.defects[draw.source.type], self.settings
        x, y = draw.source.source, draw.target.target
        if x is None or y is None:
            raise TrainingError(
                f"row {draw.source.number} ({defect.name}) lacks an image; prepare the data again"
            )
        made = draw.source.changed is not None  # turned, cropped and mirrored already
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
        """What is to be painted of a pair that was made anew, uint8 (S, S), or None where that is not known."""
        changed = draw.source.changed
        if changed is None or group not in self.settings.method.generator.geometric_groups:
            return changed
        # Where the image is moved, the difference says where the product was. A map that is known leaves nothing to
        # paint; another one does, and what that is depends on the map that the network finds.
        return None if draw.source.theta is None else np.zeros_like(changed)
