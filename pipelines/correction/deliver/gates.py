"""Gates between a correction and its publication: their thresholds, and the remedies if the original is kept.

    version: 1                                          # the file of --gates; a missing key keeps its default,
    nearly_constant: 2.0                                # and ~ switches the gate off
    empty_product: 0.002
    product_lost: 0.25
    product_holes: 0.06
    background_not_white: 0.02
    product_changed: 5.0
    weak_outline: 0.1
    defect_remains: {wrong_angle: 0.9, non_white_background: 0.5}
    white_background: [non_white_background]            # after the correction of these, the background must be white

A gate's key is the `error_code` of the rows that it rejects.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo

from model.detector.network import DetectorBundle
from pipelines import storage
from pipelines.contracts.label_map import KnownDefect, LabelMap
from pipelines.contracts.yaml_reader import Number, Share, VersionedFile, YamlFile, context_of
from pipelines.inference.edits.apply import BACKGROUNDS

FLAG = "--gates"
OFF = "off"

NEARLY_CONSTANT, EMPTY_PRODUCT = "nearly_constant", "empty_product"
LOST, HOLES, WEAK_OUTLINE = "product_lost", "product_holes", "weak_outline"
NOT_WHITE, CHANGED, REMAINS = "background_not_white", "product_changed", "defect_remains"

#: If a detector gives a label to a larger share of clean images, the label says little about a corrected image.
MAX_FALSE_ALARMS = 0.05

#: Possible causes, and what to do.
_REMEDIES = {
    LOST: "a close-up, a product like its background, or an image on white that needed no correction: check "
    "the label, take another photo, or correct it by hand",
    HOLES: "parts of it look like the background: take another photo on another background, or correct it by hand",
    WEAK_OUTLINE: "a close-up, a product like its background, or background that is left: take another photo that "
    "shows the whole product on another background, or correct it by hand",
}


@dataclass(frozen=True)
class GateConfig:
    """Thresholds; None switches a gate off. Chosen by eye on half of 290 corrections of real photos by the starter
    bundle, and evaluated on the other half (docs/performance.md).
    """

    #: Standard deviation of all values, 0 to 127: at or below, the correction is of one colour. Photos have 20 or more.
    nearly_constant: float | None = 2.0
    #: Share of the corrected image that is not white: at or below, no product is left. Raise it if products are
    #: never small.
    empty_product: float | None = 0.002
    #: Share of the product, as classical saliency finds it in the upload, that is white after a correction of the
    #: background: above, the product is lost. The threshold is multiplied by 0.4 if the upload was on white already, by
    #: 2.4 if the kept part separates the photo's colours as well as the saliency does; the gate is off if the saliency
    #: failed (`ProductLoss.allowance`). Lower it for a strict catalog; raise it if rejected images (the report shows
    #: some) are right. Finding the product takes 30 ms of a core per image, for all gates together.
    product_lost: float | None = 0.25
    #: Share of the product that is white and enclosed by the kept part: above, the correction tore holes into it. Raise
    #: it if products have gaps through which the background shows, and the saliency does not see them.
    product_holes: float | None = 0.06
    #: Share of a corner or of the border that is below 250 in the encoded file: above, the background is not white.
    #: If all gates that look for the product are off, a product that the photo cuts off counts as background here.
    background_not_white: float | None = 0.02
    #: Mean CIE76 difference inside the product: above, the correction changed the product. Lower it if colours
    #: matter, raise it if watermarks are large.
    product_changed: float | None = 5.0
    #: Share of the kept part's outline at which the upload shows no edge, although the correction erased what lies
    #: beyond: above, the product is cut off, as in a close-up, or background is left. Raise it if products have the
    #: colour of their background.
    weak_outline: float | None = 0.1
    #: Score (0.5 to 1; 0.5 is the detector's own threshold) from which on a defect counts as still there, for each
    #: defect; others have no gate. None: see `usual_scores`. Name others if a look at the images shows that they help.
    defect_remains: Mapping[str, float] | None = None
    #: Defects whose correction must leave a white background; those that the label map does not know are ignored.
    white_background: tuple[str, ...] = BACKGROUNDS

    def needs_product(self, background: bool) -> bool:
        """Return whether a gate needs the product's region in the upload. background: it was corrected."""
        return self.product_changed is not None or (background and self.needs_losses)

    @property
    def needs_losses(self) -> bool:
        """True if a gate needs `product_loss.ProductLoss`."""
        return any(limit is not None for limit in (self.product_lost, self.product_holes, self.weak_outline))

    def judge(self, code: str, value: float, what: str, allowance: float = 1.0) -> None:
        """Raise Rejection if `value` is beyond `allowance` times the threshold of gate `code`. what: the measured
        quantity, for the message.
        """
        threshold = getattr(self, code)
        if threshold is None:
            return
        threshold *= allowance
        low = code in (NEARLY_CONSTANT, EMPTY_PRODUCT)
        if (value <= threshold) if low else (value > threshold):
            raise Rejection(
                code, value, f"{what} is {value:.3g}, {'not above' if low else 'above'} {threshold:g}"
            )

    def judge_remaining(self, defect: str, score: float) -> None:
        """Raise Rejection if a detector's `score` of `defect` reaches the gate's threshold."""
        threshold = (self.defect_remains or {}).get(defect)
        if threshold is not None and score >= threshold:
            raise Rejection(
                REMAINS, score, f"the detector's score of {defect} is {score:.3g}, not below {threshold:g}"
            )


class Rejection(Exception):  # noqa: N818 (a verdict, not an error)
    """A gate keeps the original. code: of the gate; value: measured; message: for people, with the remedy."""

    def __init__(self, code: str, value: float, finding: str) -> None:
        super().__init__(code, value, finding)
        self.code, self.value = code, value
        remedy = f"; {_REMEDIES[code]}" if code in _REMEDIES else ""
        self.message = f"{finding}{remedy} ({FLAG}: {code})"


def usual_scores(detector: DetectorBundle, label_map: LabelMap) -> dict[str, float]:
    """Return the default of `defect_remains`: 0.5 for each defect whose labels the detector gave to at most
    MAX_FALSE_ALARMS of the clean images of its own test split; empty if the bundle lacks these figures.
    """
    clean = detector.config.get("scores", {}).get("images", {}).get("clean", {})
    alarms = dict(zip(detector.labels, clean.get("given", ()), strict=False))
    labels = {
        defect: [
            rule.label for rule in label_map.rules if rule.defect == defect and rule.label in detector.labels
        ]
        for defect in label_map.defects
    }
    return {
        defect: 0.5
        for defect, names in labels.items()
        if names and all(alarms.get(name, 1.0) <= MAX_FALSE_ALARMS for name in names)
    }


def read_gates(uri: str | None, defects: Iterable[str]) -> GateConfig | None:
    """Return the gates of the file at `uri`; the defaults for None, and None for OFF. defects: of the label map.

    Raises ConfigurationError.
    """
    if uri == OFF:
        return None
    if uri is None:
        return GateConfig()
    storage.check_readable(uri, FLAG)
    with storage.as_configuration_error(uri, FLAG, "read"):
        data = storage.read_bytes(uri)
    return parse_gates(data, f"{FLAG} {uri}", defects)


def parse_gates(text: str | bytes, name: str, defects: Iterable[str]) -> GateConfig:
    """Parse gates from YAML. name: of the file, for messages. Raises ConfigurationError with all complaints at once."""
    file = YamlFile(text, name).parse(_File, {"defects": tuple(defects)})
    changes = file.model_dump(exclude_unset=True, exclude={"version"})
    if "white_background" in changes:
        changes["white_background"] = changes["white_background"] or ()
    if REMAINS in changes:
        scores = changes[REMAINS] or {}
        changes[REMAINS] = {defect: score for defect, score in scores.items() if score is not None}
    return GateConfig(**changes)


def _for_all(value: Any, info: ValidationInfo) -> Any:
    """Apply a single number to all defects."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return dict.fromkeys(context_of(info, "defects"), value) if is_number else value


_Scores = dict[KnownDefect, Annotated[Number, Field(ge=0.5, le=1)] | None]


class _File(VersionedFile):
    nearly_constant: Annotated[Number, Field(ge=0, le=128)] | None = None  # levels of 8 bits
    empty_product: Share | None = None
    product_lost: Share | None = None
    product_holes: Share | None = None
    background_not_white: Share | None = None
    product_changed: Annotated[Number, Field(ge=0, le=200)] | None = None  # CIE76
    weak_outline: Share | None = None
    defect_remains: Annotated[_Scores | None, BeforeValidator(_for_all)] = None
    white_background: Annotated[tuple[KnownDefect, ...], Field(min_length=1)] | None = None
