"""Arrow schemas of what the system reads and writes. Other systems rely on these column names and types."""

import pyarrow as pa

STATUSES = ("corrected", "passthrough", "rejected", "failed")

LABELS = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float32())]))

#: Catalog as this project writes it; as input, `image` may also be struct{bytes, path} or be replaced by `uri`.
CATALOG = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        ("image", pa.binary()),
        ("uri", pa.string()),
        ("labels", LABELS),
        ("product_type", pa.string()),
    ]
)

#: What a detector said of the rows of a catalog that have no labels; null of the others, and of unreadable images.
DETECTED = pa.schema([("image_id", pa.string()), ("labels", LABELS)])

#: One row per input image of a correction run.
MANIFEST = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        ("source_uri", pa.string()),
        ("product_type", pa.string()),
        ("status", pa.string()),
        ("defects", pa.list_(pa.string())),  # every defect the label map found, in the order of correction
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
        # What a corrected image fails of the marketplace's rules (--profile); null without them or where not corrected.
        ("profile_issues", pa.list_(pa.string())),
        ("corrected_at", pa.timestamp("us", tz="UTC")),
        # How the next run finds what is done. What the storage, or the catalog's column `sha256`, said of the input:
        ("input_version", pa.string()),
        (
            "row_key",
            pa.binary(16),
        ),  # of all in this row that comes from the catalog; null: read the image again
        (
            "image_key",
            pa.binary(16),
        ),  # of the image's bytes and what is done with them; null: it was not read
    ]
)

#: Training shards. `source` or `target` is null for an unpaired image of one domain only. A pair without `source`, or
#: with a `mask`, is made anew in every epoch; the pairs of the split 'test' are fixed.
SHARD = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        ("source", pa.binary()),
        ("target", pa.binary()),
        (
            "mask",
            pa.binary(),
        ),  # grey PNG of the target's size, 255 is product; what a made defect is laid around
        ("photo", pa.binary()),  # the upload that the target was cut from, where it is not the source itself
        ("pairing", pa.string()),  # 'paired' | 'unpaired'
        ("group", pa.string()),
        ("defect", pa.string()),
        ("product_type", pa.string()),
        ("split", pa.string()),  # 'train' | 'test'
    ]
)

#: Clean images that FID and KID compare with. `defect` null: the image serves every defect.
REFERENCE = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        ("image", pa.binary()),
        ("defect", pa.string()),
    ]
)
