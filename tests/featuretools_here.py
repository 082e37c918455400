"""Featuretools on the pandas that we run on.

Its typing library keeps what it knows of a frame on the accessor `frame.ww`. Since pandas 3 an accessor is
made anew each time it is asked for, so that all is forgotten at once: here it is made once a frame again.
"""

from __future__ import annotations

import warnings
from typing import Any

import pandas as pd

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import featuretools
    from woodwork.column_accessor import PandasColumnAccessor
    from woodwork.table_accessor import PandasTableAccessor


class _KeptAccessor:
    """An accessor that stays with its frame or series."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def __get__(self, owner: Any, _type: type | None = None) -> Any:
        if owner is None:
            return self._kind
        if "_kept_ww" not in owner.__dict__:
            object.__setattr__(owner, "_kept_ww", self._kind(owner))
        return owner.__dict__["_kept_ww"]


_FRAME: Any = pd.DataFrame
_FRAME.ww = _KeptAccessor(PandasTableAccessor)
_SERIES: Any = pd.Series
_SERIES.ww = _KeptAccessor(PandasColumnAccessor)

__all__ = ["featuretools"]
