"""Settings of a correction run, and their resolution into a plan: checks everything before an image is read."""

import hashlib
import json
import logging
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from model.bundle import Bundle
from model.config import require, require_choice
from model.detector.network import DetectorBundle
from model.errors import ConfigurationError
from model.precision import DEVICES, PRECISIONS
from pipelines import storage
from pipelines.contracts.error_codes import EVERY_CODE, FAILED
from pipelines.contracts.label_map import LabelMap
from pipelines.contracts.profiles.profile import read_profile
from pipelines.correction.catalog import list_catalog
from pipelines.correction.deliver.deliver import DeliverySettings
from pipelines.correction.deliver.gate_detector import DetectorGate
from pipelines.correction.deliver.gates import OFF, GateConfig, read_gates, usual_scores
from pipelines.correction.models import Model, Models
from pipelines.correction.output import OWNED, check_output
from pipelines.correction.stream.commit import CommitSettings
from pipelines.correction.tabulate import tabulate
from pipelines.images.allowed_uris import AllowedUris
from pipelines.images.decode import DecodeLimits
from pipelines.images.encode import check_encoding
from pipelines.inference.bundles import read_bundle
from pipelines.inference.detector_bundles import read_detector
from pipelines.metrics.fid.statistics import CAP
from pipelines.metrics.fid.weights import FidWeightsMissing, find_weights
from pipelines.metrics.reference import Reference, read_reference
from pipelines.published.layout import CATALOG_FOLDER
from pipelines.storage.parquet_units import Listing

logger = logging.getLogger(__name__)

#: Raise it if the same settings and model now give other bytes, so that re-runs correct everything again.
PIXEL_VERSION = 9

#: Defaults if neither --format and --quality nor a profile say.
FORMAT, QUALITY = "jpeg", 92


@dataclass(frozen=True)
class CorrectionConfig:
    """Settings of the command line, validated at construction (ConfigurationError names the flag). URIs: absolute."""

    catalog: tuple[str, ...]
    output: str
    model: str | None = None  # None: the starter bundle
    canary: str | None = None  # a bundle on trial, for `canary_share` of the images
    canary_share: float = 0.05
    label: str | None = None  # label of rows of a folder or a CSV that have none
    label_map: str | None = None  # None: the bundle's own
    score_scale: float = 1.0  # divisor that brings the catalog's scores to 0..1
    detector: str | None = None  # labels the rows that have no labels
    reference: str | None = None  # None: the catalog's own clean images
    fid: bool = True
    fid_samples: int = CAP
    fid_weights: str | None = None
    actors: tuple[int, int] | None = None
    gpus_per_actor: float | None = None
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    limit: int | None = None
    ai_tag: bool = False
    allow_uri: tuple[str, ...] = ()  # prefixes; local ones absolute
    format: str | None = None  # None: the profile's first, else JPEG
    quality: int | None = None  # None: the profile's, else QUALITY
    gates: str | None = None  # URI of thresholds; None: the defaults; gates.OFF
    gate_detector: str | None = None  # None: `detector`
    profile: str | None = None  # name or URI
    max_failed: float = 0.1
    max_dropped: float = 0.5  # raise it for catalogs that shrink by more in a night
    overwrite: bool = False
    retry_failed: tuple[str, ...] = ()  # error codes whose rows are tried again; EVERY_CODE: all
    check_images: int = 200  # images of earlier runs that a run looks for; 0: none
    limits: DecodeLimits = field(default_factory=DecodeLimits)

    def __post_init__(self) -> None:
        require(bool(self.catalog), "--catalog needs at least one URI")
        require(
            2 <= self.fid_samples <= CAP,
            f"--fid-samples {self.fid_samples}: from 2 to {CAP}, which FID keeps (or use --no-fid)",
        )
        require(
            self.batch_size is None or self.batch_size >= 1, f"--batch-size {self.batch_size}: at least 1"
        )
        require(self.limit is None or self.limit >= 1, f"--limit {self.limit}: at least 1")
        require(
            0 < self.score_scale < math.inf,
            f"--score-scale {self.score_scale:g}: above 0, such as 100 for percentages",
        )
        require(0 <= self.max_failed <= 1, f"--max-failed {self.max_failed:g}: a share from 0 to 1")
        require(0 <= self.max_dropped <= 1, f"--max-dropped {self.max_dropped:g}: a share from 0 to 1")
        require(
            0 < self.canary_share <= 1,
            f"--canary-share {self.canary_share:g}: above 0, up to 1, such as 0.05",
        )
        if self.actors is not None:
            low, high = self.actors
            require(1 <= low <= high, f"--actors {low}:{high}: MIN must be at least 1 and MAX not below it")
        share = self.gpus_per_actor
        require(share is None or share >= 0, f"--gpus-per-actor {share}: not below 0")
        require(
            share is None or share <= 1 or share == int(share), f"--gpus-per-actor {share}: up to 1, or whole"
        )
        require_choice("--device", self.device, DEVICES)
        require(
            self.device != "cpu" or not share,
            "--gpus-per-actor asks for GPUs and --device cpu for none; drop one of them",
        )
        require_choice("--precision", self.precision, PRECISIONS)
        check_encoding(
            FORMAT if self.format is None else self.format,
            QUALITY if self.quality is None else self.quality,
        )
        require(
            self.gates != OFF or self.gate_detector is None,
            f"--gate-detector is for a gate, and --gates {OFF} has none; drop one of them",
        )
        require(self.check_images >= 0, f"--check-images {self.check_images}: not below 0")
        AllowedUris(self.allow_uri)
        for code in self.retry_failed:
            require_choice("--retry-failed", code, (EVERY_CODE, *FAILED))

    @property
    def allowed_uris(self) -> AllowedUris:
        """URIs that rows without image bytes may be read from."""
        return AllowedUris(self.allow_uri)


@dataclass(frozen=True)
class Plan:
    """A resolved run: everything except for the cluster."""

    config: CorrectionConfig
    bundle: Bundle
    canary: Bundle | None
    label_map: LabelMap
    detector: DetectorBundle | None
    delivery: DeliverySettings
    listing: Listing
    reference: Reference
    fid_weights: str | None
    fid_missing: str | None  # why there will be no FID

    def models(self, precision: str) -> Models:
        """Return the bundles that correct, as tasks need them. precision: of the generators."""
        config, canary = self.config, self.canary
        current = self._model(config.model, "--model", self.bundle, precision)
        if canary is None:
            return Models(config.output, current)
        on_trial = self._model(config.canary, "--canary", canary, precision)
        return Models(config.output, current, on_trial, config.canary_share)

    def _model(self, uri: str | None, flag: str, bundle: Bundle, precision: str) -> Model:
        return Model(
            *(uri, flag, bundle.version, bundle.image_size, bundle.fit),
            config_hash=self.config_hash(precision, bundle.image_size),
        )

    def commit_settings(self, precision: str, attempt: str) -> CommitSettings:
        """Return the settings of an attempt's committing tasks. precision: of the generator."""
        config = self.config
        return CommitSettings(
            output=config.output,
            attempt=attempt,
            models=self.models(precision),
            groups={name: defect.group for name, defect in self.label_map.defects.items()},
            delivery=self.delivery,
            limits=config.limits,
        )

    def config_hash(self, precision: str, image_size: int) -> str:
        """Return the SHA-256 of what decides an output's bytes besides the upload and the model's weights.

        The batch size is left out: it may change a pixel by one level, and re-runs must not depend on the machine.
        --score-scale is left out too: it decides which defects a row has, and these are in the row's own keys. Another
        scale therefore corrects again only the rows whose defects it changes.
        """
        decides = {
            "pixels": PIXEL_VERSION,
            "label_map": _decides(self.label_map),
            "image_size": image_size,
            "precision": precision,
            "delivery": self.delivery.decides(),
            "limits": asdict(self.config.limits),
            **({} if self.detector is None else {"detector": self.detector.version}),
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return the resolved configuration, for people and for run.json."""
        replaced = {"format", "quality", "gates", "gate_detector", "profile", "limits"}  # resolved below
        return {
            **{name: value for name, value in asdict(self.config).items() if name not in replaced},
            "catalog": list(self.config.catalog),
            "model": self.config.model or "starter",
            "model_version": self.bundle.version,
            "image_size": self.bundle.image_size,
            "canary_share": None if self.canary is None else self.config.canary_share,
            "canary_version": None if self.canary is None else self.canary.version,
            "label_map": self.config.label_map or "the bundle's own",
            "detector_version": None if self.detector is None else self.detector.version,
            "delivery": self.delivery.describe(),
            "defects": list(self.label_map.defects),
            "unknown_labels": self.label_map.unknown_labels,
            "reference": self.reference.description if self.config.fid else None,
            "fid_weights": self.fid_weights,
            "fid_missing": self.fid_missing,
            "limits": asdict(self.config.limits),
        }


def resolve(config: CorrectionConfig, tables: str | None = None) -> Plan:
    """Check everything that the run relies on, cheapest first, and return its plan. Raises ConfigurationError.

    tables: folder for the tables of folders and CSV files (see `tabulate`; default: OUTPUT/.catalog). Writes nothing
    else.
    """
    given = None if config.label_map is None else LabelMap.read(config.label_map)
    check_output(config.output, config.catalog, _other_inputs(config), config.overwrite)
    bundle = read_bundle(config.model)
    trained = LabelMap.parse(bundle.label_map, f"the label map of the bundle {config.model or 'starter'}")
    label_map = given or trained
    label_map.check_bundle(trained)
    canary = None if config.canary is None else _read_canary(config, bundle, label_map)
    detector = None if config.detector is None else read_detector(config.detector)
    if detector is not None:
        _check_rules(detector, label_map)
    delivery = _resolve_delivery(config, label_map, detector)
    weights, missing = _find_weights(config)
    reference = Reference("none")
    if weights is not None:
        with storage.as_configuration_error(config.reference or "", "--reference", "read"):
            reference = read_reference(config.reference, tuple(label_map.defects), config.fid_samples)
    elif config.reference is not None:
        storage.check_readable(config.reference, "--reference")
    known = tuple(dict.fromkeys(rule.label for rule in label_map.rules if not rule.product_types))
    written = [storage.join(config.output, name) for name in OWNED]
    folder = tables or storage.join(config.output, CATALOG_FOLDER)
    catalog = tabulate(config.catalog, folder, config.label, known, detector is not None, written)
    config = replace(config, allow_uri=(*config.allow_uri, *catalog.allowed))
    listing = list_catalog(
        catalog.uris,
        config.limit,
        labelled=detector is None,
        fetches=bool(config.allow_uri),
        score_scale=config.score_scale,
    )
    return Plan(config, bundle, canary, label_map, detector, delivery, listing, reference, weights, missing)


def _read_canary(config: CorrectionConfig, current: Bundle, label_map: LabelMap) -> Bundle:
    """Return the bundle on trial. Raises ConfigurationError if it could not take the current one's place as it is."""
    bundle = read_bundle(config.canary, "--canary")
    if bundle.version == current.version:
        raise ConfigurationError(
            f"--canary {config.canary} is the bundle of --model; give the new bundle, or drop the flag (also from the "
            "file of --config)"
        )
    own = LabelMap.parse(bundle.label_map, f"the label map of the bundle {config.canary}")
    if config.label_map is None and _decides(own) != _decides(label_map):
        raise ConfigurationError(
            f"--canary {config.canary} has another label map than --model, and a run has one for all images; give "
            "label_map.yaml of --model's bundle with --label-map (any other one would have all images corrected again)"
        )
    label_map.check_bundle(own, "--canary")
    return bundle


def _decides(label_map: LabelMap) -> str:
    """Return what of a label map decides about a correction: all but the cycle groups, which only trainings use."""
    return replace(label_map, cycle_groups=None).to_yaml()


def _other_inputs(config: CorrectionConfig) -> dict[str, tuple[str, ...]]:
    """Return the inputs of a run besides its catalog, by flag."""
    single = {
        "--model": config.model,
        "--canary": config.canary,
        "--label-map": config.label_map,
        "--detector": config.detector,
        "--gate-detector": config.gate_detector,
        "--reference": config.reference,
        "--fid-weights": config.fid_weights,
    }
    return {
        "--allow-uri": config.allow_uri,
        **{flag: (uri,) for flag, uri in single.items() if uri is not None},
    }


def _resolve_delivery(
    config: CorrectionConfig, label_map: LabelMap, labelling: DetectorBundle | None
) -> DeliverySettings:
    """Return how corrections are encoded and judged. Raises ConfigurationError."""
    profile = None if config.profile is None else read_profile(config.profile)
    if profile is not None and config.format not in (None, *profile.formats):
        raise ConfigurationError(
            f"--format {config.format}: --profile {config.profile} accepts {', '.join(profile.formats)}"
        )
    format = config.format or (FORMAT if profile is None else profile.formats[0])
    quality = config.quality or (None if profile is None else profile.quality) or QUALITY
    gates = read_gates(config.gates, label_map.defects)
    gate = None
    uri = config.gate_detector or config.detector
    if gates is not None and uri is not None:
        known = labelling if config.gate_detector is None else None
        bundle = known or read_detector(uri, "--gate-detector")
        if gates.defect_remains is None:
            gates = replace(gates, defect_remains=usual_scores(bundle, label_map))
        if gates.defect_remains:
            gate = DetectorGate(uri, bundle.version, label_map)
    _warn_of_missing_gate(config, gates, gate)
    return DeliverySettings(format, quality, config.ai_tag, gates, gate, profile)


def _warn_of_missing_gate(
    config: CorrectionConfig, gates: GateConfig | None, detector: DetectorGate | None
) -> None:
    """Warn if the detector's gate was asked for, but will not run."""
    if gates is None or detector is not None:
        return
    if gates.defect_remains:
        logger.warning(
            "--gates %s: defect_remains needs --gate-detector; without one this gate is off", config.gates
        )
    elif config.gate_detector is not None:
        logger.warning(
            "--gate-detector %s is used for no defect: its own figures show for no defect that it rarely reports it "
            "in clean images; name defects in --gates (defect_remains)",
            config.gate_detector,
        )


def _check_rules(detector: DetectorBundle, label_map: LabelMap) -> None:
    """Warn of the detector's labels that no rule names. Raises ConfigurationError if they would fail images."""
    ignored = sorted(set(detector.labels) - {rule.label for rule in label_map.rules})
    if not ignored:
        return
    complaint = f"no rule of the label map names the detector's {', '.join(ignored)}"
    if label_map.unknown_labels == "fail":
        raise ConfigurationError(
            f"--detector: {complaint}, which would fail images (unknown_labels); add rules (defect: null ignores)"
        )
    logger.warning("%s: these are not corrected", complaint)


def _find_weights(config: CorrectionConfig) -> tuple[str | None, str | None]:
    if not config.fid:
        return None, "switched off (--no-fid)"
    try:
        return find_weights(config.fid_weights), None
    except FidWeightsMissing as error:
        logger.warning("%s", error)
        return None, str(error)
