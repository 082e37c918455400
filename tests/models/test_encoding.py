"""Frames become doubles, the same way in training and serving."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from models.encoding import Encoder, fit_encoder


def _frame() -> pd.DataFrame:
    levels = ["a"] * 30 + ["b"] * 30 + ["c"] * 5 + [None] * 35
    return pd.DataFrame(
        {
            "n": pd.Series(np.arange(100.0)),
            "constant": pd.Series(np.ones(100)),
            "c": pd.Series(levels, dtype=object),
        }
    )


def test_levels_that_few_entities_had_are_other() -> None:
    encoder = fit_encoder(_frame(), np.arange(100))
    assert [column.name for column in encoder.columns] == ["n", "c=a", "c=b", "c~other", "c~missing"]


def test_a_level_counts_once_an_entity() -> None:
    encoder = fit_encoder(_frame(), np.repeat(np.arange(10), 10))
    assert [column.name for column in encoder.columns] == ["n", "c~other", "c~missing"]


def test_every_row_has_one_column_of_a_category() -> None:
    frame = _frame()
    matrix = fit_encoder(frame, np.arange(100)).encode(frame)
    assert (matrix[:, 1:].sum(axis=1) == 1).all()
    assert matrix[:, 1].sum() == 30
    assert matrix[:, 4].sum() == 35


@pytest.mark.parametrize(("value", "column"), [("a", 1), ("never seen", 3), (None, 4), (float("nan"), 4)])
def test_one_row_is_encoded_as_it_was_in_training(value: object, column: int) -> None:
    encoder = fit_encoder(_frame(), np.arange(100))
    row = pd.DataFrame({"n": [3.5], "constant": [1.0], "c": pd.Series([value], dtype=object)})
    expected = np.zeros(5)
    expected[0], expected[column] = 3.5, 1
    np.testing.assert_array_equal(encoder.encode(row)[0], expected)


def test_a_missing_number_stays_missing() -> None:
    frame = pd.DataFrame({"n": [1.0, np.nan, 2.0]})
    assert np.isnan(fit_encoder(frame, np.arange(3)).encode(frame)[1, 0])


def test_an_encoder_survives_json() -> None:
    encoder = fit_encoder(_frame(), np.arange(100))
    again = Encoder.from_json(encoder.to_json())
    assert again == encoder
    np.testing.assert_array_equal(again.encode(_frame()), encoder.encode(_frame()))


def test_a_level_called_like_a_kind_is_no_kind() -> None:
    frame = pd.DataFrame({"c": pd.Series(["~other"] * 30 + ["x"] * 30 + [None] * 30, dtype=object)})
    encoder = fit_encoder(frame, np.arange(90))
    assert encoder.encode(frame).sum(axis=0).tolist() == [30, 30, 30]
