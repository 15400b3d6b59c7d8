"""Splits photos into train and test by a hash of their id: stable as data grows, the same in any process and order."""

from pipelines.contracts.hashing import in_share

#: Share of photos that training never sees, as of the public data sets in Li et al. (2022).
TEST_SHARE = 0.2
TRAIN, TEST = "train", "test"


def split_of(image_id: str) -> str:
    """Return 'test' for one photo in five, else 'train'; by the photo's id, so that all its rows are on one side."""
    return TEST if in_share(TEST_SHARE, "split", image_id) else TRAIN
