"""Which files are images by their names."""

#: What counts as an image by its name. Those that are not decoded are listed too: each is an error with a code in the
#: report, where left out it would go unnoticed.
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


IMAGE_SUFFIXES = (*DECODED_SUFFIXES, ".tif", ".tiff", ".jp2", ".psd", ".svg")


def is_image(name: str) -> bool:
    """True for the names of image files."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def stem(name: str) -> str:
    """A file's name without its extension."""
    return name.rpartition(".")[0]
