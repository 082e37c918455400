"""From the text of a cell to a value."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from crm_core.importing.values import Kind, Reading, Within, converter

SAO_PAULO = ZoneInfo("America/Sao_Paulo")


def read(cell: object, kind: Kind, **how: Any) -> object:
    return converter(Reading(kind=kind, **how))(cell)


@pytest.mark.parametrize(
    ("cell", "kind", "how", "expected"),
    [
        ("  kept as it is ", Kind.TEXT, {}, "  kept as it is "),
        (7, Kind.TEXT, {}, "7"),
        (True, Kind.TEXT, {}, "true"),
        ("1234.5", Kind.NUMBER, {}, 1234.5),
        ("1.234,5", Kind.NUMBER, {"decimal": ",", "thousands": "."}, 1234.5),
        ("40", Kind.NUMBER, {"multiply": 0.01}, 0.4),
        ("12.0", Kind.INTEGER, {}, 12),
        (12.0, Kind.INTEGER, {}, 12),
        ("0.10", Kind.MONEY, {}, Decimal("0.10")),
        ("1050", Kind.MONEY, {"multiply": 0.01}, Decimal("10.50")),
        ("$22,700.00", Kind.MONEY, {"ignore": ("$",), "thousands": ","}, Decimal("22700.00")),
        ("1.234,56 €", Kind.MONEY, {"ignore": ("€",), "thousands": ".", "decimal": ","}, Decimal("1234.56")),
        ("¥12,000", Kind.MONEY, {"ignore": ("¥", "￥"), "thousands": ","}, Decimal(12000)),
        ("￥ 12,000", Kind.MONEY, {"ignore": ("¥", "￥"), "thousands": ","}, Decimal(12000)),
        ("12.5万", Kind.MONEY, {"units": {"万": 10_000, "亿": 100_000_000}}, Decimal(125_000)),
        ("3 万元", Kind.MONEY, {"ignore": ("元",), "units": {"万": 10_000}}, Decimal(30_000)),
        ("1.2M", Kind.NUMBER, {"units": {"M": 1_000_000, "k": 1_000}}, 1_200_000.0),
        (
            "($1,000.50)",
            Kind.MONEY,
            {"ignore": ("$",), "thousands": ",", "brackets": True},
            Decimal("-1000.50"),
        ),
        ("$(5)", Kind.MONEY, {"ignore": ("$",), "brackets": True}, Decimal(-5)),
        ("12,34,567", Kind.INTEGER, {"thousands": ","}, 1_234_567),
        ("1\u202f234,5", Kind.NUMBER, {"thousands": " ", "decimal": ","}, 1234.5),
        ("45 %", Kind.NUMBER, {"ignore": ("%",), "multiply": 0.01}, 0.45),
        (22700.5, Kind.MONEY, {"thousands": ".", "decimal": ","}, Decimal("22700.5")),
        ("Yes", Kind.FLAG, {}, True),
        ("0.0", Kind.FLAG, {}, False),
        (False, Kind.FLAG, {}, False),
        ("J", Kind.FLAG, {"words": {"J": True, "N": False}, "others": "refuse"}, True),
        ("x", Kind.TEXT, {"words": {"a": "b"}, "others": "empty"}, None),
        ("x", Kind.TEXT, {"words": {"a": "b"}, "others": "convert"}, "x"),
    ],
)
def test_a_cell_becomes_a_value(cell: object, kind: Kind, how: dict[str, Any], expected: object) -> None:
    assert read(cell, kind, **how) == expected


@pytest.mark.parametrize(
    ("cell", "kind", "how"),
    [
        ("many", Kind.NUMBER, {}),
        ("nan", Kind.NUMBER, {}),
        ("1e999", Kind.NUMBER, {}),
        ("1_000", Kind.NUMBER, {}),
        ("12.5", Kind.INTEGER, {}),
        ("Infinity", Kind.INTEGER, {}),
        ("€ 5", Kind.MONEY, {}),
        ("12,5", Kind.NUMBER, {"thousands": ","}),
        ("1.2345", Kind.NUMBER, {"thousands": ".", "decimal": ","}),
        ("1,,234", Kind.NUMBER, {"thousands": ","}),
        ("万", Kind.MONEY, {"units": {"万": 10_000}}),
        ("(5)", Kind.MONEY, {}),
        ("0", Kind.DAY, {"formats": ("excel",)}),
        ("60", Kind.DAY, {"formats": ("excel",)}),
        ("20210415", Kind.DAY, {"formats": ("excel",)}),
        ("1e30", Kind.MONEY, {}),
        ("maybe", Kind.FLAG, {}),
        ("x", Kind.TEXT, {"words": {"a": "b"}, "others": "refuse"}),
        ("31.12.2024", Kind.DAY, {}),
        ("2024-02-30", Kind.DAY, {}),
        ("2024-13", Kind.DAY, {"formats": ("%Y-%m",)}),
        ("inf", Kind.DAY, {"formats": ("days since 2020-01-01",)}),
        ("1e12", Kind.DAY, {"formats": ("days since 2020-01-01",)}),
        ("9999-12-31", Kind.INSTANT, {"within": Within.END}),
        ("soon", Kind.INSTANT, {"formats": ("%d.%m.%Y", "unix")}),
    ],
)
def test_a_cell_that_cannot_be_read_is_refused(cell: object, kind: Kind, how: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the caller says what was expected
        read(cell, kind, **how)


@pytest.mark.parametrize(
    ("cell", "how", "expected"),
    [
        ("2024-03-01", {}, datetime(2024, 3, 1, tzinfo=UTC)),
        ("2024-03-01 10:30", {"zone": SAO_PAULO}, datetime(2024, 3, 1, 13, 30, tzinfo=UTC)),
        ("2024-03-01T10:30:00+02:00", {"zone": SAO_PAULO}, datetime(2024, 3, 1, 8, 30, tzinfo=UTC)),
        ("1.3.2024 7.05", {"formats": ("%d.%m.%Y %H.%M",)}, datetime(2024, 3, 1, 7, 5, tzinfo=UTC)),
        ("03/01/24", {"formats": ("iso", "%m/%d/%y")}, datetime(2024, 3, 1, tzinfo=UTC)),
        ("1709251200", {"formats": ("unix",)}, datetime(2024, 3, 1, tzinfo=UTC)),
        ("1709251200500", {"formats": ("unix_ms",)}, datetime(2024, 3, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("762.0", {"formats": ("days since 2013-11-05",)}, datetime(2015, 12, 7, tzinfo=UTC)),
        (date(2024, 3, 1), {}, datetime(2024, 3, 1, tzinfo=UTC)),
        (datetime(2024, 3, 1, 5, 0, tzinfo=UTC), {}, datetime(2024, 3, 1, 5, 0, tzinfo=UTC)),
        ("2024-03-07", {"shift": timedelta(days=-6)}, datetime(2024, 3, 1, tzinfo=UTC)),
    ],
)
def test_an_instant_is_read_in_its_zone(cell: object, how: dict[str, Any], expected: datetime) -> None:
    assert read(cell, Kind.INSTANT, **how) == expected


@pytest.mark.parametrize(
    ("cell", "pattern", "end"),
    [
        ("2024-02-28", "iso", datetime(2024, 2, 29, tzinfo=UTC)),
        ("202402", "%Y%m", datetime(2024, 3, 1, tzinfo=UTC)),
        ("202312", "%Y%m", datetime(2024, 1, 1, tzinfo=UTC)),
        ("2023", "%Y", datetime(2024, 1, 1, tzinfo=UTC)),
        ("45", "days since 2024-01-01", datetime(2024, 2, 16, tzinfo=UTC)),
    ],
)
def test_the_end_of_a_day_month_or_year_is_its_last_microsecond(
    cell: str, pattern: str, end: datetime
) -> None:
    found = read(cell, Kind.INSTANT, formats=(pattern,), within=Within.END)
    assert found == end - timedelta(microseconds=1)


def test_a_time_of_day_is_never_moved_to_the_end_of_its_day() -> None:
    noon = datetime(2024, 3, 1, 12, 0, tzinfo=UTC)
    assert read("2024-03-01 12:00", Kind.INSTANT, within=Within.END) == noon


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        # Brazil's summer ended on 17 February 2018: São Paulo's midnight is 02:00 UTC before, 03:00 after.
        ("2018-01-08 02:00:00", datetime(2018, 1, 9, 2, 0, tzinfo=UTC) - timedelta(microseconds=1)),
        ("2018-03-07 03:00:00", datetime(2018, 3, 8, 3, 0, tzinfo=UTC) - timedelta(microseconds=1)),
        ("2018-03-07 02:00:00", datetime(2018, 3, 7, 2, 0, tzinfo=UTC)),
    ],
)
def test_midnight_somewhere_can_stand_for_the_whole_day_there(cell: str, expected: datetime) -> None:
    assert read(cell, Kind.INSTANT, midnight_in=SAO_PAULO, within=Within.END) == expected


def test_a_day_is_the_day_in_the_zone_of_the_mapping() -> None:
    assert read("2024-03-01T01:00:00+00:00", Kind.DAY, zone=SAO_PAULO) == date(2024, 2, 29)
    assert read("202402", Kind.DAY, formats=("%Y%m",), within=Within.END) == date(2024, 2, 29)


@pytest.mark.parametrize(
    ("cell", "formats", "expected"),
    [
        ("44301", ("excel",), datetime(2021, 4, 15, tzinfo=UTC)),
        ("44301.00208333333", ("excel",), datetime(2021, 4, 15, 0, 3, tzinfo=UTC)),
        (44301.00208333333, ("iso", "excel"), datetime(2021, 4, 15, 0, 3, tzinfo=UTC)),
        ("1", ("excel",), datetime(1900, 1, 1, tzinfo=UTC)),
        ("61", ("excel",), datetime(1900, 3, 1, tzinfo=UTC)),
        ("15 Apr, 2021 00:03:00", ("%d %b, %Y %H:%M:%S",), datetime(2021, 4, 15, 0, 3, tzinfo=UTC)),
        ("2021年4月15日", ("%Y年%m月%d日",), datetime(2021, 4, 15, tzinfo=UTC)),
    ],
)
def test_a_messy_date_is_read_as_declared(cell: object, formats: tuple[str, ...], expected: datetime) -> None:
    assert read(cell, Kind.INSTANT, formats=formats) == expected
