"""Runs the tests of model/ on one thread, because they compare numbers and share the machine with others."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread_fixed_seed() -> Iterator[None]:
    """Use one thread, and the same random numbers for every test in any order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(7)
    yield
    torch.set_num_threads(threads)
