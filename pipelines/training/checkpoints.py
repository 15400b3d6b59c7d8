"""Checkpoints of a training: committed whole, pruned only when newer ones stand."""

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

#: What torch raises, by the place of the damage, for a file that is no checkpoint.
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
    """step-N.pt files in a folder. keep: newest ones that pruning leaves."""

    def __init__(self, folder: str, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def uri(self, step: int) -> str:
        """Where the checkpoint of a step is."""
        return storage.join(self.folder, f"step-{step:08d}.pt")

    def steps(self) -> list[int]:
        """Steps of the committed checkpoints, ascending."""
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
        """The newest checkpoint that can be read, with its step, on the CPU; None where there is none at all.

        A damaged one is passed over with a warning. Raises ConfigurationError where all are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return step, self._load_step(step)
            except DAMAGED as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                logger.warning("%s is damaged (%s): going back to the one before", self.uri(step), reason)
        if steps:
            raise ConfigurationError(
                f"all {len(steps)} checkpoints in {self.folder} are damaged; --overwrite starts anew"
            )
        return None

    def _load_step(self, step: int) -> dict[str, Any]:
        """The checkpoint of one step, on the CPU. Raises one of DAMAGED where it is, and of storage.STORAGE_ERRORS."""
        content = storage.read_bytes(self.uri(step))
        _check_sums(content)
        # On the CPU: networks and optimisers copy their parts to where they compute, but for Adam's step counters. They
        # stay where they were loaded; if that were a GPU, every update would wait for each of them.
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or state.get("step") != step:
            raise ValueError(f"it does not hold the state of step {step}")
        return state

    def newest(self, until: int | None = None) -> str:
        """The last checkpoint, of a step up to `until`, for messages; with later ones, which --resume would take."""
        with contextlib.suppress(*storage.STORAGE_ERRORS):
            steps = self.steps()
            good = [step for step in steps if until is None or step <= until]
            late = [self.uri(step).rsplit("/", 1)[-1] for step in steps if step not in good]
            remedy = f" (first remove what came after it: {', '.join(late)})" if late else ""
            if good:
                return self.uri(good[-1]) + remedy
            if late:
                return f"gone from {self.folder}{remedy}; a larger --keep leaves more of them"
        return f"none yet in {self.folder}"

    def prune(self, newest: int) -> None:
        """Remove what is older than the `keep` newest up to step `newest`, which must stand; and unfinished writes."""
        steps = self.steps()
        if newest not in steps:
            return
        kept = {*steps[-self.keep :], newest}
        filesystem, folder = storage.resolve(self.folder)
        files = [storage.resolve(self.uri(step))[1] for step in steps if step not in kept]
        found = filesystem.ls(folder, detail=False)
        files += [str(name) for name in found if str(name).endswith(".part")]
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                filesystem.rm_file(file)


def _check_sums(content: bytes) -> None:
    """Raise ValueError or BadZipFile unless every part has its checksum: torch itself does not look at them."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        bad = archive.testzip()
    if bad is not None:
        raise ValueError(f"{bad} does not match its checksum")
