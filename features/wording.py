"""The words a rep reads for the value of a feature, in English and Chinese."""

from __future__ import annotations

import math
from dataclasses import dataclass

from crm_core.clock import DAY


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A sentence with `{value}` in it, and how it reads for one, none and a missing value."""

    en: str
    zh: str
    en_one: str | None = None
    en_none: str | None = None
    zh_none: str | None = None
    en_missing: str
    zh_missing: str

    def say(self, value: float | str | None, unit: str, language: str) -> str:
        """Return the sentence for `value` in `language` ("zh", else English)."""
        chinese = language.startswith("zh")
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return self.zh_missing if chinese else self.en_missing
        template = self.zh if chinese else self.en
        if value == 0:
            template = (self.zh_none if chinese else self.en_none) or template
        elif value == 1 and not chinese:
            template = self.en_one or template
        return template.replace("{value}", show(value, unit))


@dataclass(frozen=True, kw_only=True)
class Noun:
    """What a kind of event or field is called; its English also makes the name of its features."""

    one: str
    many: str
    zh: str
    measure: str = "次"

    @property
    def key_one(self) -> str:
        """Return the singular as it stands in a feature's name."""
        return self.one.replace(" ", "_")

    @property
    def key_many(self) -> str:
        """Return the plural as it stands in a feature's name."""
        return self.many.replace(" ", "_")


def show(value: float | str, unit: str) -> str:
    """Return a value as it is read: money without cents, other numbers with one decimal where it tells."""
    if isinstance(value, str):
        return value
    if unit == "currency":
        return f"{value:,.0f}"
    rounded = round(value, 1 if abs(value) < 10 else 0)
    return f"{rounded:g}" if abs(rounded) < 1e6 else f"{rounded:,.0f}"


def last_en(lookback: int | None) -> str:
    """Return the English for a lookback at the end of a sentence."""
    return " so far" if lookback is None else f" in the last {_length(lookback, 'days', 'hours')}"


def last_zh(lookback: int | None) -> str:
    """Return the Chinese for a lookback at the beginning of a sentence."""
    return "至今" if lookback is None else f"近 {_length(lookback, '天', '小时')}"


def _length(lookback: int, days: str, hours: str) -> str:
    return f"{lookback // DAY} {days}" if lookback % DAY == 0 else f"{lookback * 24 // DAY} {hours}"
