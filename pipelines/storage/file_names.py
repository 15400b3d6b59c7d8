"""Classify files by name: which are images, and which names can be ids."""

#: Suffixes of images that are decoded.
DECODED_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".webp",
    ".gif",
    ".bmp",
    ".avif",
    ".heic",
    ".heif",
)
#: Suffixes that count as images. Formats that are not decoded are included: each such file becomes an error with a code
#: in the report instead of being ignored silently.
IMAGE_SUFFIXES = (*DECODED_SUFFIXES, ".tif", ".tiff", ".jp2", ".psd", ".svg")


def is_image(name: str) -> bool:
    """Return True if `name` is the name of an image file."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def stem(name: str) -> str:
    """Return a file's name without its extension."""
    return name.rpartition(".")[0]


def is_text(name: str) -> bool:
    """Return True if `name` is valid UTF-8, as an id must be."""
    return name.encode("utf-8", "ignore").decode() == name
