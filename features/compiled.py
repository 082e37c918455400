"""Where the compiled loops are got from: loaded when first needed, so that nothing else waits for numba."""

from __future__ import annotations

from functools import cache
from types import ModuleType


@cache
def loops() -> ModuleType:
    """Return `features.kernels`."""
    from features import kernels

    return kernels


def warm() -> None:
    """Compile every loop, or load what was compiled before; seconds at most once a checkout and machine."""
    loops().warm()


if __name__ == "__main__":
    warm()
