"""The reasons of many rows as they are stored, without making an object or a text of each.

Unpacked (`crm_core.packing`), they are the text of `dump_json` of what `models.explain.explain_rows` returns,
to the character. What it says of a value depends only on the feature and on the value as it is shown, and few
of those are different: each is said and packed once, and a row is put together from such pieces.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from crm_core.columns import dump_json
from crm_core.packing import pack_reason, pack_reasons, pack_words
from features.declaration import Feature
from features.feature_set import FeatureSet, Group
from features.wording import rounded
from models.explain import Reason, base_reason, plain
from models.hazard import Floats

if TYPE_CHECKING:
    from pandas import DataFrame

    from models.bundle import Explanation, ModelBundle

_REMEMBERED: Final = 20_000
"""Pieces of a feature that are kept; more are made anew."""

Pieces = npt.NDArray[np.object_]


@dataclass
class _Words:
    """What the reasons of one feature look like before and after their log-odds, by value."""

    feature: Feature
    usual: float | None
    start: str = field(init=False)
    by_value: dict[Any, tuple[bytes, bytes]] = field(default_factory=dict)
    by_shown: dict[Any, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fields = dump_json(list(self.feature.source_fields))
        name, group = dump_json(self.feature.name), dump_json(self.feature.group)
        self.start = f',"feature":{name},"fields":{fields},"group":{group},"log_odds":'

    def around(self, cell: object) -> tuple[bytes, bytes]:
        """Return what is said of a value, packed, and its JSON."""
        value = plain(cell)
        found = self.by_value.get(value)
        if found is None:
            found = self._make(value)
            if len(self.by_value) < _REMEMBERED:
                self.by_value[value] = found
        return found

    def make(self, cell: object) -> tuple[bytes, bytes]:
        """Return the same without remembering it."""
        return self._make(plain(cell))

    def _make(self, value: float | str | None) -> tuple[bytes, bytes]:
        shown = value
        if isinstance(value, float):
            # As it is rounded, so it is said; the sign of a zero may be shown.
            near = rounded(value, self.feature.unit)
            shown = near or repr(near)
        return self.by_shown.get(shown) or self._say(shown, value), dump_json(value).encode()

    def _say(self, shown: object, value: float | str | None) -> bytes:
        english = dump_json(self.feature.say(value, "en", self.usual))
        chinese = dump_json(self.feature.say(value, "zh", self.usual))
        said = pack_words(
            f'{{"en":{english}{self.start}',
            f',"usual":{dump_json(self.usual)},"value":',
            f',"zh":{chinese}}}',
        )
        if len(self.by_shown) < _REMEMBERED:
            self.by_shown[shown] = said
        return said


class ReasonTexts:
    """Makes a model's reasons, packed; keeps pieces from one lot to the next."""

    def __init__(self, bundle: ModelBundle, feature_set: FeatureSet) -> None:
        self._bundle = bundle
        self._feature_set = feature_set
        self._words: dict[str, _Words] = {}

    def of(self, frame: DataFrame) -> list[bytes]:
        """Return the reasons of each row of a frame, packed."""
        explanation = self._bundle.explain(frame)
        groups = self._feature_set.grouped(explanation.features)
        totals = np.empty((len(frame), len(groups) + 1))
        pieces = np.empty((len(frame), len(groups) + 1), dtype=object)
        totals[:, 0] = explanation.base
        pieces[:, 0] = _packed(base_reason(self._bundle, explanation.base))
        for place, group in enumerate(groups, start=1):
            self._tell(group, explanation, frame, totals[:, place], pieces[:, place])
        return _joined(totals, pieces)

    def _tell(
        self, group: Group, explanation: Explanation, frame: DataFrame, totals: Floats, pieces: Pieces
    ) -> None:
        """Write what a group adds to each row, NaN for nothing, and that reason, packed."""
        shares = explanation.parts[:, list(group.positions)]
        totals[:] = _sums(shares)
        strongest = np.argmax(np.where((totals >= 0)[:, None], shares, -shares), axis=1)
        told = (shares != 0).any(axis=1)
        totals[~told] = np.nan
        for place, feature in enumerate(group.features):
            rows = np.flatnonzero(told & (strongest == place))
            if rows.size:
                pieces[rows] = self._texts(feature, frame[feature.name].to_numpy()[rows], totals[rows])

    def _texts(self, feature: Feature, cells: npt.NDArray[Any], totals: Floats) -> list[bytes]:
        words = self._words.get(feature.name)
        if words is None:
            usual = self._bundle.usual.middle.get(feature.name)
            words = self._words[feature.name] = _Words(feature=feature, usual=usual)
        # A negative zero equals zero, and reads otherwise.
        unlike = cells.dtype.kind == "f" and bool((np.signbit(cells) & (cells == 0)).any())
        around = map(words.make if unlike else words.around, cells.tolist())
        return [
            pack_reason(said, total, value)
            for (said, value), total in zip(around, totals.tolist(), strict=True)
        ]


def _packed(reason: Reason) -> bytes:
    """Return a reason, packed; its JSON has keys in their order, and `log_odds` and `value` among them."""
    log_odds, value = dump_json(reason["log_odds"]), dump_json(reason["value"])
    before, _, rest = dump_json(reason).partition(f'"log_odds":{log_odds}')
    middle, _, after = rest.rpartition(f'"value":{value}')
    words = pack_words(f'{before}"log_odds":', f'{middle}"value":', after)
    return pack_reason(words, reason["log_odds"], value.encode())


def _sums(shares: Floats) -> Floats:
    """Return the sum of each row, rounded once."""
    if shares.shape[1] == 1:
        return shares[:, 0]
    if shares.shape[1] == 2:
        return np.asarray(shares[:, 0] + shares[:, 1], dtype=np.float64)
    return np.fromiter(map(math.fsum, shares.tolist()), np.float64, len(shares))


def _joined(totals: Floats, pieces: Pieces) -> list[bytes]:
    """Return the reasons of each row, those that weigh most first, equal ones in their order."""
    weighs = np.where(np.isnan(totals), np.inf, -np.abs(totals))
    order = np.argsort(weighs, axis=1, kind="stable")
    counts: Sequence[int] = (~np.isnan(totals)).sum(axis=1).tolist()
    ordered = np.take_along_axis(pieces, order, axis=1).tolist()
    return [pack_reasons(row[:count]) for row, count in zip(ordered, counts, strict=True)]
