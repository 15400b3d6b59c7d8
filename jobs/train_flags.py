"""Define the command line of jobs/train.py, and the flags that jobs/train_detector.py has too."""

import argparse
from typing import Any

from jobs import command
from model.config import ARCHITECTURES, FITS, GEOMETRIES, HEADS, INJECT_INITS, REDUCTIONS
from model.precision import DEVICES, PRECISIONS
from model.recipes import RECIPES
from model.semi_paired import DIRECTIONS, TASK_BALANCES
from model.training_step import OptimizerConfig
from pipelines.shards.validation_part import GENERATOR_SHARE
from pipelines.training.feed.order import SAMPLERS
from pipelines.training.generator.settings import TrainSettings
from pipelines.training.settings import LoopSettings

DEFAULT_STEPS = 20_000
#: Names that --encoder-weights accepts besides a URI; see `pipelines.training.encoder_weights`.
ENCODER_WEIGHTS = ("imagenet", "none")
#: Default of --geometric-groups, if the label map has this group.
GEOMETRIC_GROUP = "angle"


def parser(description: str | None) -> command.Parser:
    """Return the parser of the command line."""
    p = command.Parser("train.py", description=description, formatter_class=command.HelpFormatter)
    _add_what(p)
    _add_data(p.add_argument_group("data"))
    machine = p.add_argument_group("machine")
    add_machine(machine)
    machine.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile the networks: minutes to begin, faster steps on GPUs",
    )
    _add_records(p.add_argument_group("records"))
    _add_method(
        p.add_argument_group("method", "each recipe has its own defaults, and knows only some of these")
    )
    return p


def _add_what(p: argparse.ArgumentParser) -> None:
    add = p.add_argument
    command.add_data(p, "mixed")
    command.add_output(p, "the bundle, checkpoints, history and sample grids")
    add("--recipe", choices=RECIPES, default="proposed", help="which method to train")
    add_length(p, DEFAULT_STEPS)
    add(
        "--image-size",
        type=command.positive,
        default=TrainSettings.image_size,
        help="training resolution in pixels; a multiple of 4",
    )
    add(
        "--fit",
        choices=FITS,
        default=TrainSettings.fit,
        help="how images are made square: stretched (as in the paper), or at their aspect ratio on white; "
        "corrections have the upload's own size and shape in both cases",
    )
    add(
        "--batch-size",
        type=command.positive,
        default=TrainSettings.batch_size,
        help="samples per worker and pass through the networks",
    )
    add(
        "--accumulate",
        type=command.positive,
        default=TrainSettings.accumulate,
        metavar="N",
        help="passes per update, for batches that do not fit into memory",
    )
    add_rate(p, OptimizerConfig.rate)
    add(
        "--beta1",
        type=float,
        default=OptimizerConfig.beta1,
        help="Adam's first beta; 0.9 suits --adversarial 0",
    )
    add("--beta2", type=float, default=OptimizerConfig.beta2, help="Adam's second beta")
    add(
        "--clip",
        type=float,
        default=OptimizerConfig.clip,
        metavar="NORM",
        help="largest norm of the gradients; 0 clips none",
    )
    add(
        "--ema",
        type=float,
        default=TrainSettings.ema,
        metavar="DECAY",
        help="keep a running average of the generator (0.999), which is validated and goes into the bundle; 0: none",
    )
    add(
        "--init-from",
        type=command.location,
        metavar="BUNDLE",
        help="start from this bundle's weights",
    )
    add_earlier(p)


def add_length(p: argparse.ArgumentParser, steps: int) -> None:
    """Add the flags for the length of a training, and its seed. steps: the default length."""
    length = p.add_mutually_exclusive_group()
    length.add_argument(
        "--steps", type=command.positive, metavar="N", help=f"length in updates (default: {steps:,})"
    )
    length.add_argument(
        "--epochs",
        type=command.positive,
        metavar="N",
        help="length in passes over the data; with --workers MIN:MAX they are counted for MAX workers: fewer workers "
        "make as many updates, with fewer samples",
    )
    p.add_argument("--seed", type=int, default=LoopSettings.seed)


def add_encoder_weights(group: argparse._ActionsContainer) -> None:
    """Add the flag for the initial weights of a pretrained encoder."""
    group.add_argument(
        "--encoder-weights",
        type=command.location_unless(lambda text: text in ENCODER_WEIGHTS),
        metavar="imagenet|URI|none",
        help="initial weights of the encoder: imagenet, the default, is taken from the extra 'pretrained', else "
        "downloaded; or the URI of a state dict with timm's names",
    )


def add_rate(p: argparse.ArgumentParser, rate: float) -> None:
    """Add the flag for the learning rate. rate: the default."""
    p.add_argument(
        "--rate",
        type=float,
        default=rate,
        help="learning rate, constant for half of the length, then falling to zero",
    )


def add_earlier(p: argparse.ArgumentParser) -> None:
    """Add the flags that decide about an earlier training in OUTPUT; see `earlier_training`."""
    add = p.add_argument
    add(
        "--resume",
        action="store_true",
        help="continue from the newest good checkpoint in OUTPUT, or start if there is none; --steps may change",
    )
    add("--overwrite", action="store_true", help="replace an earlier training in OUTPUT")
    command.add_lock(p)
    command.add_dry_run(p)


def _add_data(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add_order(group, GENERATOR_SHARE, "the best bundle, curves, samples and scores come from them")
    add(
        "--repeat",
        nargs="*",
        action="extend",
        default=[],
        metavar="DEFECT=N",
        help="draw a defect's rows N times in each epoch, if it is harder or rarer than the others",
    )
    add("--crop", action="store_true", help="random crops of images whose defect is not geometric")
    add(
        "--flip",
        nargs="*",
        action="extend",
        default=[],
        metavar="DEFECT",
        help="mirror images of these defects at random; not for defects of orientation, nor if images may contain text "
        "(a watermark, a label): the job does not check for text",
    )


def add_order(group: argparse._ArgumentGroup, validation_share: float, chosen: str) -> None:
    """Add the flags that decide which rows are drawn, how often and in which order.

    validation_share: the default. chosen: how the photos of that share are used, for the help.
    """
    add = group.add_argument
    add(
        "--validation-share",
        type=float,
        default=validation_share,
        metavar="SHARE",
        help=f"share of training photos, by hash of their ids, that are not trained on: {chosen}; the test split is "
        "used by reports only. 0 to 0.5; raise it if defects have few photos",
    )
    add(
        "--sampler",
        choices=SAMPLERS,
        default=LoopSettings.sampler,
        help="balanced draws every defect equally often: for data in which one has a hundred times another's photos",
    )
    add(
        "--shuffle-rows",
        type=command.positive,
        default=LoopSettings.shuffle_rows,
        metavar="N",
        help="decoded rows that each worker shuffles among",
    )
    add(
        "--allow-missing",
        action="store_true",
        help="train even if the data lacks some of the label map's defects",
    )


def add_machine(group: argparse._ArgumentGroup) -> None:
    """Add the flags for the machines that a training uses, and how it computes."""
    add = group.add_argument
    add(
        "--workers",
        type=workers,
        default="1",  # text, which the help prints as it is
        metavar="N|MIN:MAX",
        help="Ray Train workers; MIN:MAX continues with fewer if nodes are lost, and uses more if they are added; "
        "0 trains in this process, without Ray",
    )
    add(
        "--device",
        choices=DEVICES,
        default=LoopSettings.device,
        help="auto: a GPU if there is one, else the CPU",
    )
    command.add_autoscaling(group)
    add(
        "--precision",
        choices=PRECISIONS,
        default=LoopSettings.precision,
        help="auto: bfloat16 if the hardware supports it",
    )


def _add_records(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add_history(group)
    add(
        "--grid-every",
        type=command.positive,
        default=TrainSettings.grid_every,
        metavar="STEPS",
        help="steps between sample pictures (samples/*.png)",
    )
    add(
        "--validate-every",
        type=command.not_negative,
        default=TrainSettings.validate_every,
        metavar="STEPS",
        help="steps between measurements of FID, KID, L1 and PSNR on the photos of --validation-share; 0: never",
    )
    add(
        "--validation-images",
        type=command.positive,
        default=TrainSettings.validation_images,
        metavar="N",
        help="images per defect and side for --validate-every; more give steadier figures and take longer",
    )
    command.add_fid_weights(group)


def add_history(group: argparse._ArgumentGroup) -> None:
    """Add the flags for log lines and checkpoints."""
    add = group.add_argument
    add("--log-every", type=command.positive, default=LoopSettings.log_every, metavar="STEPS")
    add("--checkpoint-every", type=command.positive, default=LoopSettings.checkpoint_every, metavar="STEPS")
    add(
        "--keep",
        type=command.positive,
        default=LoopSettings.keep,
        metavar="N",
        help="checkpoints to keep, the newest ones",
    )


def shared_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of any training (`LoopSettings`) whose flags have the same names."""
    names = (
        *("image_size", "batch_size", "seed", "device", "precision", "sampler", "shuffle_rows"),
        *("log_every", "checkpoint_every", "keep", "validation_share", "validation_images"),
    )
    return {name: getattr(args, name) for name in names}


def _add_method(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--architecture",
        choices=ARCHITECTURES,
        help="pretrained_unet has an encoder trained on ImageNet; resnet, the default, is the paper's",
    )
    add(
        "--encoder",
        metavar="NAME",
        help="backbone of pretrained_unet, a name in timm (default: tf_efficientnet_lite0)",
    )
    add_encoder_weights(group)
    add("--encoder-rate", type=float, metavar="RATE", help="learning rate of the encoder (default: --rate)")
    add(
        "--freeze-norms",
        action=argparse.BooleanOptionalAction,
        help="keep the encoder's batch norms as pretrained (default: yes, except for --encoder-weights none)",
    )
    add(
        "--matte",
        type=float,
        metavar="WEIGHT",
        help="weight of the loss that compares the matte with what the synthesis changed (default: 0)",
    )
    add(
        "--width",
        type=command.positive,
        help="channels after the first convolution; 32 suits CPUs (default: 64; pretrained_unet: 16)",
    )
    add(
        "--blocks",
        type=command.not_negative,
        help="residual blocks; 6 is usual below 256 pixels (default: 9)",
    )
    add(
        "--blocks-before-type",
        type=command.not_negative,
        help="how many of --blocks come before the type is injected (default: 4/9 of them)",
    )
    add(
        "--reduce",
        choices=REDUCTIONS,
        help="how the attention map is summed; sum, the default, is the paper's (pretrained_unet: sqrt)",
    )
    add(
        "--inject-init",
        choices=INJECT_INITS,
        help="initial weights of the injections (default: normal; pretrained_unet: wide)",
    )
    add(
        "--head",
        choices=HEADS,
        help="direct, the default, is the paper's; blend keeps untouched pixels exactly (pretrained_unet: blend)",
    )
    add(
        "--geometry",
        choices=GEOMETRIES,
        help="affine: the generator may turn images of --geometric-groups (default: none)",
    )
    add(
        "--geometric-groups",
        nargs="*",
        action="extend",
        metavar="GROUP",
        help="groups whose defect is the position or angle of the product: never cropped, moved by --geometry, and "
        "without cycle and identity if the data's label map has no cycle_groups (default: angle, if the map has it)",
    )
    add("--adversarial", type=float, metavar="WEIGHT", help="0 trains without discriminators (default: 1)")
    add("--reconstruction", type=float, metavar="WEIGHT", help="(default: 150)")
    add("--cycle", type=float, metavar="WEIGHT", help="(default: 10)")
    add("--identity", type=float, metavar="WEIGHT", help="(default: 10)")
    add("--directions", choices=DIRECTIONS, help="forward trains no generator back: cheaper, needs --cycle 0")
    add(
        "--task-balance",
        choices=TASK_BALANCES,
        help="baseline gives faint defects the same weight as large ones",
    )
    add(
        "--set",
        nargs="*",
        action="extend",
        default=[],
        metavar="PART.NAME=VALUE",
        help="any other setting of the recipe (--dry-run prints all); PART is generator, discriminator or objective",
    )


def workers(text: str) -> tuple[int, int]:
    """Parse an argument: N or MIN:MAX Ray Train workers."""
    low, separator, high = text.partition(":")
    try:
        bounds = int(low), int(high) if separator else int(low)
    except ValueError:
        bounds = (-1, -1)
    if not (0 <= bounds[0] <= bounds[1]) or (separator and bounds[0] == 0):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of workers such as 4, or MIN:MAX such as 2:8"
        )
    return bounds
