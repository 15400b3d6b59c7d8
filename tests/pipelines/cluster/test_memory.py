import platform

from pipelines.cluster.memory import keep_freed_memory


def test_glibc_takes_the_settings() -> None:
    """It refuses, without a word, sizes that are too large for it."""
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
