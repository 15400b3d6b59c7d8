"""Resolves a generator's training from the command line and the data, and checks it before anything starts."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from model.config import require
from model.discriminator import PatchDiscriminator
from model.errors import BundleError, ConfigurationError
from model.generator import build_generator
from model.method import Batch
from model.pretrained_unet import PretrainedUNet
from model.recipes import build_method
from model.transfer import transfer_generator
from pipelines.contracts.label_map import LabelMap
from pipelines.inference.bundles import read_bundle
from pipelines.shards.index import PAIRED, VALIDATION, Index, build_index, check_defects
from pipelines.shards.source import TrainingSource
from pipelines.training.encoder_weights import EncoderWeights, find_encoder_weights
from pipelines.training.feed.selected import defect_weights, do_nothing_errors, some_rows
from pipelines.training.generator.settings import TrainSettings
from pipelines.training.plan import LoopPlan

logger = logging.getLogger("train")

#: Pairs per defect from which the weights of --task-balance are computed.
BALANCE_PAIRS = 128
#: Channels of the networks that are tried on one image before the training starts.
PROBE_WIDTH = 2


@dataclass(frozen=True)
class Plan(LoopPlan):
    """Hold everything that a worker needs for a generator's training. `init`: weights of G_XY.

    validation: the metric that chooses the best bundle, and how many images it is measured on, for display
    (`validation.forecast`). encoder: where its pretrained weights come from, if any.
    """

    settings: TrainSettings
    validation: Mapping[str, Any] = field(default_factory=dict)
    encoder: Mapping[str, str] | None = None

    @property
    def is_validated(self) -> bool:
        """Return True if the generator is measured while it trains: if that is wanted, and photos are held back."""
        return self.settings.validate_every > 0 and bool(self.index.of_split(VALIDATION).any())


def inspect(source: TrainingSource, settings: TrainSettings, allow_missing: bool) -> Index:
    """Return the data's index. Raises ConfigurationError for everything in the data that would make a training fail."""
    index = build_index(source.shards, source.label_map, settings.validation_share)
    method = settings.method
    check_defects(
        index,
        source.label_map,
        pairs=method.uses_pairs,
        unpaired=method.uses_unpaired,
        allow_missing=allow_missing,
    )
    return index


def check_networks(settings: TrainSettings) -> None:
    """Raise ConfigurationError if the networks cannot process images of the training's size.

    Runs them on one black image, with few channels, because channels do not matter for the size.
    """
    method, side = settings.method, settings.image_size
    narrow = replace(
        method,
        generator=replace(method.generator, width=min(method.generator.width, PROBE_WIDTH)),
        discriminator=replace(method.discriminator, width=min(method.discriminator.width, PROBE_WIDTH)),
    )
    networks = build_method(narrow, torch.ones(method.generator.n_types) if method.balances_defects else None)
    image, label = torch.zeros(1, 3, side, side), torch.zeros(1, dtype=torch.long)
    paired, unpaired = (torch.full((1,), float(used)) for used in (method.uses_pairs, method.uses_unpaired))
    with torch.no_grad():
        depth = method.generator.n_downsamplings if method.generator.architecture == "unet" else None
        with _naming(
            side, "the generator" if depth is None else f"a generator with n_downsamplings {depth}; use fewer"
        ):
            networks.generator(image, label, label)
        if networks.discriminator_parameters():
            with _naming(side, f"a discriminator with n_layers {method.discriminator.n_layers}; use fewer"):
                PatchDiscriminator(replace(narrow.discriminator, condition="none"))(image)
        with _naming(side, f"the losses of recipe {method.recipe}"):
            batch = Batch(image, image, label, label, paired, unpaired)
            _, fakes = networks.generator_losses(batch)
            if networks.discriminator_parameters():
                networks.discriminator_losses(fakes, batch)


@contextmanager
def _naming(side: int, part: str) -> Iterator[None]:
    """Turn an error inside the block into a ConfigurationError that names the part."""
    try:
        yield
    except (RuntimeError, ValueError, ConfigurationError) as error:  # torch's, for sides it cannot convolve
        raise ConfigurationError(f"--image-size {side} does not suit {part} ({error})") from error


def balanced(plan: Plan) -> Plan:
    """Return the plan with the weights of --task-balance measured, if its method uses them."""
    settings = plan.settings
    if not settings.method.balances_defects:
        return plan
    pairs = some_rows(plan.source, plan.index, PAIRED, 0, BALANCE_PAIRS, settings.validation_decoding)
    errors = do_nothing_errors(pairs)
    logger.info("do-nothing L1 per defect: %s", {name: round(error, 4) for name, error in errors.items()})
    return replace(
        plan, settings=replace(settings, defect_weight=defect_weights(plan.source.label_map, errors))
    )


def initial_weights(
    uri: str, settings: TrainSettings, label_map: LabelMap
) -> tuple[Mapping[str, Tensor], Mapping[str, str] | None]:
    """Return weights of G_XY from the bundle that --init-from names, and the recorded source of its encoder's weights.

    The bundle's labels may differ: groups and defects keep what was learned under their names, and new ones start
    afresh. Raises ConfigurationError if the architecture differs.
    """
    bundle = read_bundle(uri, "--init-from")
    old = LabelMap.parse(bundle.label_map, f"label map of {uri}")
    torch.manual_seed(settings.seed)  # new labels start with the same weights in every run
    generator = build_generator(settings.method.generator)
    try:
        transfer_generator(
            bundle.generator.state_dict(),
            bundle.generator.config,
            generator,
            {old.groups[name]: id_ for name, id_ in label_map.groups.items() if name in old.groups},
            {
                old.defects[name].id: defect.id
                for name, defect in label_map.defects.items()
                if name in old.defects
            },
        )
    except BundleError:
        raise
    except ConfigurationError as error:
        raise ConfigurationError(f"--init-from {uri}: {error}") from error
    new = sorted(set(label_map.defects) - set(old.defects))
    if new and bundle.generator.config.n_types:
        logger.info("--init-from %s: %s start afresh", uri, ", ".join(new))
    return generator.state_dict(), bundle.config.get("encoder_weights")


def pretrained_weights(
    wanted: str, settings: TrainSettings
) -> tuple[Mapping[str, Tensor], EncoderWeights | None]:
    """Return weights of G_XY with the encoder weights that --encoder-weights names, and these.

    Raises ConfigurationError if none are found or they do not fit.
    """
    torch.manual_seed(settings.seed)
    generator = build_generator(settings.method.generator)
    require(
        isinstance(generator, PretrainedUNet),
        f"--encoder-weights: architecture {settings.method.generator.architecture} has no pretrained encoder",
    )
    weights = find_encoder_weights(wanted, cast(PretrainedUNet, generator).encoder)
    return generator.state_dict(), weights
