"""Compiled loops: how they are made, and where those of features are got from.

Nothing here imports numba before a loop is needed, so that nothing else waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, Literal, TypeVar, cast

Loop = TypeVar("Loop", bound=Callable[..., Any])


def compiled(division: Literal["python", "numpy"] = "python") -> Callable[[Loop], Loop]:
    """Return what makes a loop that is compiled when first called, and kept on disk where that can be.

    It holds no lock of the interpreter. Dividing by zero raises as in Python or gives inf or NaN as in numpy.
    """
    import numba

    def keep(loop: Loop) -> Loop:
        try:
            return cast("Loop", numba.njit(nogil=True, cache=True, error_model=division)(loop))
        except RuntimeError:
            # Neither the checkout nor the user's cache can be written: each process compiles for itself.
            return cast("Loop", numba.njit(nogil=True, error_model=division)(loop))

    return keep


@cache
def loops() -> ModuleType:
    """Return `features.kernels`."""
    from features import kernels

    return kernels


def warm() -> None:
    """Compile every loop, or load what was compiled before; seconds at most once a checkout and machine."""
    loops().warm()
