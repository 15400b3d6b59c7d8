"""Finds the parser of a job by the job's name."""

import importlib
from typing import cast

from jobs import command, correct_flags, train_flags

#: Parsers that stand in modules of their own.
_FLAGS = {"correct_catalog": correct_flags, "train": train_flags}


def parser_of(job: str) -> command.Parser:
    """Return a new parser of jobs/<job>.py."""
    if job in _FLAGS:
        return _FLAGS[job].parser(None)
    return cast(command.Parser, importlib.import_module(f"jobs.{job}").parser())
