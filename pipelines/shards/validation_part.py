"""Selects the validation part: photos of the training split that are not trained on, but used to make choices.

Checkpoints and thresholds chosen on the test split would make every figure on that split too good, so the test split is
left to the reports. The part is computed at training time by a hash of ids, because shards have only 'train' and
'test'. So a photo stays on its side as data grow, and a larger share includes all photos of a smaller one. (Products
are the exception, see `held_back`: photos may change sides once, when the fiftieth product is added, or a product
outgrows PRODUCT_ROWS.)
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.contracts.hashing import hash_number

#: Default shares of the training split's photos: for a generator, and for a detector, whose thresholds need more.
GENERATOR_SHARE, DETECTOR_SHARE = 0.05, 0.1
#: With a larger share, more photos would be validated than trained on.
LARGEST_SHARE = 0.5
#: A product has at most this many rows: some photos, each with a few defects.
PRODUCT_ROWS = 64
#: With fewer products, a share of them could be none or all, so photos are selected one by one.
LEAST_PRODUCTS = 50

Hashes = NDArray[np.uint64]


def hash_ids(ids: pa.ChunkedArray) -> tuple[Hashes, Hashes]:
    """Return two (n,) arrays: a hash of every row's id, and of the folder that contains it, 0 for none."""
    encoded = (
        pc.fill_null(ids.cast(pa.string()), "").combine_chunks().dictionary_encode()
    )  # a photo has a row for each defect
    names = encoded.dictionary.to_pylist()
    folders = [name.rpartition("/")[0] for name in names]
    of_folder = {folder: _hash(folder) if folder else 0 for folder in folders}
    rows = encoded.indices.to_numpy()
    return (
        np.array([_hash(name) for name in names], np.uint64)[rows],
        np.array([of_folder[folder] for folder in folders], np.uint64)[rows],
    )


def held_back(photos: Hashes, folders: Hashes, share: float) -> NDArray[np.bool_]:
    """Return (N,) flags: which rows of a dataset are in the part, provided that they are in the training split.

    photos, folders: (N,), from `hash_ids`. All rows of a photo are on one side. So are all photos of a product, because
    they share the main picture as their target. The ids below one folder, PRODUCT/PHOTO, are a product if there are
    at most PRODUCT_ROWS rows of them, and at least LEAST_PRODUCTS such folders; larger folders are not products.
    """
    names, numbers, counts = np.unique(folders, return_inverse=True, return_counts=True)
    are_products = (counts <= PRODUCT_ROWS) & (names > 0)
    of_product = are_products[numbers] & (are_products.sum() >= LEAST_PRODUCTS)
    return np.where(of_product, folders, photos) < np.uint64(share * 2**64)


def _hash(text: str) -> int:
    return hash_number("validation", text) >> 192
