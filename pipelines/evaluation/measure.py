"""Runs the networks over decoded rows: every bundle's answer, features of all images, errors of exact pairs."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from model.precision import choose_device
from pipelines.contracts.splits import TEST
from pipelines.evaluation.contestants import FLAG, Contestant
from pipelines.evaluation.rows import COMPARED, Input, source, square
from pipelines.images.encode import encode_image
from pipelines.inference.edits.apply import BACKGROUNDS, apply_edits
from pipelines.inference.edits.codec import encode_edits
from pipelines.inference.generator import GeneratorPass
from pipelines.metrics.fid.inception import load_features
from pipelines.metrics.pixel_errors import l1, psnr

#: Kinds of images: an upload, a bundle's answer, a target of the test or of the training split.
UPLOAD, ANSWER, TARGET, TRAIN_TARGET = "upload", "answer", "target", "train_target"
#: Images per pass of a generator: a GPU needs many, a core works best within its cache.
_PASS = {"cuda": 32, "cpu": 2}
#: Images whose features are kept, 8 KB each: the defects of one photo share its target, and are neighbours.
_REMEMBERED = 512

#: One measured image. bundle: index on the command line, -1 for none. features: float32, null without FID weights.
#: psnr, l1: null unless the row is an exact pair. picture: PNG, null unless it is for the grid. problem: null, or why
#: the image is left out.
MEASURES = pa.schema(
    [
        ("row", pa.string()),
        ("image_id", pa.string()),
        ("defect", pa.string()),
        ("kind", pa.string()),
        ("bundle", pa.int32()),
        ("features", pa.binary()),
        ("psnr", pa.float64()),
        ("l1", pa.float64()),
        ("picture", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("problem", pa.string()),
    ]
)


class Measurer:
    """Turns tables of `rows.DECODED` into tables of MEASURES. Holds all generators and the FID network."""

    def __init__(
        self,
        contestants: Sequence[Contestant],
        inputs: Sequence[Input],
        weights: str | None,
        device: str,
        precision: str,
        cleans_backgrounds: bool = True,
        threads: int | None = None,
    ) -> None:
        """Load the networks.

        inputs: of the tables' `sources`. weights: URI of the FID network's file; None: no features. device, precision:
        as `model.precision` takes them. cleans_backgrounds: see `EvaluationConfig`. threads: for torch; None does not
        change them. Raises BundleError if a bundle has another version by now.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self._device = choose_device(device)
        self._inputs = list(inputs)
        self._contestants = list(contestants)
        self._translators = [
            Translator(one, self._device, precision, cleans_backgrounds) for one in contestants
        ]
        self._extract = None if weights is None else load_features(weights, self._device)
        self._remembered: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return one row of MEASURES for each image of the table's rows, and for each bundle's answer."""
        rows = table.to_pylist()
        measures, images = self._stored_images(rows)
        for index, contestant in enumerate(self._contestants):
            known = [row for row in rows if row["sources"] and row["defect"] in contestant.conditions]
            inputs, uploads = (
                [source(row, self._inputs, wanted) for row in known]
                for wanted in (contestant.input, COMPARED)
            )
            conditions = [contestant.conditions[row["defect"]] for row in known]
            for row, answer in zip(known, self._translators[index](inputs, uploads, conditions), strict=True):
                measures.append(self._measure(row, ANSWER, answer, index))
                if answer is not None:
                    images.append(answer)
        features = iter(self._features(images))
        for measure in measures:
            measure["features"] = next(features) if measure["problem"] is None else None
        return pa.Table.from_pylist(measures, MEASURES)

    def _stored_images(self, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
        """Return the measures of uploads and targets, and the images of those without a problem."""
        measures, images = [], []
        for row in rows:
            if row["problem"] is not None:
                kind = UPLOAD if row["split"] == TEST else TRAIN_TARGET
                measures.append(self._measure(row, kind, None) | {"problem": row["problem"]})
            if row["target"] is not None:
                images.append(square(row["target"]))
                kind = TARGET if row["split"] == TEST else TRAIN_TARGET
                measures.append(self._measure(row, kind, images[-1]))
            if row["sources"]:
                images.append(source(row, self._inputs, COMPARED))
                measures.append(self._measure(row, UPLOAD, images[-1]))
        return measures, images

    def _measure(
        self, row: dict[str, Any], kind: str, image: np.ndarray | None, bundle: int = -1
    ) -> dict[str, Any]:
        """Return a row of MEASURES without features. image: None if the bundle's answer was not finite."""
        measure = {name: row.get(name) for name in MEASURES.names}
        measure |= {"kind": kind, "bundle": bundle, "problem": None if image is not None else "not finite"}
        if image is None:
            return measure
        if row["paired"] and row["target"] is not None and kind in (UPLOAD, ANSWER):
            target = square(row["target"])
            measure |= {"psnr": psnr(image, target), "l1": l1(image, target)}
        if row["shown"]:
            measure["picture"] = encode_image(image, "png")
        return measure

    def _features(self, images: list[np.ndarray]) -> list[bytes | None]:
        """Return each image's features as float32 bytes; features of recent images are not computed again."""
        if self._extract is None:
            return [None] * len(images)
        keys = [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]
        fresh = {key: image for key, image in zip(keys, images, strict=True) if key not in self._remembered}
        known = {key: self._remembered[key] for key in keys if key not in fresh}
        known |= zip(fresh, self._extract(list(fresh.values())), strict=True)
        for key in keys:
            self._remembered[key] = known[key]
            self._remembered.move_to_end(key)
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return [known[key].astype(np.float32).tobytes() for key in keys]


class Translator:
    """Runs a bundle's generator at its own size, and applies its edits at COMPARED_SIDE, as correction does."""

    def __init__(
        self, contestant: Contestant, device: torch.device, precision: str, cleans: bool = True
    ) -> None:
        """Load the generator. cleans: see `EvaluationConfig.cleans_backgrounds`.

        Raises BundleError if the bundle has another version than the contestant.
        """
        self.edits_of = GeneratorPass(
            contestant.uri, FLAG, contestant.version, device, precision, _PASS[device.type]
        )
        known = contestant.conditions if cleans else {}
        self._background_conditions = {known[defect] for defect in BACKGROUNDS if defect in known}

    @torch.inference_mode()
    def __call__(
        self,
        images: Sequence[np.ndarray],
        uploads: Sequence[np.ndarray],
        conditions: Sequence[tuple[int, int]],
    ) -> list[np.ndarray | None]:
        """Return the answers under (group id, type id), uint8 of the uploads' size; None for one that is not finite.

        images, uploads: the same photos as uint8, in the bundle's form and in that of COMPARED.
        """
        answers: list[np.ndarray | None] = []
        for start in range(0, len(images), self.edits_of.size):
            part = slice(start, start + self.edits_of.size)
            edits, finite = self.edits_of(images[part], conditions[part])
            answers += [
                apply_edits(upload, encode_edits(edit), [ids in self._background_conditions]).image
                if usable
                else None
                for upload, edit, usable, ids in zip(
                    uploads[part], edits, finite, conditions[part], strict=True
                )
            ]
        return answers
