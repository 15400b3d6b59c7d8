"""The pass after correction: features of the sampled images, on the same cluster; then FID and KID per defect."""

import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
import torch

from pipelines import storage
from pipelines.cluster.placement import Placement, tables
from pipelines.cluster.progress import Progress
from pipelines.correction.inspect.survey import CANARY, CURRENT, defect_of
from pipelines.correction.measure.fid_images import AFTER, BATCH, BEFORE, REFERENCE, SOURCE, read_source
from pipelines.images.decode import ImageError, decode_image
from pipelines.metrics.fid.inception import FEATURE_DIMENSION, describe, load_features
from pipelines.metrics.fid.statistics import FeatureSet, Moments
from pipelines.metrics.fid.summary import fid_csv, fid_row, fid_summary
from pipelines.metrics.fid.weights import read_weights
from pipelines.metrics.reference import EVERY_DEFECT, Reference

#: Reading tasks, if there are that many parts.
_TASKS = 64

#: features: float32 (FEATURE_DIMENSION,), little-endian; null for an image that cannot be decoded.
_FEATURES = pa.schema([("set", pa.string()), ("image_id", pa.string()), ("features", pa.binary())])


@dataclass(frozen=True)
class FidSettings:
    """Settings of the pass."""

    samples: str  # folder of SAMPLE parts
    routes: tuple[str, ...]  # with a defect; those that occur in the catalog
    reference: Reference
    weights: str  # URI
    images: int  # about as many as there will be, for the progress line
    notes: Mapping[str, str] = field(default_factory=dict)  # by route: the beginning of its `note`


def compute_fid(settings: FidSettings, placement: Placement) -> dict[str, Any]:
    """Return the content of fid.json. The driver keeps 8 KB per image; --fid-samples bounds their number."""
    sets, left_out = _collect(settings, placement)
    features = describe(read_weights(settings.weights)) | {"reference": settings.reference.description}
    rows = {}
    for route in settings.routes:
        defect = defect_of(route)
        reference = _reference(settings.reference, sets, defect)
        empty = FeatureSet(FEATURE_DIMENSION)
        uploads = defect + CANARY if route.endswith(CURRENT) else route  # both bundles' are the same
        before, after = sets.get(BEFORE + uploads, empty), sets.get(AFTER + route, empty)
        caveats = [settings.notes[uploads]] if uploads in settings.notes else []
        caveats += ["reference: the catalog's own clean images"] if settings.reference.is_catalog else []
        undecodable = left_out[REFERENCE + defect] + left_out[REFERENCE + EVERY_DEFECT]
        if undecodable:
            caveats.append(f"{undecodable} reference images cannot be decoded and are left out")
        rows[route] = fid_row(before, after, reference, caveats)
    return _by_bundle(rows, features)


def _by_bundle(rows: Mapping[str, Mapping[str, Any]], features: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of fid.json from rows by route. With a canary it has a key `canary`: by defect, the rows of
    the canary and of the current bundle, on the images that both would publish.
    """
    summary = fid_summary(rows, features)
    defects = summary["defects"]
    for route in [route for route in defects if defect_of(route) != route]:
        bundle = "canary" if route.endswith(CANARY) else "current"
        summary.setdefault("canary", {}).setdefault(defect_of(route), {})[bundle] = defects.pop(route)
    return summary


def write_fid(output: str, summary: dict[str, Any]) -> None:
    """Write report/fid.json and report/fid.csv."""
    text = json.dumps(summary, indent=2, sort_keys=True) + "\n"
    storage.write_bytes(storage.join(output, "report", "fid.json"), text.encode())
    storage.write_bytes(storage.join(output, "report", "fid.csv"), fid_csv(summary).encode())


class FeatureActor:
    """Features of encoded images. Runs in an actor that holds the FID network."""

    def __init__(self, weights: str, device: str) -> None:
        """Load the network from the weights' URI onto `device` ('cpu' or 'cuda')."""
        if device == "cpu":
            torch.set_num_threads(1)  # actors share the cores
        self._extract = load_features(weights, device)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Turn a table of IMAGES into _FEATURES, row by row."""
        # At full size, not shrunk while decoding, so that all sets are resized in the same single step.
        pixels = [_decoded(image) for image in table.column("image").to_pylist()]
        features = iter(self._extract([image for image in pixels if image is not None]))
        column = [None if image is None else next(features).tobytes() for image in pixels]
        return pa.table(
            [table.column("set"), table.column("image_id"), pa.array(column, pa.binary())], schema=_FEATURES
        )


def _decoded(image: bytes) -> np.ndarray | None:
    """Return None if it is no image. Only references can be broken: samples are our own files."""
    try:
        return decode_image(image)
    except ImageError:
        return None


def _collect(settings: FidSettings, placement: Placement) -> tuple[dict[str, FeatureSet], Counter[str]]:
    """Return the features of every set, and how many of its images could not be decoded."""
    parts = storage.list_files(settings.samples, ".parquet")
    rows: list[dict[str, str]] = [{"sample_part": part} for part in parts]
    rows += [{"reference_unit": json.dumps(vars(unit))} for unit in settings.reference.units]
    sets: dict[str, FeatureSet] = {}
    left_out: Counter[str] = Counter()
    if not rows:
        return sets, left_out
    # A part may hold a single image, and a task costs tens of milliseconds: give a task several, if there are many.
    step = -(-len(rows) // max(_TASKS, 4 * placement.expected_actors))
    chunks = [rows[start : start + step] for start in range(0, len(rows), step)]
    source = ray.data.from_arrow([pa.Table.from_pylist(chunk, SOURCE) for chunk in chunks])
    images = placement.read(source, read_source, {"reference": settings.reference})
    features = placement.actors(
        images, FeatureActor, {"weights": settings.weights, "device": placement.device}, BATCH
    )
    with Progress("measuring", settings.images, sys.stderr) as progress:
        for table in tables(features):
            known = table.filter(table.column("features").is_valid())
            left_out.update(table.filter(table.column("features").is_null()).column("set").to_pylist())
            _add(known, sets)
            progress.update(table.num_rows, table.num_rows - known.num_rows)
    return sets, left_out


def _add(table: pa.Table, sets: dict[str, FeatureSet]) -> None:
    """Add rows of _FEATURES, none of them null, to their sets."""
    names = np.array(table.column("set").to_pylist())
    for name in np.unique(names):
        chosen = table.filter(pa.array(names == name))
        vectors = np.frombuffer(b"".join(chosen.column("features").to_pylist()), np.float32)
        statistics = sets.setdefault(str(name), FeatureSet(FEATURE_DIMENSION))
        statistics.add(vectors.reshape(-1, FEATURE_DIMENSION), chosen.column("image_id").to_pylist())


def _reference(reference: Reference, sets: dict[str, FeatureSet], defect: str) -> FeatureSet | Moments | None:
    """Return the defect's own reference images together with those that serve every defect."""
    if reference.moments:
        return reference.moments.get(defect)
    references = [sets[name] for name in (REFERENCE + EVERY_DEFECT, REFERENCE + defect) if name in sets]
    if not references:
        return None
    merged = FeatureSet(FEATURE_DIMENSION)
    for statistics in references:
        merged.merge(statistics)
    return merged
