"""Reasons as people read them: every feature, for typical, no and missing values, in both languages."""

from __future__ import annotations

import re

import pytest

from crm_core.fields import Choice, FieldKind, Known, declare_field
from crm_core.store import Store
from features.choices import CHOICES, read_as
from features.declaration import Feature
from features.event_features import DaysSinceLast, EventCount, EventSum
from features.feature_set import FEATURE_SETS, feature_set_for
from features.field_features import DaysUntil, FieldValue, PushesCount
from features.lead import CALLS, MEETINGS
from features.wording import Noun
from tests.features.test_declaration import EVERY

CLOSE = Noun(one="expected close", many="expected closes", zh="预计成交日")
BUILT_IN = [
    pytest.param(feature, id=f"{task}-{feature.name}")
    for task, feature_set in FEATURE_SETS.items()
    for feature in feature_set.features
]
TYPICAL: dict[str, tuple[float, ...]] = {
    "share": (0.0, 0.004, 0.35, 1.0),
    "currency": (0.0, 12_345.6),
    "days": (0.0, 0.3, 0.8, 12.4, 400.0),
    "hours": (0.0, 0.4, 30.0),
    "ratio": (0.0, 0.7, 1.0, 2.5),
    "flag": (0.0, 1.0),
}


def sentences(feature: Feature, language: str) -> list[str]:
    """Return all that a feature may come to say."""
    if feature.dtype == "category":
        words = [*feature.meaning.sentence.choices, None]
        return [feature.say(word, language) for word in words]
    values = TYPICAL.get(feature.unit, (0.0, 1.0, 2.0, 7.0))
    said = [feature.say(value, language, usual) for value in values for usual in (None, 0.0, 0.35, 7.0)]
    return [*said, feature.say(None, language, 7.0)]


@pytest.mark.parametrize("feature", [*EVERY, *BUILT_IN])
def test_english_sentences_have_their_grammar(feature: Feature) -> None:
    for said in sentences(feature, "en"):
        assert said.isascii()
        assert not re.search(r"\b1 (days|times|calls|orders|hours)\b", said.replace("usual 1 ", "")), said
        assert not re.search(r"\s\s|\s,|{|}|\bnan\b|\bNone\b|\.\d{3}|-\d", said), said
        assert "_" not in said, said


@pytest.mark.parametrize("feature", [*EVERY, *BUILT_IN])
def test_chinese_sentences_are_chinese(feature: Feature) -> None:
    for said in sentences(feature, "zh"):
        assert re.search(r"[\u4e00-\u9fff]", said)
        assert not re.search(r"[,:;()]\s|[\u4e00-\u9fff][,:;()]|\s\s|{|}|nan|None", said), said
        assert not re.search(r"\b(days|more|usual|usually|referral|inbound|won|90d)\b", said), said


def test_a_count_is_told_beside_what_is_usual() -> None:
    meetings = EventCount(of=MEETINGS, lookback="30d")

    assert [meetings.say(count, "en", 7.0) for count in (4, 7, 9)] == [
        "4 meetings in the last 30 days, fewer than the usual 7",
        "7 meetings in the last 30 days, as usual",
        "9 meetings in the last 30 days, more than the usual 7",
    ]
    assert meetings.say(0, "en", 7.0) == "no meetings in the last 30 days, usually 7"
    assert meetings.say(2, "en", 0.01) == "2 meetings in the last 30 days, usually none"
    assert [meetings.say(count, "zh", 7.0) for count in (4, 7, 0)] == [
        "近 30 天 4 次会面，少于通常的 7 次",
        "近 30 天 7 次会面，与通常相同",
        "近 30 天没有会面，通常 7 次",
    ]


def test_times_are_told_in_whole_days_beside_the_usual_ones() -> None:
    last = DaysSinceLast(of=CALLS)

    assert last.say(3.25, "en", 8.1) == "3 days since the last call (usually 8 days)"
    assert last.say(0.9, "en", 1.2) == "1 day since the last call (as usual)"
    assert last.say(0.2, "en", 1.2) == "less than a day since the last call (usually 1 day)"
    assert last.say(3.25, "zh", 8.1) == "距上次通话 3 天（通常 8 天）"
    assert last.say(None, "en", 8.1) == "no call yet"


def test_a_day_that_is_over_is_not_ahead() -> None:
    until = DaysUntil(record="deal", field="expected_close_on", noun=CLOSE)

    assert until.say(-5.2, "en", 20.0) == "expected close passed 5 days ago"
    assert until.say(-1.0) == "expected close passed 1 day ago"
    assert until.say(-5.2, "zh", 20.0) == "预计成交日已过 5 天"
    assert until.say(12.0, "en", 20.0) == "12 days until the expected close (usually 20 days)"


def test_money_and_shares_are_compared_too() -> None:
    amount = FieldValue(record="deal", field="amount", noun=Noun(one="amount", many="amounts", zh="金额"))
    rate = FEATURE_SETS["win_probability"].get("owner_win_rate_90d")

    assert amount.say(12_000.4, "en", 8_000.0) == "amount: 12,000, more than the usual 8,000"
    assert amount.say(12_000.4, "zh", 18_000.0) == "金额：12,000，低于通常的 18,000"
    assert rate.say(0.352, "en", 0.28) == (
        "of deals with this owner, 35% were won within 90 days, more than the usual 28%"
    )
    assert rate.say(0.352, "zh", 0.28) == "相同负责人在 90 天内赢单的比例为 35%，高于通常的 28%"


def test_words_of_the_program_are_read_in_the_language_and_others_stay_as_typed() -> None:
    source = FEATURE_SETS["lead_scoring"].get("source")
    stage = FEATURE_SETS["win_probability"].get("stage")

    assert [source.say("referral", each) for each in ("en", "zh")] == ["source: referral", "来源：转介绍"]
    assert source.say("Trade_Show", "zh") == "来源：展会"
    assert source.say("Tante Erna", "zh") == "来源：Tante Erna"
    assert [stage.say("proposal", each) for each in ("en", "zh")] == [
        "stage: Proposal and quote",
        "阶段：方案与报价",
    ]


@pytest.mark.parametrize("field", CHOICES)
def test_every_known_word_is_there_in_both_languages(field: str) -> None:
    for word, (english, chinese) in CHOICES[field].items():
        assert word == word.casefold()
        assert english.isascii()
        assert re.fullmatch(r"[\u4e00-\u9fff]+", chinese)
        assert read_as(word, CHOICES[field], "zh-Hans") == chinese


def test_what_models_and_imports_call_things_is_known() -> None:
    from crm_core.validation import CHOICES as ALLOWED
    from models.simulation import world

    assert {kind.name for kind in world.SOURCES} <= CHOICES["source"].keys()
    assert {kind.name for kind in world.INDUSTRIES} <= CHOICES["industry"].keys()
    assert {kind.name.casefold() for kind in world.REGIONS} <= CHOICES["region"].keys()
    for field in ("kind", "direction"):
        assert {str(word) for word in ALLOWED["activity", field]} == CHOICES[field].keys()


def test_the_words_of_a_companys_own_field_are_read_by_their_labels(store: Store) -> None:
    with store.transaction() as step:
        declare_field(
            step.session,
            record_type="lead",
            name="custom.size",
            kind=FieldKind.CHOICE,
            known=Known.CREATION,
            label_en="shoe size",
            label_zh="鞋码",
            choices=[Choice(value="xl", label_en="huge", label_zh="特大"), Choice(value="s")],
        )

    feature = feature_set_for(store, "lead_scoring").get("custom_size")

    assert [feature.say("xl", each) for each in ("en", "zh")] == ["shoe size: huge", "鞋码：特大"]
    assert [feature.say("s", each) for each in ("en", "zh")] == ["shoe size: s", "鞋码：s"]


def test_what_never_happened_is_said_so() -> None:
    pushed = PushesCount(record="deal", field="expected_close_on", noun=CLOSE)
    lately = PushesCount(record="deal", field="expected_close_on", noun=CLOSE, lookback="30d")

    assert pushed.say(0, "en", 1.2) == "expected close never put off, usually 1.2"
    assert lately.say(0) == "expected close not put off in the last 30 days"
    assert pushed.say(0, "zh", 1.2) == "预计成交日从未推迟，通常 1.2 次"


def test_a_sum_of_nothing_is_nothing() -> None:
    orders = FEATURE_SETS["churn"].get("orders_amount_sum_90d")

    assert isinstance(orders, EventSum)
    assert orders.say(0.0, "en", 900.0) == "no orders in the last 90 days, usually 900"
    assert orders.say(12_345.6, "en", 900.0) == (
        "orders in the last 90 days with a total amount of 12,346, more than the usual 900"
    )
