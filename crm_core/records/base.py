"""What every record has, what some share, and the tables' common base."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    cast,
    func,
    literal_column,
)
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Mapped, declared_attr, mapped_column

from crm_core.columns import Instant, Json, PackedJson

Id = BigInteger().with_variant(Integer, "sqlite")
"""A key that SQLite counts by itself and PostgreSQL holds in eight bytes."""


class Base(DeclarativeBase):
    """All tables of the store."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Record(Base):
    """What every record has."""

    __abstract__ = True
    record_type: ClassVar[str]

    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True, sort_order=-2)
    external_id: Mapped[str | None] = mapped_column(
        String(200), unique=True, sort_order=-1, comment="key in the system it came from"
    )
    occurred_at: Mapped[datetime] = mapped_column(Instant, comment="when it came to exist or happened")
    recorded_at: Mapped[datetime] = mapped_column(Instant, comment="when we learned of it")
    deleted_at: Mapped[datetime | None] = mapped_column(Instant)
    version: Mapped[int] = mapped_column(Integer, default=1, comment="counts edits; scores do not count")
    custom: Mapped[dict[str, Any] | None] = mapped_column(Json, comment="values of custom fields")


class Owned:
    """A record that somebody is responsible for."""

    @declared_attr
    def owner_id(cls) -> Mapped[int | None]:  # noqa: N805  SQLAlchemy calls it with the class
        """Return the column of the user who is responsible."""
        return mapped_column(ForeignKey("users.id"), index=True)


STEPS: Final = 200
"""Into so many steps probabilities are divided by the index that lists are ordered by.

An index of the probabilities themselves has a record's old and new place on pages of their own, nearly all
of it for a few thousand scores. In one of steps, records of a step stand by their ids, so that those that are
scored together share few pages. More steps make lists quicker to read, and scores slower to write.
"""


Probability = ColumnElement[float | None] | InstrumentedAttribute[float | None]


def step_of(probability: Probability) -> ColumnElement[int]:
    """Return which step a probability is on, as the index has it; below all others where there is none."""
    known = func.coalesce(probability, literal_column("-1"))
    return cast(known * literal_column(str(STEPS)), Integer)


def likeliest_first(probability: Probability) -> tuple[ColumnElement[Any], ...]:
    """Return how to sort by probability, falling, so that the index is of use; nothing comes last."""
    return step_of(probability).desc(), probability.desc().nulls_last()


def index_of_steps(table: str) -> Index:
    """Return the index by which lists of scored records are ordered."""
    return Index(f"ix_{table}_status_step", "status", step_of(literal_column("probability", Float())))


class Scored:
    """The newest prediction of a record, written by models only."""

    probability: Mapped[float | None] = mapped_column(comment="newest prediction, in [0, 1]")
    previous_probability: Mapped[float | None] = mapped_column(comment="the prediction before it")
    score: Mapped[int | None] = mapped_column(comment="probability's rank among open records, 0-100")
    grade: Mapped[str | None] = mapped_column(String(1), comment="A best to D")
    trend: Mapped[str | None] = mapped_column(String(8), comment="up, down or flat")
    reasons: Mapped[list[dict[str, Any]] | None] = mapped_column(PackedJson)
    scored_at: Mapped[datetime | None] = mapped_column(Instant, comment="as_of of the newest prediction")
    model_version: Mapped[str | None] = mapped_column(String(80))
