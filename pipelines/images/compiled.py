"""Compile loops over pixels with numba, and keep what was compiled on disk."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compile `function` when it is first called, and keep the result on disk if possible: compiling takes seconds."""
    settings: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        kernel = numba.njit(cache=True, **settings)(function)
    except RuntimeError:  # neither the package's folder nor the user's can be written
        return numba.njit(**settings)(function)
    kernel._cache = _Cache(kernel._cache)
    return kernel


class _Cache:
    """Numba's cache of one function, whose failures cost time and no photo: a full disk, a file that was cut short."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, *arguments: Any) -> Any:
        with contextlib.suppress(Exception):
            return self._cache.load_overload(*arguments)
        return None

    def save_overload(self, *arguments: Any) -> None:
        with contextlib.suppress(Exception):
            self._cache.save_overload(*arguments)
