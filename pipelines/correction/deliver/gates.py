"""Gates between a correction and its publication: what is measured, from which figure on the original is kept, and why.

    version: 1                                          # the file of --gates; a key that is missing keeps its default,
    nearly_constant: 2.0                                # and ~ switches the gate off
    empty_product: 0.002
    product_lost: 0.25
    product_holes: 0.06
    background_not_white: 0.02
    product_changed: 5.0
    weak_outline: 0.1
    defect_remains: {wrong_angle: 0.9, non_white_background: 0.5}
    white_background: [non_white_background]            # defects after whose correction the background must be white

A gate's key is the `error_code` of the rows that it rejects.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo

from model.detector.network import DetectorBundle
from pipelines.contracts.label_map import KnownDefect, LabelMap
from pipelines.contracts.yaml_reader import Number, Share, VersionedFile, YamlFile, context_of
from pipelines.inference.edits.apply import BACKGROUNDS
from pipelines.storage import objects as storage

FLAG = "--gates"
OFF = "off"

NEARLY_CONSTANT, EMPTY_PRODUCT = "nearly_constant", "empty_product"
LOST, HOLES, WEAK_OUTLINE = "product_lost", "product_holes", "weak_outline"
NOT_WHITE, CHANGED, REMAINS = "background_not_white", "product_changed", "defect_remains"

#: A label that a detector gives to a larger share of clean images says little of a corrected one.
MAX_FALSE_ALARMS = 0.05

#: What may be the reason, and what to do.
_REMEDIES = {
    LOST: "a close-up, a product like its ground, or an image that was on white and needed no correction: check the "
    "label, take another photo, or correct it by hand",
    HOLES: "parts of it are like the ground: take another photo on another ground, or correct it by hand",
    WEAK_OUTLINE: "a close-up, a product like its ground, or ground that was left: take another photo that shows the "
    "whole product on another ground, or correct it by hand",
}


@dataclass(frozen=True)
class GateConfig:
    """Thresholds; None switches a gate off. Chosen by looking at half of 290 corrections of real photos by the starter
    bundle, and judged on the other half (docs/performance.md).
    """

    #: Standard deviation of all values, 0 to 127: at or below, the correction is one colour. Photos have 20 and more.
    nearly_constant: float | None = 2.0
    #: Share of the corrected image that is not white: at or below, there is no product left. Raise it where products
    #: are never small.
    empty_product: float | None = 0.002
    #: Share of the product, as classical saliency finds it in the upload, that is white after a correction of the
    #: background: above, the product is lost. Four tenths of the threshold count where the upload was on white already,
    #: 2.4 times it where what was kept divides the photo's colours as well as the saliency does, and nothing is asked
    #: where the saliency has failed (`erased.Erased.allowance`). Lower it for a strict catalog, raise it where rejected
    #: images (the report shows some) are right. Finding the product takes 30 ms of a core per image, for all gates.
    product_lost: float | None = 0.25
    #: Share of the product that is white and enclosed by what was kept: above, holes are torn into it. Raise it where
    #: products have gaps through which the ground shows, and the saliency does not see them.
    product_holes: float | None = 0.06
    #: Share of a corner or of the border that is below 250 in the encoded file: above, the background is not white.
    #: Where all gates that look for the product are off, a product that the photo cuts counts as background here.
    background_not_white: float | None = 0.02
    #: Mean CIE76 difference inside the product: above, the correction has changed the goods. Lower it where colours
    #: sell, raise it where watermarks are large.
    product_changed: float | None = 5.0
    #: Share of the outline of what was kept at which the upload shows no edge, though the correction has erased what
    #: lies beyond: above, a product is cut, as in a close-up, or ground is left. Raise it where products have the
    #: colour of their ground.
    weak_outline: float | None = 0.1
    #: Score (0.5 to 1; 0.5 is the detector's own threshold) by defect from which on it counts as still there; defects
    #: that are absent are not asked about. None: see `usual_scores`. Name others where looking shows that they pay.
    defect_remains: Mapping[str, float] | None = None
    #: Defects after whose correction the background must be white; those that the label map does not know are ignored.
    white_background: tuple[str, ...] = BACKGROUNDS

    def looks_for_product(self, background: bool) -> bool:
        """Whether a gate is on that needs the product's place in the upload; background: whether that was corrected."""
        return self.product_changed is not None or (background and self.looks_for_losses)

    @property
    def looks_for_losses(self) -> bool:
        """Whether a gate is on that needs `erased.Erased`."""
        return any(limit is not None for limit in (self.product_lost, self.product_holes, self.weak_outline))

    def judge(self, code: str, value: float, what: str, allowance: float = 1.0) -> None:
        """Raise Rejection where `value` is beyond the threshold of gate `code`, times `allowance`; `what` says what was
        measured.
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
        """Raise Rejection where a detector still gives `defect` such a score."""
        threshold = (self.defect_remains or {}).get(defect)
        if threshold is not None and score >= threshold:
            raise Rejection(
                REMAINS, score, f"the detector's score of {defect} is {score:.3g}, not below {threshold:g}"
            )


class Rejection(Exception):  # noqa: N818 (a verdict, not an error)
    """A gate keeps the original. code: the gate's; value: what it measured; message: for people, with the remedy."""

    def __init__(self, code: str, value: float, found: str) -> None:
        super().__init__(code, value, found)
        self.code, self.value = code, value
        remedy = f"; {_REMEDIES[code]}" if code in _REMEDIES else ""
        self.message = f"{found}{remedy} ({FLAG}: {code})"


def usual_scores(detector: DetectorBundle, label_map: LabelMap) -> dict[str, float]:
    """`defect_remains` where nobody has set it: 0.5 for each defect whose labels the detector gave to at most
    MAX_FALSE_ALARMS of the clean images of its own test split; a bundle without these figures is asked about none.
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
    """The gates of the file at `uri`; the defaults for None, and None for OFF. defects: what the label map knows.

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
    """Gates from YAML; `name` is how messages call it. Raises ConfigurationError with every complaint at once."""
    file = YamlFile(text, name).parse(_File, {"defects": tuple(defects)})
    changes = file.model_dump(exclude_unset=True, exclude={"version"})
    if "white_background" in changes:
        changes["white_background"] = changes["white_background"] or ()
    if REMAINS in changes:
        scores = changes[REMAINS] or {}
        changes[REMAINS] = {defect: score for defect, score in scores.items() if score is not None}
    return GateConfig(**changes)


def _for_all(value: Any, info: ValidationInfo) -> Any:
    """One number is for all defects."""
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
