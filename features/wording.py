"""The words a rep reads for the value of a feature, in English and Chinese.

A number is told beside what is usual, because a reason is about the difference: "4 meetings in the last 30
days, fewer than the usual 7". Words that the program knows are read in the language, others as typed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from crm_core.clock import DAY
from features.choices import Choices, read_as

Value = float | str | None

_AS_TIME = ("days", "hours")
"""Units whose usual value stands in brackets: "3 days since the last call (usually 8 days)"."""

_UNCOMPARED = ("category", "flag")


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A sentence with `{value}` in it, and how it reads for one, none, less than none and a missing value.

    `choices` are the words that the value may be; `measure` is the Chinese measure word behind a number.
    What is not `compared` makes no sense beside a usual value.
    """

    en: str
    zh: str
    en_one: str | None = None
    en_none: str | None = None
    zh_none: str | None = None
    en_negative: str | None = None
    en_minus_one: str | None = None
    zh_negative: str | None = None
    en_missing: str
    zh_missing: str
    choices: Choices = field(default_factory=dict)
    measure: str = ""
    compared: bool = True

    def say(self, value: Value, unit: str, language: str, usual: float | None = None) -> str:
        """Return the sentence for `value` in `language` ("zh", else English), beside what is `usual`."""
        chinese = language.startswith("zh")
        if is_missing(value):
            return self.zh_missing if chinese else self.en_missing
        if isinstance(value, str):
            return self._template(0.5, chinese=chinese).replace(
                "{value}", read_as(value, self.choices, language)
            )
        plain = rounded(value or 0.0, unit)
        template = self._template(plain, chinese=chinese)
        away = abs(plain) if template in (self.en_negative, self.zh_negative) else plain
        said = template.replace("{value}", show(away, unit))
        is_none = template in (self.en_none, self.zh_none)
        return said + self._beside(plain, unit, usual, is_none=is_none, chinese=chinese)

    def _template(self, value: float, *, chinese: bool) -> str:
        """Return how the sentence reads for a number as it is shown."""
        special: Mapping[float, str | None] = (
            {0.0: self.zh_none} if chinese else {0.0: self.en_none, 1.0: self.en_one, -1.0: self.en_minus_one}
        )
        negative = self.zh_negative if chinese else self.en_negative
        return special.get(value) or (negative if value < 0 else None) or (self.zh if chinese else self.en)

    def _beside(self, value: float, unit: str, usual: float | None, *, is_none: bool, chinese: bool) -> str:
        """Return how a number stands to what is usual; nothing where that cannot be told in a few words."""
        if usual is None or not self.compared or unit in _UNCOMPARED:
            return ""
        usual = rounded(usual, unit)
        if value < 0 or usual < 0:
            return ""
        if is_none and usual > 0 and unit not in _AS_TIME:
            shown = show(usual, unit)
            return f"，通常 {shown} {self.measure}".rstrip() if chinese else f", usually {shown}"
        return _beside_zh(value, usual, unit, self.measure) if chinese else _beside_en(value, usual, unit)


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


def is_missing(value: object) -> bool:
    """Tell whether a value is none, or not a number."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def rounded(value: float, unit: str) -> float:
    """Return a number as exactly as it is shown: whole days, money without cents, others to a decimal."""
    if unit == "share":
        return round(value, 2)
    if unit in ("currency", "days"):
        return round(value, 0) + 0.0
    return round(value, 1 if abs(value) < 10 else 0) + 0.0


def show(value: float | str, unit: str) -> str:
    """Return a value as it is read."""
    if isinstance(value, str):
        return value
    plain = rounded(value, unit)
    if unit == "share":
        return f"{plain:.0%}"
    return f"{plain:,.0f}" if unit == "currency" or abs(plain) >= 1e4 else f"{plain:g}"


def last_en(lookback: int | None) -> str:
    """Return the English for a lookback at the end of a sentence."""
    return " so far" if lookback is None else f" in the last {length_en(lookback)}"


def last_zh(lookback: int | None) -> str:
    """Return the Chinese for a lookback at the beginning of a sentence."""
    return "至今" if lookback is None else f"近 {length_zh(lookback)}"


def length_en(length: int) -> str:
    """Return the English for a length of time in microseconds."""
    number, unit = _length(length, "day", "hour")
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def length_zh(length: int) -> str:
    """Return the Chinese for a length of time in microseconds."""
    number, unit = _length(length, "天", "小时")
    return f"{number} {unit}"


def _length(length: int, day: str, hour: str) -> tuple[int, str]:
    return (length // DAY, day) if length % DAY == 0 else (length * 24 // DAY, hour)


def _beside_en(value: float, usual: float, unit: str) -> str:
    shown = show(usual, unit)
    if unit in _AS_TIME:
        one = unit.removesuffix("s")
        return " (as usual)" if value == usual else f" (usually {shown} {one if usual == 1 else unit})"
    if value == usual:
        return ", as usual"
    if usual == 0:
        return ", usually none"
    less = "fewer" if unit == "count" else "less"
    return f", {less if value < usual else 'more'} than the usual {shown}"


def _beside_zh(value: float, usual: float, unit: str, measure: str) -> str:
    shown = f"{show(usual, unit)} {measure}".strip()
    if unit in _AS_TIME:
        unit_zh = "天" if unit == "days" else "小时"
        return "（与通常相同）" if value == usual else f"（通常 {show(usual, unit)} {unit_zh}）"
    if value == usual:
        return "，与通常相同"
    if usual == 0:
        return "，通常没有"
    if unit == "count":
        return f"，{'少于' if value < usual else '多于'}通常的 {shown}"
    return f"，{'低于' if value < usual else '高于'}通常的 {shown}"
