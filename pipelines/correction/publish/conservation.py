"""Checks by ids, not only by counts, that the manifest has exactly the rows of the catalog."""

from collections.abc import Sequence

from model.errors import RunError
from pipelines.published.row_keys import IdSums

#: Most buckets that an error lists.
_NAMED = 10


def check_conservation(catalog: IdSums, manifest: IdSums) -> None:
    """Raise RunError, with rows by bucket, unless the manifest has the catalog's ids, each as often as the catalog."""
    buckets = catalog.different(manifest)
    if not buckets:
        return
    listed = ", ".join(
        f"{bucket} ({catalog.counts[bucket]} and {manifest.counts[bucket]} rows)"
        for bucket in buckets[:_NAMED]
    )
    raise RunError(
        f"rows were lost or doubled: {catalog.rows} in the catalog, {manifest.rows} for the manifest; ids differ in "
        f"{len(buckets)} of {len(catalog.counts)} buckets: {listed}{', …' if len(buckets) > _NAMED else ''}; nothing "
        "was published: run again (if that fails too, with --overwrite), and report this"
    )


def check_parts(assembled: Sequence[str], written: Sequence[str]) -> None:
    """Raise RunError unless the folder holds exactly the assembled parts.

    assembled: their names. written: URIs of the files in the folder.
    """
    if sorted(assembled) != sorted(uri.rsplit("/", 1)[-1] for uri in written):
        raise RunError(
            f"{len(assembled)} parts of the manifest were written, but {len(written)} are there, or other ones; "
            "nothing was published: run again, and report this"
        )
