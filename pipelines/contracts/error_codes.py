"""All codes of a manifest's `error_code`: what was the matter, and who can mend it.

A code is stable: dashboards and `--retry-failed` rely on it. Messages are for people and may change.
"""

from collections.abc import Mapping

#: Of rows with status `failed`. Limits are flags of jobs/correct_catalog.py or fields of `decode.DecodeLimits`.
FAILED: Mapping[str, str] = {
    # where the image should be
    "no_image": "the row has neither bytes nor a uri",
    "uri_not_allowed": "no --allow-uri prefix contains the row's uri",
    "scheme_not_allowed": "(preparation) a uri that is neither a local path nor s3://",
    "missing": "nothing is there",
    "forbidden": "the storage refuses to show it: credentials or permissions",
    "unreadable": "the storage failed, a server answered with a redirect, or the path is not a file",
    "too_many_bytes": "the file is larger than --max-megabytes",
    # what it is
    "empty": "no bytes",
    "unknown_format": "not an image of a known format: HTML, zeros, text",
    "format_not_allowed": "an image of a format that is not on the list (JPEG, PNG, WebP, GIF, BMP, AVIF, HEIC)",
    "decoder_missing": "HEIC, and the extra that reads it is not installed on that node (catalog-repair[heic])",
    "hdr": "an HEIC or AVIF in PQ or HLG, brighter than white: how to show it is not settled",
    "truncated": "the file ends before the image does: the upload broke off",
    "corrupt": "the file is damaged",
    "animated": "more than one frame; its correction would silently be a still",
    # what it is too much of, by the header and before any pixel is decoded
    "too_many_pixels": "more pixels than --max-megapixels, or a decompression bomb",
    "side_too_long": "a side above DecodeLimits.max_dimension (16,000)",
    "too_small": "a side below DecodeLimits.min_dimension (16): a tracking pixel",
    "bad_aspect": "one side is more than DecodeLimits.max_aspect (20) times the other: a banner",
    "too_complex": "a JPEG of more than 100 scans, each of which costs a pass over all pixels, or of 10,000 segments",
    # what it did to the process that decoded it
    "decode_timeout": "decoding took more CPU time than --max-decode-seconds",
    "decoder_out_of_memory": "decoding took more memory than DecodeLimits.memory_bytes; tried twice",
    "decoder_crashed": "the decoding process died; tried twice",
    # what the generator made of it
    "not_finite": "the generator's answer holds NaN or infinity: check the bundle, or --precision float32",
    # what is known of it
    "duplicate_id": "several rows have this image_id, and do not name one image (uri or sha256) and mean the same",
    "no_image_id": "(preparation) the entry's id is empty",
    "odd_width": "(preparation) a picture that should hold two halves has an odd width",
    "unknown_label": "a label that no rule of the label map names, which says unknown_labels: fail",
    "not_labelled": "the detector could not read the image, which can be read now: run again",
    "unexpected": "nobody foresaw this; the message has the exception",
}

#: Of rows with status `rejected`: the gate that kept the original (`pipelines.correction.deliver.gates` has
#: the thresholds).
REJECTED: Mapping[str, str] = {
    "nearly_constant": "the correction is of one colour",
    "empty_product": "no product is left",
    "product_lost": "much of the product has become white; usual causes: a close-up, a product of the background's "
    "colour, a photo that was on white already",
    "product_holes": "holes are torn into the product: parts of it are like the ground",
    "background_not_white": "the background is not white after encoding",
    "product_changed": "the product's own colours changed too much",
    "weak_outline": "what was kept ends where the upload shows no edge: the product is cut, or ground is left",
    "defect_remains": "the detector still sees the defect",
}
