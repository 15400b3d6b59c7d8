"""Checks by ids, not only by counts, that the manifest has exactly the rows of the catalog."""

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
