"""The generator over blocks of decoded rows: each image's defects, one after the other, at the model's
resolution.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from model.errors import BundleError
from model.precision import autocast, choose_device, choose_precision, memory_format
from pipelines.bundles import read_bundle
from pipelines.correction.edit_codec import encode_edits
from pipelines.correction.full_size import apply_edits
from pipelines.correction.rows import EDITED, EDITS
from pipelines.pixels import to_tensor

logger = logging.getLogger(__name__)

#: Error code of a row whose edit holds NaN or infinity: a generator that diverged, or an overflow in
#: bfloat16.
NOT_FINITE = "not_finite"


class Corrector:
    """Adds `edits` to decoded rows. Runs in an actor that holds one generator.

    Every pass takes exactly `batch_size` images, the last one filled up with repetitions: convolutions choose
    their algorithm by the batch's size, so an image's bytes would otherwise depend on its neighbours.
    """

    def __init__(
        self,
        model: str | None,
        version: str,
        conditions: Mapping[str, tuple[int, int]],
        device: str,
        precision: str,
        batch_size: int,
    ) -> None:
        """Load the generator.

        model: URI of the bundle, None for the starter. version: what the bundle must be. conditions: defect
        to (group id, type id). device, precision: as `model.precision` takes them. Raises BundleError where
        the bundle is not of that version any more, ConfigurationError for an absent GPU.
        """
        self._conditions = dict(conditions)
        self._batch_size = batch_size
        self._device = choose_device(device)
        if self._device.type == "cpu":
            torch.set_num_threads(1)  # actors share the cores between them
        bundle = read_bundle(model)
        if bundle.version != version:
            raise BundleError(
                f"--model {model}: the bundle changed after the run began (version {bundle.version[:12]}, "
                f"expected {version[:12]}); write new bundles to new folders"
            )
        chosen = choose_precision(precision, self._device)
        self._layout = memory_format(chosen)
        self._generator = bundle.generator.to(self._device).to(memory_format=self._layout)
        self._side: int = bundle.config["image_size"]
        self._autocast = autocast(self._device, chosen)

    def __call__(self, table: pa.Table) -> pa.Table:
        """DECODED rows to EDITED rows, in the same order; failed rows and rows without defects pass
        through.
        """
        started = time.perf_counter()
        defects: list[list[str]] = table.column("defects").to_pylist()
        inputs = [value.as_buffer() for value in table.column("model_input")]  # None for a null
        edits, broken = self._edit(defects, inputs)
        passes = sum(len(row) for row in edits)
        seconds = (time.perf_counter() - started) / max(passes, 1)
        columns = {name: table.column(name) for name in EDITED.names if name in table.column_names}
        if broken:
            columns |= _failures(table, broken)
        columns["edits"] = pa.array([row or None for row in edits], EDITS)
        columns["generator_seconds"] = pa.array([seconds * len(row) for row in edits], pa.float32())
        return pa.table({field.name: columns[field.name] for field in EDITED}, schema=EDITED)

    def _edit(
        self, defects: list[list[str]], inputs: list[pa.Buffer | None]
    ) -> tuple[list[list[dict[str, bytes]]], dict[int, str]]:
        """Each row's edits, and the rows whose generator output was not finite with the defect it happened
        at.
        """
        edits: list[list[dict[str, bytes]]] = [[] for _ in inputs]
        broken: dict[int, str] = {}
        waiting = deque(
            _Task(row, defects[row][0], np.frombuffer(value, np.uint8).reshape(self._side, self._side, 3))
            for row, value in enumerate(inputs)
            if value is not None
        )
        while waiting:
            batch = [waiting.popleft() for _ in range(min(self._batch_size, len(waiting)))]
            for task, edit in zip(batch, self._forward(batch), strict=True):
                row = task.row
                if edit is None:
                    broken[row], edits[row] = task.defect, []
                    continue
                edits[row].append(edit)
                done = len(edits[row])
                if done < len(defects[row]):  # the next pass sees the image as this one leaves it
                    waiting.append(_Task(row, defects[row][done], apply_edits(task.image, [edit])))
        return edits, broken

    @torch.inference_mode()
    def _forward(self, batch: "list[_Task]") -> Iterator[dict[str, bytes] | None]:
        """One pass; None for an image whose edit is not finite."""
        full = batch + [batch[-1]] * (self._batch_size - len(batch))
        x = to_tensor(np.stack([task.image for task in full]), self._device)
        x = x.contiguous(memory_format=self._layout)
        ids = torch.tensor([self._conditions[task.defect] for task in full], device=self._device)
        with self._autocast():
            edit = self._generator.edit(x, ids[:, 0], ids[:, 1])
        finite = torch.stack([part.flatten(1).isfinite().all(dim=1) for part in edit]).all(dim=0).tolist()
        # float to uint8 of NaN is undefined, but those values are not used
        for value, usable, _ in zip(encode_edits(edit), finite, batch, strict=False):
            yield value if usable else None


class _Task(NamedTuple):
    """An image (uint8 (S,S,3)) on its way through the generator for one defect."""

    row: int
    defect: str
    image: np.ndarray


def _failures(table: pa.Table, broken: Mapping[int, str]) -> dict[str, Any]:
    """Error columns and `upload` with the rows of `broken` failed."""
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
