"""The model as MLflow serves it: `mlflow.pyfunc.load_model` and `mlflow models serve` end here.

MLflow calls `_load_pyfunc` with the path of the bundle. Input columns are those of the bundle's encoder,
all doubles (NaN for a missing number); output columns are the probabilities by horizon.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.bundle import ModelBundle, load_bundle, sha256_of

if TYPE_CHECKING:
    from pandas import DataFrame


class ServedModel:
    """A bundle behind the method that MLflow calls."""

    def __init__(self, bundle: ModelBundle) -> None:
        self.bundle = bundle

    def predict(self, model_input: DataFrame, params: dict[str, Any] | None = None) -> DataFrame:
        """Return one column a horizon for encoded rows."""
        import pandas as pd

        names = [column.name for column in self.bundle.encoder.columns]
        scores = self.bundle.predict_encoded(model_input[names].to_numpy(dtype=np.float64))
        return pd.DataFrame({probability_name(days): values for days, values in scores.within.items()})


def probability_name(days: int) -> str:
    """Return the name of the output column of a horizon."""
    return f"probability_{days}d"


def _load_pyfunc(path: str) -> ServedModel:
    """Return the model of a bundle file; MLflow looks for this name."""
    data = Path(path).read_bytes()
    return ServedModel(load_bundle(data, sha256_of(data)))
