"""How dates and numbers are written is found out of the whole column, said with the evidence, or asked."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from crm_core.errors import MappingError
from crm_core.importing.values import Kind, Reading, converter
from tests.importing.conftest import Workbench

MAPPING = """
name = "deals"
recorded_at = "as_occurred"
[files.deals]
path = "deals.csv"
delimiter = ";"
[[records]]
name = "deals"
record = "deal"
file = "deals"
external_id = "id"
occurred_at = { column = "created", format = "detect" }
[records.fields]
name = "id"
stage = { constant = "needs" }
amount = { column = "amount", decimal = "detect" }
"""


def deals(bench: Workbench, rows: list[tuple[str, str]]) -> list[tuple[datetime, Decimal]]:
    lines = [f"D{number};{created};{amount}" for number, (created, amount) in enumerate(rows)]
    bench.write("deals.csv", "\n".join(["id;created;amount", *lines, ""]))
    report = bench.run(MAPPING)
    assert report.refused == 0, report.in_words()
    return [(deal.occurred_at, deal.amount) for deal in bench.records("deal")]


def said(bench: Workbench) -> list[str]:
    return bench.run(MAPPING).found_out


def test_one_day_after_the_twelfth_tells_which_comes_first(bench: Workbench) -> None:
    read = deals(bench, [("03.04.2024", "1.234,56"), ("31.12.2023", "12,5")])
    assert read[0] == (datetime(2024, 4, 3, tzinfo=UTC), Decimal("1234.56"))
    assert said(bench) == [
        "deals.csv: created is written as %d.%m.%Y (day first), because of '31.12.2023'",
        "deals.csv: amount is written like 1.234,56, because of '1.234,56'",
    ]


def test_american_dates_and_amounts(bench: Workbench) -> None:
    read = deals(bench, [("04/03/2024 3:04 PM", "$22,700.00"), ("12/31/2023 12:00 AM", "(1,200)")])
    assert read[0] == (datetime(2024, 4, 3, 15, 4, tzinfo=UTC), Decimal(22700))
    assert read[1][1] == Decimal(-1200)
    assert said(bench)[0].endswith("%m/%d/%Y %I:%M %p (month first), because of '12/31/2023 12:00 AM'")


def test_chinese_dates_and_amounts(bench: Workbench) -> None:
    rows = [
        ("2021年4月15日", "12.5万"),
        ("２０２１年４月１６日", "￥３，０００．５０"),
        ("2021年04月17日", "1.2亿元"),
    ]
    read = deals(bench, rows)
    assert [moment.day for moment, _ in read] == [15, 16, 17]
    assert [amount for _, amount in read] == [Decimal(125_000), Decimal("3000.5"), Decimal(120_000_000)]


def test_several_ways_in_one_column_and_dates_in_words(bench: Workbench) -> None:
    read = deals(bench, [("15 Apr, 2021 00:03:00", "1"), ("2021-04-16", "2"), ("16/04/2021", "3")])
    assert [moment.day for moment, _ in read] == [15, 16, 16]


@pytest.mark.parametrize("column", [["03/04/2024", "05/06/2024"], ["01.02.24"]])
def test_days_and_months_that_cannot_be_told_apart_are_asked_for(bench: Workbench, column: list[str]) -> None:
    with pytest.raises(
        MappingError, match=r"deals.csv: created: day and month cannot be told apart in '0[13]"
    ):
        deals(bench, [(each, "1") for each in column])
    assert bench.count_changes() == 0


def test_the_same_day_read_either_way_is_no_question(bench: Workbench) -> None:
    assert deals(bench, [("03/03/2024", "1")])[0][0].day == 3


def test_a_sign_that_can_be_a_point_or_a_thousand_is_asked_for(bench: Workbench) -> None:
    with pytest.raises(MappingError, match=r"amount: the signs in '1,234' can mean 1.234 or 1234"):
        deals(bench, [("2024-01-01", "1,234")])


def test_what_is_no_date_or_number_is_named(bench: Workbench) -> None:
    with pytest.raises(MappingError, match=r"no way to write dates fits .* see 'soon'"):
        deals(bench, [("2024-01-01", "1"), ("soon", "1")])
    with pytest.raises(MappingError, match=r"no way to write numbers fits .* see 'much'"):
        deals(bench, [("2024-01-01", "much")])


def test_a_template_cannot_be_found_out(bench: Workbench, tmp_path: Path) -> None:
    mapping = MAPPING.replace('column = "created"', 'template = "{created}"')
    with pytest.raises(MappingError, match="of one column only"):
        bench.run(mapping)


@pytest.mark.parametrize(
    ("text", "options", "value"),
    [
        ("１２３", {}, Decimal(123)),
        ("￥1,234.50", {"ignore": ("¥",), "thousands": ","}, Decimal("1234.50")),
        ("60％", {"ignore": ("%",), "multiply": 0.01}, Decimal("0.60")),
        ("(1,200)", {"brackets": True, "thousands": ","}, Decimal(-1200)),
        ("3.5亿", {"units": {"亿": 1e8}}, Decimal(350_000_000)),
        ("1.234,56", {"decimal": ",", "thousands": "."}, Decimal("1234.56")),
    ],
)
def test_amounts_as_people_write_them(text: str, options: dict[str, object], value: Decimal) -> None:
    assert converter(Reading(kind=Kind.MONEY, **options))(text) == value  # type: ignore[arg-type]  # options of any kind


def test_a_sign_between_thousands_has_no_place_in_the_fraction() -> None:
    with pytest.raises(ValueError, match=r"22,700.00"):
        converter(Reading(kind=Kind.MONEY, decimal=",", thousands="."))("22,700.00")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("2021年4月15日", "%Y年%m月%d日"),
        ("２０２１-０４-１５", "iso"),
        ("15 Apr, 2021 00:03:00", "%d %b, %Y %H:%M:%S"),
    ],
)
def test_dates_as_people_write_them(text: str, pattern: str) -> None:
    assert converter(Reading(kind=Kind.DAY, formats=(pattern,)))(text).isoformat() == "2021-04-15"
