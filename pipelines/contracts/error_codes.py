"""Lists all codes of a manifest's `error_code` with their meanings.

Codes are stable: dashboards and `--retry-failed` rely on them. Messages are for people and may change.
"""

from collections.abc import Mapping

#: Stands for all codes of failed rows in --retry-failed.
EVERY_CODE = "all"

#: Codes of rows with status `failed`. Limits are flags of jobs/correct_catalog.py or fields of `decode.DecodeLimits`.
FAILED: Mapping[str, str] = {
    # reading the file
    "no_image": "the row has neither bytes nor a uri",
    "uri_not_allowed": "no --allow-uri prefix contains the row's uri",
    "scheme_not_allowed": "(preparation) a uri that is neither a local path nor s3://",
    "missing": "there is no such file or object",
    "forbidden": "the storage refuses access: credentials or permissions",
    "unreadable": "the storage failed, a server answered with a redirect, or the path is not a file",
    "too_many_bytes": "the file is larger than --max-megabytes",
    # the format
    "empty": "the file has no bytes",
    "unknown_format": "not an image of a known format: HTML, zeros, text",
    "format_not_allowed": "an image of a format that is not on the list (JPEG, PNG, WebP, GIF, BMP, AVIF, HEIC)",
    "decoder_missing": "HEIC, and the extra that reads it is not installed on that node (catalog-repair[heic])",
    "hdr": "an HEIC or AVIF with HDR colours (PQ or HLG), for which there is no agreed conversion",
    "truncated": "the file ends before the image does: the upload was cut off",
    "corrupt": "the file is damaged",
    "animated": "more than one frame; its correction would silently be a still image",
    # limits, checked on the header before any pixel is decoded
    "too_many_pixels": "more pixels than --max-megapixels, or a decompression bomb",
    "side_too_long": "a side above DecodeLimits.max_dimension (16,000)",
    "too_small": "a side below DecodeLimits.min_dimension (16): a tracking pixel",
    "bad_aspect": "one side is more than DecodeLimits.max_aspect (20) times the other: a banner",
    "too_complex": "a JPEG with more than 100 scans, each of which costs a pass over all pixels, or 10,000 segments",
    # failures of the decoding process
    "decode_timeout": "decoding took more CPU time than --max-decode-seconds",
    "decoder_out_of_memory": "decoding took more memory than DecodeLimits.memory_bytes; tried twice",
    "decoder_crashed": "the decoding process died; tried twice",
    # the generator
    "not_finite": "the generator's output has NaN or infinity: check the bundle, or use --precision float32",
    # ids, labels, and everything else
    "duplicate_id": "several rows have this image_id, but differ in image (uri or sha256) or meaning",
    "erased": "the id was erased on request (jobs/maintain_output.py erase); take the row out of the catalog",
    "no_image_id": "(preparation) the entry's id is empty",
    "odd_width": "(preparation) a picture that should consist of two halves has an odd width",
    "unknown_label": "no rule of the label map names the label, and the map has unknown_labels: fail",
    "not_labelled": "the detector could not read the image, but it can be read now: run again",
    "unexpected": "an unforeseen error; the message has the exception",
}

#: Codes of rows with status `rejected`: the gate that kept the original (`pipelines.correction.deliver.gates` has
#: the thresholds).
REJECTED: Mapping[str, str] = {
    "nearly_constant": "the correction has almost one colour",
    "empty_product": "no product is left",
    "product_lost": "much of the product has become white; usual causes: a close-up, a product of the background's "
    "colour, a photo that was already on white",
    "product_holes": "the product has holes: parts of it resemble the background",
    "background_not_white": "the background is not white after encoding",
    "product_changed": "the product's own colours changed too much",
    "weak_outline": "the kept part ends where the upload shows no edge: the product is cut, or background is left",
    "defect_remains": "the detector still sees the defect",
}
