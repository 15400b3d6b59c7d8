"""A training, resolved: what the command line and the data say, checked before anything starts."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
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
from pipelines.bundles import read_bundle
from pipelines.defects.registry import CLEAN_UP, synthesis
from pipelines.label_map import LabelMap
from pipelines.training.decoding import Making
from pipelines.training.encoder_weights import EncoderWeights, find_encoder_weights
from pipelines.training.feed import orders_of
from pipelines.training.index import MADE, PAIRED, SOURCE, VALIDATION, Index, build_index, check_tasks
from pipelines.training.order import epoch_draws
from pipelines.training.settings import LoopSettings, TrainSettings
from pipelines.training.source import TrainingSource, do_nothing_errors, some_rows, spread, task_weights

logger = logging.getLogger("train")

#: Trusted pairs per defect that fix the task balance.
BALANCE_PAIRS = 128
#: Photos of --data whose grounds products are laid on; each process that decodes holds them (a quarter of a megabyte).
GROUND_PHOTOS = 160
#: Channels of the networks that are tried on one image before anything starts.
PROBE_WIDTH = 2


@dataclass(frozen=True)
class LoopPlan:
    """A training of whatever networks, resolved: everything a worker needs.

    workers: (fewest, most) Ray Train workers; (0, 0) is this process. command_line goes into the model card. init:
    weights to start from, or None.
    """

    settings: LoopSettings
    source: TrainingSource
    index: Index
    command_line: str
    workers: tuple[int, int] = (0, 0)
    init: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class Plan(LoopPlan):
    """A generator's training; `init` are weights of G_XY.

    validation: what the best bundle is chosen by, and of how many images, for people (`validation.forecast`).
    encoder: where its pretrained weights come from, if any.
    """

    settings: TrainSettings
    validation: Mapping[str, Any] = field(default_factory=dict)
    encoder: Mapping[str, str] | None = None

    @property
    def can_validate(self) -> bool:
        """Whether there is anything to measure with."""
        return bool(self.index.of_split(VALIDATION).any())


def inspect(source: TrainingSource, settings: TrainSettings, allow_missing: bool) -> Index:
    """The data's index. Raises ConfigurationError for everything in the data that would make the training fail."""
    index = build_index(source.shards, source.label_map, settings.validation_share)
    method = settings.method
    check_tasks(
        index,
        source.label_map,
        pairs=method.uses_pairs,
        unpaired=method.uses_unpaired,
        allow_missing=allow_missing,
    )
    return index


def find_making(source: TrainingSource, index: Index, seed: int) -> Making:
    """How the data's pairs are made anew.

    Raises ConfigurationError where the data holds such pairs of a defect that no synthesis is known for.
    """
    for name, defect in source.label_map.defects.items():
        if name not in source.syntheses and index.having(defect.id, MADE).any():
            raise ConfigurationError(
                f"--data has pairs of {name} to be made anew, but dataset.json does not say by which synthesis; "
                "prepare it again with jobs/prepare_dataset.py"
            )
    for name in source.syntheses.values():
        synthesis(name)
    shown = [
        source.label_map.defects[name].id
        for name, made_by in source.syntheses.items()
        if made_by == CLEAN_UP and name in source.label_map.defects
    ]
    photos = np.flatnonzero(
        np.isin(index.types, shown)
        & index.training
        & (index.kinds & (PAIRED | SOURCE | MADE) == PAIRED | SOURCE)
    )
    chosen = photos[spread(len(photos), GROUND_PHOTOS)]
    return Making(seed, tuple(sorted(source.syntheses.items())), tuple(orders_of(index, np.sort(chosen))))


def epoch_steps(settings: LoopSettings, index: Index, label_map: LabelMap, workers: int) -> int:
    """Updates of one epoch. Raises ConfigurationError where it has none."""
    draws = epoch_draws(index, settings.sampling(label_map))
    steps = draws // workers // settings.update_size
    if not steps:
        raise ConfigurationError(
            f"an epoch holds {draws} samples, fewer than one update of {workers} x {settings.update_size}: "
            "use a smaller --batch-size, fewer --workers or more data"
        )
    return steps


def check_networks(settings: TrainSettings) -> None:
    """Raise ConfigurationError for networks that cannot take images of the training's size.

    They translate and judge one black image here, with few channels, which decide nothing about sides.
    """
    method, side = settings.method, settings.image_size
    narrow = replace(
        method,
        generator=replace(method.generator, width=min(method.generator.width, PROBE_WIDTH)),
        discriminator=replace(method.discriminator, width=min(method.discriminator.width, PROBE_WIDTH)),
    )
    networks = build_method(narrow, torch.ones(method.generator.n_types) if method.balances_tasks else None)
    image, label = torch.zeros(1, 3, side, side), torch.zeros(1, dtype=torch.long)
    paired, unpaired = (torch.full((1,), float(used)) for used in (method.uses_pairs, method.uses_unpaired))
    with torch.no_grad():
        depth = method.generator.n_downsamplings if method.generator.architecture == "unet" else None
        with _blamed(
            side, "the generator" if depth is None else f"a generator with n_downsamplings {depth}; use fewer"
        ):
            networks.generator(image, label, label)
        if networks.discriminator_parameters():
            with _blamed(side, f"a discriminator with n_layers {method.discriminator.n_layers}; use fewer"):
                PatchDiscriminator(replace(narrow.discriminator, condition="none"))(image)
        with _blamed(side, f"the losses of recipe {method.recipe}"):
            batch = Batch(image, image, label, label, paired, unpaired)
            _, fakes = networks.generator_losses(batch)
            if networks.discriminator_parameters():
                networks.discriminator_losses(fakes, batch)


@contextmanager
def _blamed(side: int, part: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, ConfigurationError) as error:  # torch's, for sides it cannot convolve
        raise ConfigurationError(f"--image-size {side} does not suit {part} ({error})") from error


def balanced(plan: Plan) -> Plan:
    """The plan with the task balance measured, where it asks for one."""
    settings = plan.settings
    if not settings.method.balances_tasks:
        return plan
    pairs = some_rows(plan.source, plan.index, PAIRED, 0, BALANCE_PAIRS, settings.validation_decoding)
    errors = do_nothing_errors(pairs)
    logger.info("do-nothing L1 per defect: %s", {name: round(error, 4) for name, error in errors.items()})
    return replace(plan, settings=replace(settings, task_weight=task_weights(plan.source.label_map, errors)))


def initial_weights(
    uri: str, settings: TrainSettings, label_map: LabelMap
) -> tuple[Mapping[str, Tensor], Mapping[str, str] | None]:
    """Weights of G_XY that start from the bundle --init-from names, whose labels may be others; and what that bundle
    says of where its encoder's came from.

    Groups and defects keep what was learned for their names; new ones start afresh. Raises ConfigurationError where
    the architecture differs.
    """
    bundle = read_bundle(uri, "--init-from")
    old = LabelMap.parse(bundle.label_map, f"label map of {uri}")
    torch.manual_seed(settings.seed)  # new labels start alike in every run
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
    """Weights of G_XY with the encoder's that --encoder-weights names, and what is known of these.

    Raises ConfigurationError where none are found or they do not fit.
    """
    torch.manual_seed(settings.seed)
    generator = build_generator(settings.method.generator)
    require(
        isinstance(generator, PretrainedUNet),
        f"--encoder-weights: architecture {settings.method.generator.architecture} has no pretrained encoder",
    )
    found = find_encoder_weights(wanted, cast(PretrainedUNet, generator).encoder)
    return generator.state_dict(), found
