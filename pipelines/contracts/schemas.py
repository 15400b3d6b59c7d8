"""Defines the Arrow schemas of the system's tables. Other systems rely on these column names and types."""

from collections.abc import Mapping
from types import MappingProxyType

import pyarrow as pa

from model.errors import ConfigurationError

STATUSES = ("corrected", "passthrough", "rejected", "failed")

LABELS = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float32())]))

#: Catalog as this project writes it. In an input, `image` may also be struct{bytes, path} or be replaced by `uri`.
CATALOG = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        ("image", pa.binary()),
        ("uri", pa.string()),
        ("labels", LABELS),
        ("product_type", pa.string()),
    ]
)

#: A detector's labels for the rows of a catalog that have none; null for other rows, and for unreadable images.
DETECTED = pa.schema([("image_id", pa.string()), ("labels", LABELS)])

#: One row per input image of a correction run.
MANIFEST = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        ("source_uri", pa.string()),
        ("product_type", pa.string()),
        ("status", pa.string()),
        ("defects", pa.list_(pa.string())),  # all defects by the label map, in the order of correction
        ("group", pa.string()),  # of `defect`
        ("defect", pa.string()),  # the first of `defects`: names the output folder and the FID row
        ("output_uri", pa.string()),  # null unless corrected: consumers take coalesce(output_uri, source_uri)
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("input_sha256", pa.string()),
        ("output_sha256", pa.string()),
        ("model_version", pa.string()),
        ("config_hash", pa.string()),
        ("error_code", pa.string()),
        ("error_message", pa.string()),
        # Rules of the marketplace (--profile) that a corrected image violates; null without rules or if not corrected.
        ("profile_issues", pa.list_(pa.string())),
        ("corrected_at", pa.timestamp("us", tz="UTC")),
        # By these the next run recognises finished rows. The version is the storage's, or the catalog's `sha256`.
        ("input_version", pa.string()),
        # Hash of everything in this row that comes from the catalog; null: read the image again.
        ("row_key", pa.binary(16)),
        # Hash of the image's bytes and of what is done with them; null: the image was not read.
        ("image_key", pa.binary(16)),
    ]
)

#: Version of MANIFEST and CHANGES, in the metadata of their files. Raise it if a column goes, or changes its type or
#: meaning; not for a new column, which readers ignore. A file without it is of version 1.
MANIFEST_VERSION = 1
VERSION_KEY = "catalog_repair.manifest_version"
#: Metadata of a file of CHANGES: the run that made them, and the one before, whose manifest they change ("": none).
RUN_KEY, PREVIOUS_RUN_KEY = "catalog_repair.run", "catalog_repair.previous_run"

#: What one run changed in the manifest. change: 'added' | 'changed' | 'removed'; of a removed row, the last values.
CHANGES = pa.schema(
    [
        ("change", pa.string()),
        *(field for field in MANIFEST if field.name not in ("input_version", "row_key", "image_key")),
    ]
)

#: Training shards. An unpaired row of one domain has null as `source` or `target`. A pair without `source`, or with a
#: `mask`, is made anew in every epoch; the pairs of the split 'test' are fixed.
SHARD = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        ("source", pa.binary()),
        ("target", pa.binary()),
        # Grey PNG of the target's size, 255 is product. Synthetic defects are made around the product.
        ("mask", pa.binary()),
        ("photo", pa.binary()),  # the upload from which the target was cut, if that is not the source itself
        ("pairing", pa.string()),  # 'paired' | 'unpaired'
        ("group", pa.string()),
        ("defect", pa.string()),
        ("product_type", pa.string()),
        ("split", pa.string()),  # 'train' | 'test'
    ]
)

#: Clean images for FID and KID to compare with. `defect` null: the image serves for every defect.
REFERENCE = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        ("image", pa.binary()),
        ("defect", pa.string()),
    ]
)


def stamped(table: pa.Table, stamps: Mapping[str, str] = MappingProxyType({})) -> pa.Table:
    """Return a table of MANIFEST or CHANGES with its version, and `stamps`, in the metadata of its file."""
    return table.replace_schema_metadata({VERSION_KEY: str(MANIFEST_VERSION), **stamps})


def check_version(schema: pa.Schema, uri: str) -> None:
    """Raise ConfigurationError if the file at `uri` is of a later version of MANIFEST than this release knows."""
    version = (schema.metadata or {}).get(VERSION_KEY.encode(), b"1").decode()
    if not version.isdecimal() or int(version) > MANIFEST_VERSION:
        raise ConfigurationError(
            f"--output: {uri} is a manifest of version {version}, and this release knows {MANIFEST_VERSION}: use the "
            "release that wrote it or a later one, or another --output"
        )


def by_status(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the counts of all statuses, in the order of STATUSES. counts: may have other keys."""
    return {status: counts[status] for status in STATUSES}
