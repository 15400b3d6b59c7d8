"""Which photos of the training split train nothing: what a training chooses by, it must not have learned from.

Checkpoints and thresholds that were chosen on the test split would make every figure on that split too good, so the
test split is left to the reports. The part is found at training time, by a hash of ids: shards know 'train' and 'test'
alone, and a photo keeps its place as data grow. A larger share holds all photos of a smaller one. (Products are the
exception, see `held_back`: photos change places once where the fiftieth product comes, or one outgrows PRODUCT_ROWS.)
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.contracts.splits import hash_number

#: Share of the training split's photos, where nothing is said: of a generator, and of a detector, whose thresholds need
#: more.
GENERATOR_SHARE, DETECTOR_SHARE = 0.05, 0.1
#: More would be validated than trained on.
LARGEST_SHARE = 0.5
#: Rows that a product has at most: some photos of it, each with a few defects.
PRODUCT_ROWS = 64
#: Of fewer products, or of a small tree of folders, the share may be none or all: there photos are told apart.
LEAST_PRODUCTS = 50

Hashes = NDArray[np.uint64]


def hash_ids(ids: pa.ChunkedArray) -> tuple[Hashes, Hashes]:
    """(n,) each: of every row's id, and of the folder that it lies in, 0 for none."""
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
    """(N,): whether each row of a whole dataset belongs to the part, were it of the training split.

    photos, folders: (N,), as `hash_ids` makes them. All rows of a photo are on one side, and all photos of a product:
    they share the main picture as their target. A product is what ids below one folder are, as PRODUCT/PHOTO, where
    they are PRODUCT_ROWS at most, and such folders LEAST_PRODUCTS or more; a folder of more rows is somebody's way to
    keep files.
    """
    names, places, counts = np.unique(folders, return_inverse=True, return_counts=True)
    are_products = (counts <= PRODUCT_ROWS) & (names > 0)
    of_product = are_products[places] & (are_products.sum() >= LEAST_PRODUCTS)
    return np.where(of_product, folders, photos) < np.uint64(share * 2**64)


def _hash(text: str) -> int:
    return hash_number("validation", text) >> 192
