"""Walks over trees of images, folder by folder: only one folder's names are in memory."""

from collections.abc import Iterator

from model.errors import ConfigurationError
from pipelines import storage
from pipelines.images.uploads import SCHEMES
from pipelines.preparation.readers.base import Counted, Notes
from pipelines.storage.file_names import DECODED_SUFFIXES, is_image, is_text
from pipelines.storage.walk import Folder, walk


def check_folder(uri: str, flag: str) -> None:
    """Raise ConfigurationError, naming `flag`, unless `uri` is a readable folder, local or on s3://."""
    scheme = uri.partition("://")[0].lower() if "://" in uri else ""
    if scheme not in SCHEMES:
        raise ConfigurationError(f"{flag}: {uri}: images are read from local folders, file:// and s3:// only")
    storage.check_readable(uri, flag)
    with storage.as_configuration_error(uri, flag, "read"):
        fs, path = storage.resolve(uri)
        if not fs.isdir(path):
            raise ConfigurationError(f"{flag}: {uri} is a file; name the folder with the images")


def walk_images(uri: str, flag: str, notes: Notes) -> Iterator[Folder]:
    """Yield folders with at least one image, with the names of their images alone; note what is left out.

    Raises ConfigurationError, also if there is no image at all.
    """
    others, unnameable, any_images = Counted(), Counted(), False
    for folder in walk(uri, flag, notes.add):
        images = []
        for name in folder.files:
            if not is_image(name):
                others.add(folder.key(name))
            elif not is_text(folder.key(name)):
                unnameable.add(ascii(folder.key(name)))
            else:
                images.append(name)
        if images:
            any_images = True
            yield Folder(folder.parts, tuple(images))
    if others.count:
        notes.add(f"{flag}: {others.count} files below {uri} do not have names of images: {others}")
    if unnameable.count:
        notes.add(
            f"{flag}: {unnameable.count} images below {uri} are left out, since their names are not UTF-8 (rename "
            f"them): {unnameable}"
        )
    if not any_images:
        raise no_images(uri, flag)


def check_images(uri: str, flag: str) -> None:
    """Raise ConfigurationError unless `uri` is a folder with at least one image; stops at the first."""
    check_folder(uri, flag)
    if not any(is_image(name) for folder in walk(uri, flag) for name in folder.files):
        raise no_images(uri, flag)


def no_images(uri: str, flag: str) -> ConfigurationError:
    """Return the error for a folder without images."""
    return ConfigurationError(
        f"{flag}: no images at {uri}; images are files named {', '.join(DECODED_SUFFIXES)}, at any depth"
    )
