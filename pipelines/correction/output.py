"""The output folder of a correction run: what it may be, and what a run owns in it."""

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from model.errors import ConfigurationError
from pipelines.correction.detected import LABELS_FOLDER
from pipelines.correction.layout import (
    CATALOG_FOLDER,
    LEFT,
    MANIFEST,
    REPORT,
    RUN,
    RUN_FOLDER,
    SUCCESS,
    RunFolder,
)
from pipelines.correction.stream.object_names import IMAGES
from pipelines.storage import objects as storage
from pipelines.storage import outputs

#: What runs write and --overwrite removes; nothing else in the folder is touched.
OWNED = (SUCCESS, RUN, MANIFEST, IMAGES, REPORT, LABELS_FOLDER, RUN_FOLDER, CATALOG_FOLDER)
#: Of these, what is there after every run, whole or killed: sellers keep folders called `images`, too.
_MARKS = {SUCCESS, RUN, MANIFEST, RUN_FOLDER, CATALOG_FOLDER}
_FLAG = "--output"


def check_output(
    output: str,
    catalogs: tuple[str, ...],
    others: Mapping[str, Sequence[str]] = MappingProxyType({}),
    overwrite: bool = False,
) -> None:
    """Raise ConfigurationError where `output` is a file, or a catalog's part, where an input lies where runs write, or
    where `overwrite` would remove what no run has written.

    others: further inputs by their flag. Writes nothing.
    """
    for catalog in catalogs:
        if outputs.lies_in(output, [catalog]) or _is_matched(output, catalog):
            raise ConfigurationError(
                f"{_FLAG} {output}: lies inside --catalog {catalog}, whose next reading would find the manifest; "
                "choose a folder outside"
            )
    for flag, uris in {"--catalog": catalogs, **others}.items():
        inside = outputs.first_inside(uris, output, OWNED)
        if inside is not None:
            raise ConfigurationError(
                f"{_FLAG} {output}: the run writes (and with --overwrite first removes) {', '.join(OWNED)} in there, "
                f"and {flag} {inside} lies in one of them; choose another folder"
            )
    there = outputs.present(output, OWNED)
    if overwrite and there and not set(there) & _MARKS:
        raise ConfigurationError(
            f"--overwrite would remove {', '.join(there)} in {output}, and nothing there says that a run wrote that; "
            "choose another --output, or, where a run with --overwrite was killed, leave the flag out"
        )


def _is_matched(output: str, pattern: str) -> bool:
    """Whether `pattern`, as of `storage.objects.files_matching`, means `output` or a folder above it."""
    names, wanted = output.split("/"), pattern.rstrip("/").split("/")
    return len(names) >= len(wanted) and all(map(fnmatchcase, names, wanted))


def check_whole(rows: int, published: int, max_dropped: float) -> None:
    """Raise ConfigurationError where a catalog of `rows` rows would drop more than the share `max_dropped` of the
    `published` rows of the manifest: it is more likely half a catalog, or another one, than what sellers took down.

    By counts alone, so that nothing has to be compared.
    """
    if rows < (1 - max_dropped) * published:
        raise ConfigurationError(
            f"--catalog has {rows} rows and the manifest in --output {published}, of which {published - rows} or "
            "more would go: give the whole catalog (without --limit), or another --output; where it has really become "
            "so small, --max-dropped 1"
        )


def published_rows(output: str) -> int:
    """Rows of the manifest that is published, by its `_SUCCESS`; 0 without one. Raises one of STORAGE_ERRORS."""
    place = storage.join(output, SUCCESS)
    return int(json.loads(storage.read_bytes(place)).get("rows", 0)) if storage.exists(place) else 0


def remove_run(output: str) -> None:
    """Remove what earlier runs have published, and what killed ones have left; not what this one is working with.

    Rows go before their images, so that a run that is killed in between leaves no row to the next one whose image is
    gone or another. Raises one of STORAGE_ERRORS.
    """
    for name in (SUCCESS, RUN, MANIFEST, *(storage.join(RUN_FOLDER, left) for left in LEFT)):
        storage.remove(storage.join(output, name))
    for name in (IMAGES, REPORT, LABELS_FOLDER):
        storage.remove(storage.join(output, name))


def write_run(output: str, run: Mapping[str, Any]) -> None:
    """Write run.json below OUTPUT/.run."""
    text = json.dumps(run, indent=2, sort_keys=True, default=str) + "\n"
    storage.write_bytes(RunFolder(output).at(RUN), text.encode())
