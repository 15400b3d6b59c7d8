"""Makes names of images from their ids and contents: safe on every storage, unique, and the same in every run.

The hash of the content is in the name, so that an image never takes the place of another one. A manifest stays true,
whatever later runs write, until its images are removed.
"""

import hashlib
import re

from pipelines import storage
from pipelines.images.encode import EXTENSIONS

#: Folder of the corrected images, below the output folder.
IMAGES = "images"
#: Characters that mean the same on local disks, in object stores and in URLs. All others are escaped.
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_")

#: Longest name of an id. File systems end at 255 bytes, and a digest and an extension come on top.
MAX_LENGTH = 160
_DIGEST = 40  # hexadecimal digits of SHA-256 that replace the part that was cut off
_CASE_DIGEST = 12  # those that distinguish ids that differ only in case
_CONTENT_DIGEST = 16  # those that distinguish the images of one id
_HASH, _EXTENSION = rf"\.[0-9a-f]{{{_CONTENT_DIGEST}}}", f"({'|'.join(EXTENSIONS.values())})"


def image_uri(output: str, defect: str, image_id: str, sha256: str, format: str) -> str:
    """Return the URI of a corrected image. sha256: of its file, hexadecimal. format: a key of `encode.EXTENSIONS`."""
    name = f"{safe_name(image_id)}.{sha256[:_CONTENT_DIGEST]}.{EXTENSIONS[format]}"
    return storage.join(output, IMAGES, defect, name)


def is_image_of(name: str, image_id: str) -> bool:
    """Return whether `name` is the last part of an `image_uri` of this id, or what it was before it had a hash."""
    own = re.escape(safe_name(image_id))
    return re.fullmatch(rf"{own}({_HASH})?\.{_EXTENSION}", name) is not None


def is_image(path: str) -> bool:
    """Return whether `path`, relative to the images' folder, is one that `image_uri` makes, or an unfinished one."""
    return re.fullmatch(rf"[^/]+/([^/]+{_HASH}\.{_EXTENSION}|{storage.TEMPORARY.pattern})", path) is not None


def safe_name(image_id: str) -> str:
    """Return a name for `image_id`: one path component of at most MAX_LENGTH letters, digits and `.-_~`.

    Different ids have different names, even on storage that ignores case. Only the manifest leads back to the id.
    A byte (UTF-8) outside that set becomes `~` and two hexadecimal digits; not `%`, which web servers and some clients
    of object stores decode. A leading `.` or `_` is escaped too, because tools hide such files. An id with capital
    letters gets `~x` and a short hash at its end. A name that is too long keeps its beginning, then `~~` and a hash of
    the whole id. `~x` and `~~` occur nowhere else. Raises ValueError for an empty id.
    """
    if not image_id:
        raise ValueError("an image id must not be empty")
    name = "".join(_escaped(character) for character in image_id)
    if name[0] in "._":
        name = f"~{ord(name[0]):02X}{name[1:]}"
    digest = hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).hexdigest()
    if re.search("[A-Z]", image_id):
        name += "~x" + digest[:_CASE_DIGEST]
    if len(name) <= MAX_LENGTH:
        return name
    # The cut may fall inside an escape: drop its rest.
    return re.sub(r"~.?$", "", name[: MAX_LENGTH - _DIGEST - 2]) + "~~" + digest[:_DIGEST]


def _escaped(character: str) -> str:
    if character in _PLAIN:
        return character
    return "".join(f"~{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
