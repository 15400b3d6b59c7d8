"""Defines the Arrow schemas of the system's tables. Other systems rely on these column names and types."""

import pyarrow as pa

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
