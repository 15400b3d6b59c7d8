"""Saves and loads a training's checkpoints: committed whole, pruned only once newer ones exist."""

import contextlib
import io
import logging
import pickle
import struct
import uuid
import zipfile
from typing import Any

import torch

from model.errors import ConfigurationError
from pipelines import storage

logger = logging.getLogger("train")

#: Exceptions that torch raises for a damaged checkpoint. Which one depends on what part of the file is damaged.
DAMAGED = (
    RuntimeError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    EOFError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)


class Checkpoints:
    """Manage the files step-N.pt in a folder. keep: how many of the newest to keep when pruning."""

    def __init__(self, folder: str, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def uri(self, step: int) -> str:
        """Return the URI of a step's checkpoint."""
        return storage.join(self.folder, f"step-{step:08d}.pt")

    def steps(self) -> list[int]:
        """Return the steps of the committed checkpoints, ascending."""
        names = (uri.rsplit("/", 1)[-1] for uri in storage.list_files(self.folder, ".pt"))
        return sorted(
            int(name[5:-3]) for name in names if name.startswith("step-") and name[5:-3].isdecimal()
        )

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write under a temporary name, commit by renaming, then prune. Raises one of storage.STORAGE_ERRORS."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        temporary = storage.join(self.folder, f".step-{step:08d}-{uuid.uuid4().hex}.part")
        storage.write_bytes(temporary, buffer.getvalue())
        filesystem, source = storage.resolve(temporary)
        filesystem.mv(source, storage.resolve(self.uri(step))[1])
        self.prune(newest=step)

    def load(self) -> tuple[int, dict[str, Any]] | None:
        """Return the newest readable checkpoint, on the CPU, with its step; None if there are no checkpoints.

        Damaged ones are skipped with a warning. Raises ConfigurationError if all are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return step, self._load_step(step)
            except DAMAGED as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                logger.warning("%s is damaged (%s): trying the one before it", self.uri(step), reason)
        if steps:
            raise ConfigurationError(
                f"all {len(steps)} checkpoints in {self.folder} are damaged; use --overwrite to start over"
            )
        return None

    def _load_step(self, step: int) -> dict[str, Any]:
        """Return a step's checkpoint, on the CPU. Raises one of DAMAGED if it is damaged, or storage.STORAGE_ERRORS."""
        content = storage.read_bytes(self.uri(step))
        _check_sums(content)
        # Load on the CPU: networks and optimisers copy their tensors to their own device, except Adam's step counters,
        # which stay where they were loaded. On a GPU, every update would have to wait for each of them.
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or state.get("step") != step:
            raise ValueError(f"it does not hold the state of step {step}")
        return state

    def newest(self, until: int | None = None) -> str:
        """Describe the last checkpoint up to step `until`, for messages, and later ones to remove before --resume."""
        with contextlib.suppress(*storage.STORAGE_ERRORS):
            steps = self.steps()
            good = [step for step in steps if until is None or step <= until]
            late = [self.uri(step).rsplit("/", 1)[-1] for step in steps if step not in good]
            remedy = f" (first remove the later ones: {', '.join(late)})" if late else ""
            if good:
                return self.uri(good[-1]) + remedy
            if late:
                return f"gone from {self.folder}{remedy}; a larger --keep keeps more of them"
        return f"none yet in {self.folder}"

    def prune(self, newest: int) -> None:
        """Remove unfinished writes, and all checkpoints but the `keep` newest, provided that step `newest` exists."""
        steps = self.steps()
        if newest not in steps:
            return
        kept = {*steps[-self.keep :], newest}
        filesystem, folder = storage.resolve(self.folder)
        files = [storage.resolve(self.uri(step))[1] for step in steps if step not in kept]
        names = filesystem.ls(folder, detail=False)
        files += [str(name) for name in names if str(name).endswith(".part")]
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                filesystem.rm_file(file)


def _check_sums(content: bytes) -> None:
    """Raise ValueError or BadZipFile unless every part matches its checksum, which torch itself does not verify."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        bad = archive.testzip()
    if bad is not None:
        raise ValueError(f"{bad} does not match its checksum")
