"""Runs the generator over blocks of decoded rows: each image's defects, one after the other, at the model's resolution.

Sellers list one photo under several ids, mostly in neighbouring rows: these share one pass of the generator. Images are
compared by the hash of the bytes that were read, not by the catalog's hash.
"""

import logging
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from model.precision import choose_device
from pipelines.cluster import metrics
from pipelines.correction.models import Models
from pipelines.correction.rows import EDITED, EDITS
from pipelines.images.fit import fitted_size
from pipelines.inference.edits.apply import apply_edits
from pipelines.inference.edits.codec import encode_edits
from pipelines.inference.generator import GeneratorPass

logger = logging.getLogger(__name__)

#: Error code of a row whose edit holds NaN or infinity: the generator diverged, or bfloat16 overflowed.
NOT_FINITE = "not_finite"
#: The edits of one image, encoded, in the order of its defects.
Edits = list[dict[str, bytes]]


class Corrector:
    """Adds edits to decoded rows. Runs in an actor that holds the generator, and the canary's if there is one."""

    def __init__(
        self,
        models: Models,
        conditions: Mapping[str, tuple[int, int]],
        device: str,
        precision: str,
        batch_size: int,
        background_defects: Collection[str] = (),
    ) -> None:
        """Load the generator, and the canary's if there is one.

        conditions: (group id, type id) of each defect. device, precision: as `model.precision` takes them.
        background_defects: defects whose matte is the background (`DeliverySettings.background_defects`). Raises
        BundleError if a bundle has another version by now, ConfigurationError if there is no GPU.
        """
        chosen = choose_device(device)
        if chosen.type == "cpu":
            torch.set_num_threads(1)  # actors share the cores
        self._models = models
        self._editors = {
            model: Editor(
                GeneratorPass(model.uri, model.flag, model.version, chosen, precision, batch_size),
                conditions,
                background_defects,
            )
            for model in models
        }
        self._free_since = time.perf_counter()
        for state in ("busy", "idle"):
            metrics.start("generator_seconds", state=state)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Turn DECODED rows into EDITED rows, in the same order; failed rows and rows without defects pass through.

        An image that several rows share, with the same defects, goes through a generator once.
        """
        started = time.perf_counter()
        metrics.count("generator_seconds", started - self._free_since, state="idle")
        edited = self._correct(table)
        self._free_since = time.perf_counter()
        metrics.count("generator_seconds", self._free_since - started, state="busy")
        return edited

    def _correct(self, table: pa.Table) -> pa.Table:
        started = time.perf_counter()
        own, of_current = (
            [value.as_buffer() for value in table.column(name)]  # None for a null
            for name in ("model_input", "current_input")
        )
        models = [self._models.of(image_id) for image_id in table.column("image_id").to_pylist()]
        edits: list[Edits] = [[] for _ in own]
        beside: list[Edits] = [[] for _ in own]
        broken: dict[int, str] = {}
        passes = np.zeros(len(own), int)
        for model, editor in self._editors.items():
            other = of_current if model is self._models.current else [None] * len(own)
            inputs = [
                mine if of is model else theirs for mine, theirs, of in zip(own, other, models, strict=True)
            ]
            made, failed, needed = editor(table, inputs)
            passes += needed
            for row, of in enumerate(models):
                if made[row]:
                    (edits if of is model else beside)[row] = made[row]
                elif row in failed and of is model:
                    broken[row] = failed[row]
        seconds = (time.perf_counter() - started) / max(passes.sum(), 1)
        columns = {name: table.column(name) for name in EDITED.names if name in table.column_names}
        if broken:
            columns |= _failures(table, broken)
        columns["edits"] = pa.array([row or None for row in edits], EDITS)
        columns["current_edits"] = pa.array([row or None for row in beside], EDITS)
        columns["generator_seconds"] = pa.array(seconds * passes, pa.float32())
        return pa.table({field.name: columns[field.name] for field in EDITED}, schema=EDITED)


class Editor:
    """Makes the edits of images with one generator: of all their defects, one after the other."""

    def __init__(
        self,
        edits_of: GeneratorPass,
        conditions: Mapping[str, tuple[int, int]],
        background_defects: Collection[str],
    ) -> None:
        """conditions, background_defects: see `Corrector`."""
        self.edits_of = edits_of
        self._conditions, self._background_defects = dict(conditions), frozenset(background_defects)

    def __call__(
        self, table: pa.Table, inputs: "list[pa.Buffer | None]"
    ) -> "tuple[list[Edits], dict[int, str], NDArray[np.int64]]":
        """Return each row's edits, one for each of its defects; for each row whose generator output was not finite, the
        defect at which; and how many passes of the generator each row took.

        table: DECODED rows. inputs: the model input of the rows to edit; None for all others.
        """
        defects: list[list[str]] = table.column("defects").to_pylist()
        same = _equal_rows(table.column("input_sha256").to_pylist(), defects, inputs)
        own = [None if row in same else value for row, value in enumerate(inputs)]
        edits, broken = self._edit(defects, own, self._sizes(table))
        passes = np.array([len(row) for row in edits], int)
        for row, first in same.items():
            edits[row] = edits[first]
            broken |= {row: broken[first]} if first in broken else {}
        return edits, broken, passes

    def _sizes(self, table: pa.Table) -> list[tuple[int, int]]:
        """Return (width, height) of each row's model input; (0, 0) if it has none."""
        widths, heights = (table.column(name).to_pylist() for name in ("width", "height"))
        side, fit = self.edits_of.side, self.edits_of.fit
        return [
            fitted_size(width, height, side, fit) if width and height else (0, 0)
            for width, height in zip(widths, heights, strict=True)
        ]

    def _edit(
        self, defects: list[list[str]], inputs: list[pa.Buffer | None], sizes: list[tuple[int, int]]
    ) -> tuple[list[Edits], dict[int, str]]:
        """Return each row's edits; and for each row whose generator output was not finite, the defect at which."""
        edits: list[Edits] = [[] for _ in inputs]
        broken: dict[int, str] = {}
        waiting = deque(
            _Task(
                row,
                defects[row][0],
                np.frombuffer(value, np.uint8).reshape(size[1], size[0], 3),
            )
            for row, (value, size) in enumerate(zip(inputs, sizes, strict=True))
            if value is not None
        )
        while waiting:
            batch = [waiting.popleft() for _ in range(min(self.edits_of.size, len(waiting)))]
            for task, edit in zip(batch, self._forward(batch), strict=True):
                row = task.row
                if edit is None:
                    broken[row], edits[row] = task.defect, []
                    continue
                edits[row].append(edit)
                done = len(edits[row])
                if done < len(defects[row]):  # the next pass gets the image as this one leaves it
                    left = apply_edits(task.image, [edit], [task.defect in self._background_defects]).image
                    waiting.append(_Task(row, defects[row][done], left))
        return edits, broken

    def _forward(self, batch: "list[_Task]") -> list[dict[str, bytes] | None]:
        """Run one pass; None for an image whose edit is not finite."""
        images, conditions = [task.image for task in batch], [self._conditions[task.defect] for task in batch]
        edits, finite = self.edits_of(images, conditions)
        return [encode_edits(edit)[0] if usable else None for edit, usable in zip(edits, finite, strict=True)]


class _Task(NamedTuple):
    """An image (uint8 (h,w,3), as `fit_inside` made it) on its way through the generator for one defect."""

    row: int
    defect: str
    image: np.ndarray


def _equal_rows(
    hashes: Sequence[str | None], defects: Sequence[Sequence[str]], inputs: Sequence[pa.Buffer | None]
) -> dict[int, int]:
    """Return the rows that have the same bytes and defects as an earlier row of the table: row -> earlier row.

    Only rows with an input count: other rows are done, or have failed.
    """
    firsts: dict[tuple[str, ...], int] = {}
    same: dict[int, int] = {}
    for row, (sha256, names, value) in enumerate(zip(hashes, defects, inputs, strict=True)):
        if value is not None and sha256 is not None:
            first = firsts.setdefault((sha256, *names), row)
            same |= {} if first == row else {row: first}
    return same


def _failures(table: pa.Table, broken: Mapping[int, str]) -> dict[str, Any]:
    """Return the error columns and `upload`, with the rows of `broken` marked as failed."""
    codes, messages, uploads = (
        table.column(name).to_pylist() for name in ("error_code", "error_message", "upload")
    )
    for row, defect in broken.items():
        codes[row] = NOT_FINITE
        messages[row] = f"the generator's answer for {defect!r} holds NaN or infinity; check the bundle"
        uploads[row] = None
    return {
        "error_code": pa.array(codes, pa.string()),
        "error_message": pa.array(messages, pa.string()),
        "upload": pa.array(uploads, pa.binary()),
    }
