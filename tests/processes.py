"""What processes there are, for tests of what is left behind."""

import contextlib
from pathlib import Path


def processes_that_name(folder: str) -> list[str]:
    """Command lines of processes in which `folder` occurs."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if folder in line:
                found.append(line[:200])
    return found
