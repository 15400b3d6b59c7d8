"""Splits photos into train and test by a hash of their id: stable as data grows, the same in any process and order.

Every random choice about a photo also comes from a hash of its id, so that it does not depend on how work is divided.
"""

import hashlib

#: Share of photos that training never sees, as of the public data sets in Li et al. (2022).
TEST_SHARE = 0.2
TRAIN, TEST = "train", "test"


def hash_number(*parts: str | int) -> int:
    """Return the SHA-256 of `parts` as a number of 256 bits: a seed for `numpy.random.default_rng`, or a sort key."""
    # Each part follows its length: ("ab", "c") and ("a", "bc") must differ. surrogatepass accepts any Python string.
    text = "".join(f"{len(str(part))}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), "big")


def in_share(share: float, *parts: str | int) -> bool:
    """Return whether `parts` are in a share, 0 to 1, of all, by their hash. A larger share has all of a smaller one."""
    return hash_number(*parts) < share * 2**256


def split_of(image_id: str) -> str:
    """Return 'test' for one photo in five, else 'train'; by the photo's id, so that all its rows are on one side."""
    return TEST if in_share(TEST_SHARE, "split", image_id) else TRAIN
