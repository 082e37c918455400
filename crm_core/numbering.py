"""Numbers of quotes, orders and contracts: one series a kind and year, without gaps and without doubles.

The next number is taken by adding one to the row of its series in the transaction that writes the record:
whoever else wants one waits until that has ended, and where it is undone the number was never taken. A number
that a record from elsewhere has already is passed over.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import String, select, update
from sqlalchemy.orm import Mapped, mapped_column

from crm_core.external_ids import hold_keys
from crm_core.records import Base, Contract, Order, Quote
from crm_core.store import Transaction

PREFIXES: Final = {Quote: "Q", Order: "O", Contract: "C"}
"""How the numbers of a record type begin."""

Numbered = type[Quote] | type[Order] | type[Contract]


class NumberSeries(Base):
    """The last number that was taken of a series."""

    __tablename__ = "number_series"

    name: Mapped[str] = mapped_column(String(20), primary_key=True, comment="such as Q-2026")
    last: Mapped[int]


def next_number(transaction: Transaction, model: Numbered) -> str:
    """Take the next number of this year (in UTC) for a record that this transaction writes."""
    series = f"{PREFIXES[model]}-{transaction.now.year}"
    while True:
        number = f"{series}-{_take(transaction, series):04}"
        if transaction.session.scalar(select(model.id).where(model.number == number).limit(1)) is None:
            return number


def _take(transaction: Transaction, series: str) -> int:
    session = transaction.session
    query = (
        update(NumberSeries)
        .where(NumberSeries.name == series)
        .values(last=NumberSeries.last + 1)
        .returning(NumberSeries.last)
        .execution_options(synchronize_session=False)
    )
    taken = session.scalar(query)
    if taken is None:  # the first of its series: only one may begin it
        hold_keys(session, [f"series:{series}"])
        taken = session.scalar(query)
    if taken is None:
        session.add(NumberSeries(name=series, last=1))
        session.flush()
        return 1
    return taken
