"""Settings of an evaluation, and their resolution into a plan before any image is read."""

from dataclasses import asdict, dataclass
from typing import Any

from model.config import require, require_choice
from model.errors import ConfigurationError
from model.precision import DEVICES, PRECISIONS, choose_device
from pipelines.contracts.splits import TEST, TRAIN
from pipelines.evaluation.contestants import Contestant, read_contestants
from pipelines.evaluation.rows import COMPARED, Input
from pipelines.evaluation.survey import Survey, take_survey
from pipelines.metrics.fid.weights import FidWeightsMissing, find_weights
from pipelines.shards.source import TrainingSource, list_shards, open_source
from pipelines.storage import outputs
from pipelines.storage.parquet_units import Unit

MARKDOWN, CSV, JSON, GRIDS, SUCCESS = "table.md", "table.csv", "table.json", "grids", "_SUCCESS"
#: Names that an evaluation writes and --overwrite removes; nothing else in the folder is touched.
OWNED = (SUCCESS, MARKDOWN, CSV, JSON, GRIDS)


@dataclass(frozen=True)
class EvaluationConfig:
    """Settings of the command line. URIs are absolute."""

    data: tuple[str, ...]
    bundles: tuple[str, ...]
    output: str
    samples: int = (
        10_000  # test rows per defect, and training targets of the floor; lower it for a quick look
    )
    fid: bool = True
    fid_weights: str | None = None  # None: those of the extra `fid`
    device: str = "auto"
    precision: str = "float32"  # bfloat16 to judge the bundles as a GPU runs them
    workers: int | None = None  # most Ray actors; None: as many as are useful; 0: this process, without Ray
    overwrite: bool = False
    # Whether backgrounds lose scraps and soft edges the old ground's colour, as in a correction. That depends on the
    # label, so it must not be done where networks are compared that are not told the label.
    cleans_backgrounds: bool = True

    def __post_init__(self) -> None:
        """Raise ConfigurationError for a value out of range."""
        require(len(self.bundles) > 0, "--bundle: name at least one model bundle")
        require(self.samples >= 1, f"--samples must be 1 or more, got {self.samples}")
        require_choice("--device", self.device, DEVICES)
        require_choice("--precision", self.precision, PRECISIONS)


@dataclass(frozen=True)
class Plan:
    """A resolved evaluation. weights: None without FID; `fid_missing` then says why."""

    config: EvaluationConfig
    source: TrainingSource
    contestants: tuple[Contestant, ...]
    units: tuple[Unit, ...]
    survey: Survey
    weights: str | None
    fid_missing: str | None

    @property
    def defects(self) -> tuple[str, ...]:
        """Defects of the data's label map that have test rows, in its order."""
        return tuple(name for name in self.source.label_map.defects if self.survey.rows(TEST, name))

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Forms in which uploads are needed: for comparing, and for every bundle."""
        return tuple(sorted({COMPARED, *(one.input for one in self.contestants)}))

    def rows(self) -> dict[str, dict[str, int]]:
        """Return for each defect the number of rows in each split, and of exact pairs in the test split."""
        counts = self.survey.counts
        return {
            defect: {
                "test": self.survey.rows(TEST, defect),
                "test_pairs": counts[TEST, defect, "paired"],
                "train": self.survey.rows(TRAIN, defect),
            }
            for defect in self.source.label_map.defects
        }

    def measurer_settings(self, device: str) -> dict[str, Any]:
        """Return the arguments of a `measure.Measurer`."""
        return {
            "contestants": self.contestants,
            "inputs": self.inputs,
            "weights": self.weights,
            "device": device,
            "precision": self.config.precision,
            "cleans_backgrounds": self.config.cleans_backgrounds,
        }

    def describe(self) -> dict[str, Any]:
        """Return the settings that decide the figures."""
        return {
            "data": list(self.config.data),
            "dataset": self.source.describe(),
            "samples": self.config.samples,
            "precision": self.config.precision,
            "fid_missing": self.fid_missing,
        }

    def preview(self) -> dict[str, Any]:
        """Return the resolved configuration, and what a run would do."""
        return {
            **asdict(self.config),
            "bundles": {
                one.name: {"uri": one.uri, "version": one.version, "image_size": one.image_size}
                for one in self.contestants
            },
            "fid_weights": self.weights,
            "fid_missing": self.fid_missing,
            "plan": {
                "rows": self.rows(),
                "rows_read": self.survey.sampled_rows(floor=self.weights is not None),
                "defects_unknown_to": {
                    one.name: missing
                    for one in self.contestants
                    if (missing := [name for name in self.defects if name not in one.conditions])
                },
            },
        }


def resolve(config: EvaluationConfig) -> Plan:
    """Check everything that needs no image, and return the plan. Raises ConfigurationError with flag and remedy."""
    source = open_source(config.data)
    contestants = read_contestants(config.bundles)
    check_output(config)
    weights, missing = _weights(config)
    if config.workers == 0:  # workers run on machines of their own
        choose_device(config.device)
    units = list_shards(source.shards)
    survey = take_survey(units, config.samples, source.label_map)
    return Plan(config, source, contestants, units, survey, weights, missing)


def check_output(config: EvaluationConfig) -> None:
    """Raise ConfigurationError if --output holds an evaluation that may not be replaced, another job's output, or an
    input.
    """
    output = config.output
    existing = outputs.present(output, OWNED)
    if SUCCESS in existing and not {MARKDOWN, JSON} & set(
        existing
    ):  # an evaluation writes it after its tables
        raise ConfigurationError(
            f"--output {output} holds another job's output ({SUCCESS} without {MARKDOWN} and {JSON}), which "
            "--overwrite does not replace; choose another folder"
        )
    if existing and not config.overwrite:
        raise ConfigurationError(
            f"--output {output} holds {', '.join(existing)} of an earlier evaluation; choose another folder, or "
            "replace them with --overwrite"
        )
    inside = outputs.first_inside([*config.data, *config.bundles], output, OWNED)
    if inside is not None:
        raise ConfigurationError(
            f"--output {output}: the evaluation would write over {inside}; choose another folder"
        )


def prepare_output(config: EvaluationConfig) -> None:
    """Remove an earlier evaluation. Raises ConfigurationError."""
    outputs.remove(config.output, OWNED)


def _weights(config: EvaluationConfig) -> tuple[str | None, str | None]:
    if not config.fid:
        return None, "No FID and KID: --no-fid."
    try:
        return find_weights(config.fid_weights), None
    except FidWeightsMissing as error:
        return None, f"No FID and KID: {error}."
