"""The truth means what it says, can be kept in a file, and is nowhere in the store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select, text

from crm_core.arrays import NO_INSTANT, read_arrays
from crm_core.clock import DAY, micros
from crm_core.errors import InvalidValueError
from crm_core.records import Account, Contract, ContractStatus, Deal, Lead, LeadStatus
from models.simulation import load_truth, world
from models.simulation.company import Company
from tests.simulation.conftest import END, NOW, Imagined, Written

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

START = END - world.DAYS * DAY
TODAY = NOW.date()
HORIZONS = (7, 30, 90, 180)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Questions about different entities, and when the event of each came (NO_INSTANT for never)."""

    task: str
    ids: Ints
    as_of: Ints
    event_at: Ints


def anywhen(first: Ints, last: Ints, seed: int) -> Ints:
    return first + ((last - first) * np.random.default_rng(seed).random(first.size)).astype(np.int64)


def lead_questions(company: Company) -> Asked:
    started = company.leads.course.beginning.started
    as_of = np.where(np.arange(started.size) % 3 == 0, started, anywhen(started, started + 90 * DAY, 1))
    return Asked(
        task="lead_scoring",
        ids=np.arange(1, started.size + 1),
        as_of=as_of,
        event_at=company.leads.converted_at,
    )


def deal_questions(company: Company) -> Asked:
    started = company.deals.course.beginning.started
    return Asked(
        task="win_probability",
        ids=np.arange(1, started.size + 1),
        as_of=anywhen(started, started + 80 * DAY, 2),
        event_at=company.deals.won_at,
    )


def churn_questions(company: Company) -> Asked:
    count = len(company.accounts)
    return Asked(
        task="churn",
        ids=np.arange(1, count + 1),
        as_of=anywhen(np.full(count, START), np.full(count, END), 3),
        event_at=lost_at(company),
    )


def lost_at(company: Company) -> Ints:
    """Return when each account's last contract was cancelled or ended without another."""
    terms = company.contracts.terms
    # Later contracts stand behind earlier ones.
    last = {account: row for row, account in enumerate(terms.account.tolist())}
    renewed = {
        int(record)
        for edits in company.contracts.table.edits
        if edits.field == "status" and edits.value.size and edits.value[0] == ContractStatus.RENEWED
        for record in edits.record
    }
    lost = np.full(len(company.accounts), NO_INSTANT)
    for account, row in last.items():
        cancelled, ends = company.contracts.cancelled_at[row], terms.ends_at[row]
        if cancelled != NO_INSTANT:
            lost[account] = cancelled
        elif ends <= END and row not in renewed:
            lost[account] = ends
    return lost


QUESTIONS = {"lead_scoring": lead_questions, "win_probability": deal_questions, "churn": churn_questions}


def judged(imagined: Imagined, task: str, horizon: int) -> tuple[Floats, Flags]:
    """Return true probabilities and what came of them, of questions whose window is over by the end."""
    asked = QUESTIONS[task](imagined.company)
    # A renewal may be signed up to the end of the time of grace: before that nobody knows of it.
    over = asked.as_of + (horizon + (world.GRACE_DAYS if task == "churn" else 0)) * DAY <= END
    ids, as_of, event = asked.ids[over], asked.as_of[over], asked.event_at[over]
    probability = imagined.truth.probabilities(task, ids, as_of, horizon)
    defined = ~np.isnan(probability)
    came = (event > as_of) & (event <= as_of + horizon * DAY)
    return probability[defined], came[defined]


def area_under_curve(probability: Floats, came: Flags) -> float:
    rank = np.empty(probability.size)
    rank[np.argsort(probability, kind="stable")] = np.arange(1, probability.size + 1)
    hits = int(came.sum())
    return float((rank[came].sum() - hits * (hits + 1) / 2) / (hits * (came.size - hits)))


@pytest.mark.parametrize("task", QUESTIONS)
@pytest.mark.parametrize("horizon", HORIZONS)
def test_of_what_is_said_to_be_so_probable_so_much_comes_true(
    imagined: Imagined, task: str, horizon: int
) -> None:
    probability, came = judged(imagined, task, horizon)
    order = np.argsort(probability, kind="stable")
    variance = np.cumsum((probability * (1 - probability))[order])
    # Ten bins of one variance each: a chi-square of ten degrees is above 35.6 once in ten thousand times.
    number = np.minimum((10 * variance / variance[-1]).astype(int), 9)
    surprise = np.bincount(number, weights=(came - probability)[order], minlength=10)

    assert probability.size > 1_000
    assert (surprise**2).sum() / (variance[-1] / 10) < 35.6
    assert abs(surprise.sum()) < 3.9 * np.sqrt(variance[-1])


@pytest.mark.parametrize(
    ("task", "base_rate", "discrimination"),
    [
        ("lead_scoring", (0.08, 0.16), (0.74, 0.85)),
        ("win_probability", (0.15, 0.26), (0.76, 0.87)),
        ("churn", (0.03, 0.06), (0.78, 0.88)),
    ],
)
def test_rates_and_signal_are_those_of_a_real_company(
    imagined: Imagined,
    task: str,
    base_rate: tuple[float, float],
    discrimination: tuple[float, float],
) -> None:
    probability, came = judged(imagined, task, 90)

    assert base_rate[0] < came.mean() < base_rate[1]
    assert discrimination[0] < area_under_curve(probability, came) < discrimination[1]


def test_of_new_leads_about_one_in_seven_is_converted_in_a_quarter(imagined: Imagined) -> None:
    started = imagined.company.leads.course.beginning.started
    converted = imagined.company.leads.converted_at
    over = started + 90 * DAY <= END

    within = (converted != NO_INSTANT) & (converted <= started + 90 * DAY)

    assert 0.12 < within[over].mean() < 0.18


def test_about_a_quarter_of_deals_are_won(imagined: Imagined) -> None:
    deals = imagined.company.deals
    old = deals.course.beginning.started < END - 250 * DAY

    assert 0.20 < (deals.won_at[old] != NO_INSTANT).mean() < 0.30


def test_about_a_sixth_of_customers_leave_in_a_year(imagined: Imagined) -> None:
    lost = lost_at(imagined.company)
    terms = imagined.company.contracts.terms
    cancelled = imagined.company.contracts.cancelled_at
    stop = np.where(cancelled == NO_INSTANT, np.minimum(terms.ends_at, END), cancelled)
    years = (stop - np.maximum(terms.starts_at, START)).clip(0).sum() / (365 * DAY)

    assert 0.14 < (lost != NO_INSTANT).sum() / years < 0.21


def test_the_longer_the_horizon_the_likelier_the_event(imagined: Imagined) -> None:
    for task, questions in QUESTIONS.items():
        asked = questions(imagined.company)
        by_horizon = [
            imagined.truth.probabilities(task, asked.ids[:3_000], asked.as_of[:3_000], days)
            for days in (1, 30, 90, 365)
        ]
        grows = np.diff(np.array(by_horizon), axis=0)
        assert np.nanmin(grows) >= -1e-12


def test_ads_are_worse_after_the_day_they_were_bought_elsewhere(imagined: Imagined) -> None:
    leads = imagined.company.leads
    started = leads.course.beginning.started
    ads = imagined.company.tables["lead"].columns["source"] == "ad"
    probability = imagined.truth.probabilities("lead_scoring", np.arange(1, started.size + 1), started, 90)
    late = started >= START + world.ADS_WORSEN_AFTER_DAYS * DAY
    won = leads.converted_at != NO_INSTANT

    assert won[ads & ~late].mean() > 2.5 * won[ads & late].mean()
    assert probability[ads & ~late].mean() > 2.5 * probability[ads & late].mean()
    assert probability[~ads & ~late].mean() == pytest.approx(probability[~ads & late].mean(), rel=0.05)


# --------------------------------------------------------------------------- where it is not defined


def test_a_lead_that_does_not_exist_has_no_probability(imagined: Imagined) -> None:
    asked = imagined.truth.probabilities("lead_scoring", np.array([0, 10**9]), np.array([END, END]), 90)

    assert np.isnan(asked).all()


def test_a_lead_has_no_probability_before_it_came_nor_after_its_end(imagined: Imagined) -> None:
    leads = imagined.company.leads
    row = int(np.flatnonzero(leads.converted_at != NO_INSTANT)[0])
    came, converted = int(leads.course.beginning.started[row]), int(leads.converted_at[row])
    when = np.array([came - 1, came, converted - 1, converted])

    asked = imagined.truth.probabilities("lead_scoring", np.full(4, row + 1), when, 90)

    assert np.isnan(asked).tolist() == [True, False, False, True]


def test_an_account_without_a_running_contract_has_no_probability_of_leaving(imagined: Imagined) -> None:
    lost = lost_at(imagined.company)
    row = int(np.flatnonzero(lost != NO_INSTANT)[0])
    when = np.array([lost[row] - 1, lost[row], lost[row] + 10 * DAY])

    asked = imagined.truth.probabilities("churn", np.full(3, row + 1), when, 90)

    assert np.isnan(asked).tolist() == [False, True, True]


def test_nothing_is_said_about_instants_after_the_end(imagined: Imagined) -> None:
    for task, questions in QUESTIONS.items():
        ids = questions(imagined.company).ids
        after = imagined.truth.probabilities(task, ids, np.full(ids.size, END + 1), 90)
        now = imagined.truth.probabilities(task, ids, np.full(ids.size, END), 90)
        assert np.isnan(after).all()
        assert (~np.isnan(now)).sum() > 100


def test_no_questions_have_no_answers(imagined: Imagined) -> None:
    nothing = np.empty(0, dtype=np.int64)

    for task in QUESTIONS:
        assert imagined.truth.probabilities(task, nothing, nothing, 90).size == 0


def test_an_unknown_task_and_a_horizon_of_no_days_are_refused(imagined: Imagined) -> None:
    one = np.array([1])

    with pytest.raises(InvalidValueError, match="one of lead_scoring"):
        imagined.truth.probabilities("weather", one, one, 90)
    with pytest.raises(InvalidValueError, match="at least one day"):
        imagined.truth.probabilities("churn", one, one, 0)


# --------------------------------------------------------------------------------- kept in a file


def test_a_truth_read_from_its_file_says_the_same(written: Written, tmp_path: Path) -> None:
    path = tmp_path / "simulation" / "truth.parquet"
    written.truth.save(path)
    loaded = load_truth(path)

    assert loaded is not None
    assert (loaded.size, loaded.seed, loaded.end) == ("small", 7, END)
    for task in QUESTIONS:
        ids = np.arange(1, 3_000)
        as_of = np.full(ids.size, END - 200 * DAY)
        np.testing.assert_array_equal(
            loaded.probabilities(task, ids, as_of, 90), written.truth.probabilities(task, ids, as_of, 90)
        )


def test_without_a_file_there_is_no_truth(tmp_path: Path) -> None:
    assert load_truth(tmp_path / "truth.parquet") is None


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"part": ["lead"]}), tmp_path / "truth.parquet")

    with pytest.raises(InvalidValueError, match="truth of a simulated company"):
        load_truth(tmp_path / "truth.parquet")


# ---------------------------------------------------------------------------------- beside the store


def test_the_truth_about_records_in_a_store_is_asked_by_their_ids(written: Written) -> None:
    with written.store.reading() as session:
        leads = read_arrays(session, select(Lead.id, Lead.status, Lead.recorded_at))
    probability = written.truth.probabilities("lead_scoring", leads["id"], np.full(leads["id"].size, END), 90)
    is_open = leads["status"] == LeadStatus.OPEN

    assert not np.isnan(probability[is_open]).all()
    # Those whose end was not written down yet look open; they are few.
    assert np.isnan(probability[is_open]).mean() < 0.05
    assert np.isnan(probability[~is_open]).all()


def test_contracts_in_a_store_run_as_the_truth_says(written: Written) -> None:
    with written.store.reading() as session:
        running = read_arrays(
            session,
            select(Contract.account_id).where(
                Contract.status == ContractStatus.ACTIVE,
                Contract.starts_on <= TODAY,
                Contract.ends_on > TODAY,
            ),
        )["account_id"]
        accounts = read_arrays(session, select(Account.id))["id"]
    probability = written.truth.probabilities("churn", accounts, np.full(accounts.size, END), 90)

    defined = accounts[~np.isnan(probability)]
    assert np.isin(defined, running).all()
    assert np.isin(running, defined).mean() > 0.97


def hidden(written: Written) -> dict[str, Floats]:
    """Return the qualities and the probabilities at the end that the truth knows."""
    truth = written.truth
    found: dict[str, Floats] = {}
    for table, lives, task in (
        ("leads", truth.leads, "lead_scoring"),
        ("deals", truth.deals, "win_probability"),
    ):
        at = np.full(lives.ids.size, END)
        found[f"{table} quality"] = lives.course.beginning.quality
        found[f"{table} probability"] = truth.probabilities(task, lives.ids, at, 90)
    found["contracts quality"] = truth.contracts.course.beginning.quality
    return found


def numbers_in(written: Written) -> set[float]:
    """Return every number with a fraction that stands anywhere in the store."""
    found: set[float] = set()
    with written.store.reading() as session:
        names = session.scalars(text("SELECT name FROM sqlite_master WHERE type = 'table'")).all()
        for name in names:
            for row in session.execute(text(f'SELECT * FROM "{name}"')):
                found.update(cell for cell in row if isinstance(cell, float))
    return found


def test_no_number_of_the_truth_stands_in_the_store(written: Written) -> None:
    known = {round(number, 9) for number in numbers_in(written)}

    for name, values in hidden(written).items():
        told = {round(float(value), 9) for value in values[~np.isnan(values)]}
        told -= {round(value, 3) for value in told}  # too short to say that one was taken from the other
        assert len(told) > 50, name
        assert not told & known, name


def ranks(values: Floats) -> Floats:
    place = np.empty(values.size)
    place[np.argsort(values, kind="stable")] = np.arange(values.size)
    return place


@pytest.mark.parametrize(("model", "task"), [(Lead, "lead_scoring"), (Deal, "win_probability")])
def test_no_column_orders_open_records_as_the_truth_does(
    written: Written, model: type[Any], task: str
) -> None:
    with written.store.reading() as session:
        columns = read_arrays(session, select(model).where(model.status == "open"))
    probability = written.truth.probabilities(task, columns["id"], np.full(columns["id"].size, END), 90)

    for name, values in columns.items():
        if values.dtype == object:
            values = np.unique(values.astype(str), return_inverse=True)[1]  # noqa: PLW2901  as numbers
        given = ~np.isnan(probability) & (values != NO_INSTANT) & ~np.isnan(values.astype(float))
        if np.unique(values[given]).size > 5 and given.sum() > 30:
            alike = np.corrcoef(ranks(values[given].astype(float)), ranks(probability[given]))[0, 1]
            assert abs(alike) < 0.8, name


def test_the_end_of_the_truth_is_midnight_before_now(written: Written) -> None:
    assert written.truth.end == micros(NOW - timedelta(hours=9))
