"""Keep the memory that a worker frees for its next arrays, in place of returning it to the system each time.

Arrays of a photo's size are freed and wanted again a hundred times per image. By default glibc returns them to the
system, which must then clear every page anew: a quarter of the time of a correction's array work.
"""

import ctypes
import functools

#: glibc's names for `mallopt` (malloc.h), and bytes: freed memory that stays, what is asked for in reserve, and from
#: which size an array gets a mapping of its own (32 MiB is the most that glibc takes).
_SETTINGS = {-1: 256 << 20, -2: 32 << 20, -3: 32 << 20}


@functools.cache
def keep_freed_memory() -> bool:
    """Keep up to 256 MiB of freed memory in this process. Return False where the C library has no such setting."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return False
    return all(mallopt(name, size) for name, size in _SETTINGS.items())
