"""What names say of files: which are images, and which can be an id."""

#: Images that are decoded.
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
#: What counts as an image by its name. Those that are not decoded are listed too: each is an error with a code in the
#: report, where left out it would go unnoticed.
IMAGE_SUFFIXES = (*DECODED_SUFFIXES, ".tif", ".tiff", ".jp2", ".psd", ".svg")


def is_image(name: str) -> bool:
    """True for the names of image files."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def stem(name: str) -> str:
    """A file's name without its extension."""
    return name.rpartition(".")[0]


def is_text(name: str) -> bool:
    """True for names that are UTF-8, as an id must be."""
    return name.encode("utf-8", "ignore").decode() == name
