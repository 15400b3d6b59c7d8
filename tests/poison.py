"""Makes images that kill the process that decodes them.

They are ordinary PNG files with a word in a text chunk. A decoding process with POISONOUS in its environment does what
the word says before it decodes; any other process decodes the picture.
"""

import os
import signal
import time

import numpy as np

from pipelines.images.decode_apart import HOOK_VARIABLE
from tests.hostile_images import drawing, encode, png

POISONOUS = {HOOK_VARIABLE: "tests.poison:swallow"}
_MARK = b"poison: "

#: Words, and the error codes that rows with them must get.
CODES = {
    "kill": "decoder_crashed",
    "segfault": "decoder_crashed",
    "exit": "decoder_crashed",
    "endless": "decode_timeout",
    "asleep": "decode_timeout",
    "balloon": "decoder_out_of_memory",
}


def poison(kind: str) -> bytes:
    """Return a PNG of 64x48 pixels that contains a word of CODES."""
    whole = encode(drawing(), "PNG")
    chunk = png(1, 1, 8, 0, b"", (b"tEXt", b"Comment\0" + _MARK + kind.encode()))
    chunk = chunk[33 : chunk.index(b"IDAT") - 4]  # between the header and the pixels
    return whole[:33] + chunk + whole[33:]


def swallow(data: bytes) -> None:
    """Act as the word in `data` says, if there is one; this is the decoding process's hook."""
    at = data.find(_MARK, 0, 200)
    if at < 0:
        return
    word = data[at + len(_MARK) :]
    for kind in CODES:
        if word.startswith(kind.encode()):
            _ACTS[kind]()


def _endless() -> None:
    while True:
        pass


def _balloon() -> None:
    held = []
    while True:
        held.append(np.empty(64 << 20, np.uint8))  # never written: the limit is on address space


_ACTS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "exit": lambda: os._exit(7),
    "endless": _endless,
    "asleep": lambda: time.sleep(1000),
    "balloon": _balloon,
}
