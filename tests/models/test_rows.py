"""Columns without pandas say what a frame of the same columns says, to the bit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from features.rows import Rows
from models.encoding import fit_encoder
from models.familiar import Familiar, Seen

N = 40


@pytest.fixture
def frame() -> pd.DataFrame:
    source = np.random.default_rng(7)
    numbers = {f"n{at}": source.normal(0, 3, N) for at in range(4)}
    numbers["n1"][::3] = np.nan
    words = np.array([["a", "b", None, "c"][number] for number in source.integers(0, 4, N)], dtype=object)
    return pd.DataFrame({**numbers, "word": pd.Series(words, dtype=object)})


def rows_of(frame: pd.DataFrame) -> Rows:
    return Rows(columns={name: frame[name].to_numpy() for name in frame.columns}, size=len(frame))


def test_both_are_encoded_alike(frame: pd.DataFrame) -> None:
    encoder = fit_encoder(frame, np.arange(N), fewest=1)

    assert encoder.encode(rows_of(frame)).tobytes() == encoder.encode(frame).tobytes()


@pytest.mark.parametrize("most", range(3))
def test_both_are_unlike_what_was_seen_alike(frame: pd.DataFrame, most: int) -> None:
    seen = {
        "n0": Seen(field="x", may_miss=False, low=-1.0, high=0.0),
        "n1": Seen(field="y", may_miss=False, low=-1.0, high=1.0),
        "word": Seen(field="z", may_miss=False, levels=("a", "b")),
        "n2": Seen(field="x", may_miss=True, low=0.0, high=0.5),
        "n3": Seen(field="w", may_miss=True, low=-2.0, high=2.0),
    }
    familiar = Familiar(seen=seen, most=most)

    found = familiar.unlike(rows_of(frame))

    assert found.tolist() == familiar.unlike(frame).tolist()
    assert 0 < found.sum() < N


def test_a_row_alone_is_unlike_as_among_others(frame: pd.DataFrame) -> None:
    familiar = Familiar(seen={"n0": Seen(field="x", may_miss=False, low=-1.0, high=0.0)}, most=0)
    together = familiar.unlike(rows_of(frame)).tolist()

    alone = [bool(familiar.unlike(rows_of(frame.iloc[[at]]))[0]) for at in range(N)]

    assert alone == together


def test_rows_that_are_taken_keep_their_order(frame: pd.DataFrame) -> None:
    kept = np.arange(N) % 3 == 0

    taken = rows_of(frame).take(kept)

    assert len(taken) == kept.sum()
    assert taken["n0"].tolist() == frame["n0"][kept].tolist()
