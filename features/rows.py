"""Answers about records, column by column, with pandas or without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

    from features.declaration import Column


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """What a frame holds, without being one: of a single record, pandas would take longer than all else.

    `columns` are arrays of length `size` by feature, as `build_frame` has them.
    """

    columns: Mapping[str, Column]
    size: int

    def __len__(self) -> int:
        """Return how many questions were asked."""
        return self.size

    def __contains__(self, name: str) -> bool:
        """Tell whether there is a column of this name."""
        return name in self.columns

    def __getitem__(self, name: str) -> Column:
        """Return a column."""
        return self.columns[name]

    def take(self, kept: npt.NDArray[np.bool_]) -> Rows:
        """Return the rows that are kept, bool[n]."""
        columns = {name: column[kept] for name, column in self.columns.items()}
        return Rows(columns=columns, size=int(kept.sum()))


Frame: TypeAlias = Union["pd.DataFrame", Rows]
"""Answers by feature, in either form."""


def column_of(frame: Frame, name: str) -> npt.NDArray[Any]:
    """Return a column of a frame as an array."""
    return frame[name] if isinstance(frame, Rows) else frame[name].to_numpy()
