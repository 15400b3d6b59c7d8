"""Makes numbers of names, so that a random choice does not depend on how work is divided.

Every random choice about a photo comes from a hash of its id.
"""

import hashlib


def hash_number(*parts: str | int) -> int:
    """Return the SHA-256 of `parts` as a number of 256 bits: a seed for `numpy.random.default_rng`, or a sort key."""
    # Each part follows its length: ("ab", "c") and ("a", "bc") must differ. surrogatepass accepts any Python string.
    text = "".join(f"{len(str(part))}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), "big")


def in_share(share: float, *parts: str | int) -> bool:
    """Return whether `parts` are in a share, 0 to 1, of all, by their hash. A larger share has all of a smaller one."""
    return hash_number(*parts) < share * 2**256
