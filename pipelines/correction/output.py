"""Checks the output folder of a correction run, and removes what runs own in it."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.correction.detected import LABELS_FOLDER
from pipelines.published.layout import (
    CATALOG_FOLDER,
    CHANGES_FOLDER,
    JOURNAL,
    MANIFEST,
    MANIFESTS_FOLDER,
    REPORT,
    RUN,
    RUN_FOLDER,
    SUCCESS,
)
from pipelines.published.object_names import IMAGES
from pipelines.storage import outputs

#: Names that runs write and --overwrite removes; nothing else in the folder is touched.
OWNED = (
    *(SUCCESS, RUN, MANIFEST, MANIFESTS_FOLDER, CHANGES_FOLDER, IMAGES, REPORT),
    *(LABELS_FOLDER, RUN_FOLDER, CATALOG_FOLDER),
)
#: Those of them that prove a run, complete or killed: people have folders called `images` and `manifest`, too.
_MARKS = {SUCCESS, RUN, RUN_FOLDER, CATALOG_FOLDER}
_FLAG = "--output"


def check_output(
    output: str,
    catalogs: tuple[str, ...],
    others: Mapping[str, Sequence[str]] = MappingProxyType({}),
    overwrite: bool = False,
) -> None:
    """Raise ConfigurationError if `output` is a file or lies in a catalog, if an input lies where runs write, or if the
    run would replace, or with `overwrite` remove, files that no run wrote.

    others: further inputs by their flag. Writes nothing.
    """
    for catalog in catalogs:
        if outputs.lies_in(output, [catalog]) or _is_matched(output, catalog):
            raise ConfigurationError(
                f"{_FLAG} {output}: lies inside --catalog {catalog}, so that the next run would read the manifest as "
                "part of the catalog; choose a folder outside"
            )
    for flag, uris in {"--catalog": catalogs, **others}.items():
        inside = outputs.first_inside(uris, output, OWNED)
        if inside is not None:
            raise ConfigurationError(
                f"{_FLAG} {output}: the run writes (and with --overwrite first removes) {', '.join(OWNED)} in there, "
                f"but {flag} {inside} lies in one of them; choose another folder"
            )
    existing = outputs.present(output, OWNED)
    if set(existing) & _MARKS:
        return
    if overwrite and existing:
        raise ConfigurationError(
            f"--overwrite would remove {', '.join(existing)} in {output}, but nothing there says that a run wrote it; "
            "choose another --output, or, if a run with --overwrite was killed, leave the flag out"
        )
    if MANIFEST in existing:  # which a run replaces even without --overwrite
        raise ConfigurationError(
            f"{_FLAG} {output}: it would replace {MANIFEST} in there, but nothing says that a run wrote "
            "it; choose another folder"
        )


def _is_matched(output: str, pattern: str) -> bool:
    """Return whether `pattern`, as in `storage.files_matching`, matches `output` or a folder above it."""
    names, wanted = output.split("/"), pattern.rstrip("/").split("/")
    return len(names) >= len(wanted) and all(map(fnmatchcase, names, wanted))


def check_whole(rows: int, published: int, max_dropped: float) -> None:
    """Raise ConfigurationError if a catalog of `rows` rows would drop more than the share `max_dropped` of the
    manifest's `published` rows. It is then probably part of a catalog, or another one. Compares counts only.
    """
    if rows < (1 - max_dropped) * published:
        raise ConfigurationError(
            f"--catalog has {rows} rows and the manifest in --output {published}, of which {published - rows} or "
            "more would be dropped: give the whole catalog (without --limit), or another --output; if it really has "
            "become so small, --max-dropped 1"
        )


def remove_run(output: str) -> None:
    """Remove what earlier runs published and killed runs left, but not the files of the current run.

    Rows are removed before their images: if the run is killed in between, the next one finds no row whose image is
    gone or another. Raises one of STORAGE_ERRORS.
    """
    for name in (SUCCESS, RUN, MANIFEST, MANIFESTS_FOLDER, storage.join(RUN_FOLDER, JOURNAL)):
        storage.remove(storage.join(output, name))
    for name in (CHANGES_FOLDER, IMAGES, REPORT, LABELS_FOLDER):
        storage.remove(storage.join(output, name))
