"""Arrow schemas of the rows between the steps of a correction, so that an empty or all-null batch keeps its types.

catalog row -> decode -> DECODED -> generator -> EDITED -> commit -> one SUMMARY row per block -> driver

Imports no torch, so that tasks that only read start faster.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipelines.contracts.schemas import STATUSES
from pipelines.published.layout import SAMPLES_FOLDER
from pipelines.published.row_keys import KEY

#: Purpose of reading a row. CORRECT: it becomes a manifest row. REFRESH: its image was read, and is the one that was
#: corrected before. COMPARE: FID compares others with its image; its manifest row stays as it is.
CORRECT, REFRESH, COMPARE = "correct", "refresh", "compare"

#: Columns that a catalog row gets from its inspection (see `inspect.pending`).
PURPOSE_COLUMNS = [
    ("purpose", pa.string()),
    ("position", pa.string()),  # file and row number, for people; unique
    ("refusal", pa.string()),  # not null: the row fails with this error code, whatever its image is
    ("refusal_message", pa.string()),
    ("input_version", pa.string()),
    ("row_key", KEY),
    ("work_key", KEY),
    ("times", pa.int32()),  # manifest rows that it makes: several, if it stands for equal rows of its id
]

PURPOSE_NAMES = tuple(column[0] for column in PURPOSE_COLUMNS)

_CARRIED = [
    pa.field("image_id", pa.string(), nullable=False),
    ("source_uri", pa.string()),
    ("product_type", pa.string()),
    ("route", pa.string()),  # the row is counted and sampled in it
    ("defects", pa.list_(pa.string())),  # in the order of correction
    ("upload", pa.binary()),  # encoded; null if no later step needs it
    ("sampled", pa.bool_()),  # kept for FID
    ("in_strip", pa.bool_()),  # kept for the report's pictures
    ("width", pa.int32()),  # of the upload, upright
    ("height", pa.int32()),
    ("input_sha256", pa.string()),
    ("input_bytes", pa.int64()),  # of the upload; null if it could not be read
    ("error_code", pa.string()),  # not null: the row has failed, and later steps only pass it on
    ("error_message", pa.string()),
    ("decode_seconds", pa.float32()),  # of one core
    *PURPOSE_COLUMNS,
    ("image_key", KEY),
]

#: model_input: uint8 RGB, the upload as `pipelines.images.fit.fit_inside` makes it for the generator. current_input:
#: the same for the current bundle, if the canary corrects the image and its correction is to be compared; else null.
DECODED = pa.schema([*_CARRIED, ("model_input", pa.binary()), ("current_input", pa.binary())])

#: One pass of the generator, in the order of `defects`. theta: float32 (2,3), little-endian; content: uint8
#: (h,w,3), 0..255 for -1..1; matte: uint8 (h,w), 0..255 for 0..1; width: w. Content and matte cover the whole upload,
#: whatever its aspect ratio.
EDITS = pa.list_(
    pa.struct(
        [("theta", pa.binary()), ("content", pa.binary()), ("matte", pa.binary()), ("width", pa.int32())]
    )
)

#: current_edits: those of the current bundle, of a `current_input`; else null.
EDITED = pa.schema(
    [*_CARRIED, ("edits", EDITS), ("current_edits", EDITS), ("generator_seconds", pa.float32())]
)

_STATUS_COUNTS = [(status, pa.int64()) for status in STATUSES]

SUMMARY = pa.schema(
    [
        ("rows", pa.int64()),
        ("refreshed", pa.int64()),  # rows of purpose REFRESH; all other counts are of purpose CORRECT
        *_STATUS_COUNTS,
        ("routes", pa.list_(pa.struct([("route", pa.string()), *_STATUS_COUNTS]))),
        (
            "errors",
            pa.list_(
                pa.struct(
                    [
                        ("code", pa.string()),
                        ("count", pa.int64()),
                        (
                            "examples",
                            pa.list_(pa.struct([("image_id", pa.string()), ("message", pa.string())])),
                        ),
                    ]
                )
            ),
        ),
        # Corrected images that fail a rule of the marketplace, by the rule's name.
        ("profile_issues", pa.list_(pa.struct([("rule", pa.string()), ("count", pa.int64())]))),
        ("decode_seconds", pa.float64()),
        ("generator_seconds", pa.float64()),
        ("commit_seconds", pa.float64()),
        ("read_bytes", pa.int64()),  # uploads
        ("written_bytes", pa.int64()),  # corrected images, journal, samples
    ]
)

#: Folders below OUTPUT/.run, with a folder for each attempt: images for FID and for the report.
SAMPLES, STRIPS = f"{SAMPLES_FOLDER}/fid", f"{SAMPLES_FOLDER}/strips"

#: New values of manifest rows whose images were read and are unchanged (see `publish.staying`).
REFRESHED = pa.schema(
    [
        ("image_key", KEY),
        ("row_key", KEY),
        ("source_uri", pa.string()),
        ("product_type", pa.string()),
        ("input_version", pa.string()),
    ]
)

#: Uploads and corrections for FID, PNG of one size; `after` is null for clean images. current: the current
#: bundle's correction of an image of the canary.
SAMPLE = pa.schema(
    [
        ("image_id", pa.string()),
        ("route", pa.string()),
        ("before", pa.binary()),
        ("after", pa.binary()),
        ("current", pa.binary()),
    ]
)
#: Before and after for the report, JPEG. rejected: the gate's message; null if the image was corrected. current,
#: current_rejected: the same of the current bundle, for an image of the canary, if it could correct it.
STRIP = pa.schema(
    [
        ("image_id", pa.string()),
        ("route", pa.string()),
        ("product_type", pa.string()),
        ("before", pa.binary()),
        ("after", pa.binary()),
        ("rejected", pa.string()),
        ("current", pa.binary()),
        ("current_rejected", pa.string()),
    ]
)


def to_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return `rows` as a table of exactly `schema`; a missing key is null."""
    columns = [pa.array([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)
