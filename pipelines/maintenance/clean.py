"""Removes kept manifests of long ago, and the images that no manifest names any more."""

from collections.abc import Callable
from dataclasses import dataclass

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.maintenance.run import Maintenance, Output, begin, image_keys, named_images
from pipelines.published.object_names import IMAGES, is_image
from pipelines.published.records import read_kept
from pipelines.storage.lock import Lock
from pipelines.storage.pages import pages, remove_files


@dataclass
class Clean:
    """What is to go, or has gone. kept, removed: names of runs. Sizes: bytes."""

    kept: list[str]
    removed: list[str]
    manifest_bytes: int = 0
    images: int = 0
    image_bytes: int = 0
    left: int = 0  # images that stay

    def describe(self) -> list[str]:
        """Return lines for people."""
        return [
            f"manifests  {len(self.removed)} of earlier runs, {self.manifest_bytes} bytes; {len(self.kept)} stay",
            f"images     {self.images} that no manifest names, {self.image_bytes} bytes; {self.left} stay",
        ]


def plan_clean(output: str, keep_runs: int) -> Clean:
    """Count what a clean-up would remove, and write nothing. keep_runs: number of manifests that stay.

    Raises ConfigurationError.
    """
    return _clean(Output.look(output), keep_runs, None)


def clean(output: str, keep_runs: int, lock: Lock) -> Clean:
    """Remove all but the last `keep_runs` manifests, and then the images that no manifest names. Returns what went.

    Whatever ends it, the next call goes on. Raises RunError if the lock is lost, ConfigurationError, and one of
    STORAGE_ERRORS.
    """
    begin(output, lock)
    done = _clean(Output.look(output), keep_runs, lock.confirm)
    does = {"verb": "clean", "keep_runs": keep_runs, "manifests": done.removed, "images": done.images}
    Maintenance(output, lock, does).note()
    return done


def _replaced(there: Output, count: int) -> list[str]:
    """Return up to `count` runs: that of the current manifest, that of the one that it replaced, and so on.

    After a rollback these are not the last ones by name, and `rollback` returns to them. Manifests of earlier releases
    do not say what they replaced.
    """
    chain: list[str] = []
    name = there.current
    while name in there.kept and name not in chain and len(chain) < count:
        chain.append(name)
        name = read_kept(there.folder, name).get("previous_manifest_run")
    return chain


def _clean(there: Output, keep_runs: int, confirm: Callable[[], None] | None) -> Clean:
    """Count what goes. confirm: `Lock.confirm`, if it is to be removed, too."""
    if keep_runs < 1:
        raise ConfigurationError(f"--keep-runs {keep_runs}: at least 1")
    staying = {there.current, *[*there.kept][-keep_runs:], *_replaced(there, keep_runs)}
    kept = [name for name in there.kept if name in staying]
    result = Clean(kept, [name for name in there.kept if name not in kept])
    # Also what a killed run had finished: the next run publishes it.
    named = named_images([there.manifest, there.unfinished, *(there.kept[name] for name in kept)])
    # The manifests first: those that stay name only images that stay.
    for name in result.removed:
        if confirm is not None:
            confirm()
            # Before the parts: without them, no next call would find it.
            storage.remove(there.folder.kept_record(name))
        for page in pages(there.folder.kept(name)):
            result.manifest_bytes += sum(file.size for file in page)
            if confirm is not None:
                confirm()
                remove_files(file.uri for file in page)
        if confirm is not None:
            storage.remove(there.folder.kept(name))  # an empty folder
    images = storage.join(there.folder.output, IMAGES)
    for page in pages(images):
        is_named = named.has(image_keys(file.uri for file in page))
        unnamed = [
            file
            for file, stays in zip(page, is_named, strict=True)
            if not stays and is_image(file.uri[len(images) + 1 :])  # else it is somebody else's
        ]
        result.images += len(unnamed)
        result.image_bytes += sum(file.size for file in unnamed)
        result.left += len(page) - len(unnamed)
        if confirm is not None and unnamed:
            confirm()
            remove_files(file.uri for file in unnamed)
    return result
