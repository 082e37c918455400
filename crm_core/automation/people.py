"""Whom a rule means: the owner of a record, who leads them, a role, a team; and whose turn it is.

Those who have left are never meant. A record that belongs to nobody by itself has the owner of the customer,
deal, lead or contact that it is about.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import date, timedelta
from functools import cached_property
from typing import Final

from sqlalchemy import func, select, true
from sqlalchemy.orm import Session

from crm_core.access import OWNERS
from crm_core.alerting import managers_of
from crm_core.automation.actions import MANAGER, OWNER
from crm_core.automation.kept import AutomationTurn
from crm_core.handover import OPEN
from crm_core.records import RECORD_TYPES, Record, Role, Team, User
from crm_core.tokens import works_here
from crm_core.validation import columns_of
from crm_core.working_time import WorkingTime, list_absent

_FIRST_OF: Final = (Role.REP, Role.MANAGER)
"""Who of a team works its records: its reps, and where it has none its managers."""


class People:
    """Who works here, asked in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._managers: dict[int, list[int]] = {}
        self._loads: dict[type[Record], dict[int, int]] = {}

    def owner_of(self, record: Record) -> int | None:
        """Return who is responsible for a record, if they work here."""
        owner = getattr(record, "owner_id", None)
        if owner is None:
            owner = next((found for found in self._owners_around(record) if found is not None), None)
        return owner if owner in self.here else None

    def named(self, who: str, record: Record) -> list[int]:
        """Return whom a text means, without trying anybody else; see `crm_core.automation.actions`."""
        kind, _, rest = who.partition(":")
        return self._meant[kind](record, rest)

    def reached(self, who: str, record: Record) -> list[int]:
        """Return the same; where it is nobody, who leads the owner, and then administrators.

        A record without an owner has nobody who could be told as such.
        """
        found = self.named(who, record)
        if found or who == OWNER:
            return found
        leading = self.named(MANAGER, record) if who != MANAGER else []
        return leading or [user.id for user in self.here.values() if user.role == Role.ADMIN]

    def language_of(self, user_id: int) -> str | None:
        """Return the language that somebody reads, if they said so."""
        return self.here[user_id].language

    @cached_property
    def here(self) -> dict[int, User]:
        """Those who work here, by id."""
        users = self._session.scalars(select(User).order_by(User.id))
        return {user.id: user for user in users if works_here(user)}

    @cached_property
    def _meant(self) -> dict[str, Callable[[Record, str], list[int]]]:
        return {
            OWNER: lambda record, _: [owner] if (owner := self.owner_of(record)) is not None else [],
            MANAGER: lambda record, _: self._managers_of(self.owner_of(record)),
            "role": lambda _, role: [user.id for user in self.here.values() if user.role == role],
            "team": lambda _, team: self._team(int(team)),
            "user": lambda _, user: [int(user)] if int(user) in self.here else [],
            "called": lambda _, names: self._team_called(names.split("|")),
        }

    def _owners_around(self, record: Record) -> Sequence[int | None]:
        found: list[int | None] = []
        links = [(getattr(record, column), name) for column, name in OWNERS.get(record.record_type, ())]
        links.append((getattr(record, "subject_id", None), getattr(record, "subject_type", None) or ""))
        for linked, name in links:
            about = None if linked is None else self._session.get(RECORD_TYPES[name], linked)
            found.append(getattr(about, "owner_id", None))
        return found

    def _managers_of(self, user_id: int | None) -> list[int]:
        if user_id is None:
            return []
        if user_id not in self._managers:
            found = managers_of(self._session, self.here[user_id])
            self._managers[user_id] = [user.id for user in found]
        return self._managers[user_id]

    def _team(self, team_id: int) -> list[int]:
        team = [user for user in self.here.values() if user.team_id == team_id]
        for role in _FIRST_OF:
            if found := [user.id for user in team if user.role == role]:
                return found
        return []

    def _team_called(self, names: Sequence[str]) -> list[int]:
        wanted = {name.strip().casefold() for name in names}
        teams = self._session.execute(select(Team.id, Team.name).where(Team.deleted_at.is_(None)))
        found = [team for team, name in teams.all() if name.strip().casefold() in wanted]
        return [user for team in sorted(found) for user in self._team(team)]

    # ---------------------------------------------------------------- whose turn it is

    def forget_loads(self) -> None:
        """Count anew what people have to do: what was given to somebody was taken back."""
        self._loads.clear()

    def next_of(
        self,
        rule_id: int,
        place: str,
        people: Collection[int],
        *,
        away: Collection[int] = (),
        most: tuple[type[Record], int] | None = None,
    ) -> int | None:
        """Return who comes after the one chosen last, of those who are there and have less than `most`."""
        free = [each for each in sorted(people) if each not in away and self._has_room(each, most)]
        if not free:
            return None
        turn = self._session.get(AutomationTurn, (rule_id, place))
        if turn is None:
            turn = AutomationTurn(rule_id=rule_id, place=place, user_id=0)
            self._session.add(turn)
        turn.user_id = next((each for each in free if each > turn.user_id), free[0])
        if most is not None:
            self._loads[most[0]][turn.user_id] = self._loads[most[0]].get(turn.user_id, 0) + 1
        return turn.user_id

    def _has_room(self, user_id: int, most: tuple[type[Record], int] | None) -> bool:
        if most is None:
            return True
        model, number = most
        if model not in self._loads:
            self._loads[model] = self._count_open(model)
        return self._loads[model].get(user_id, 0) < number

    def _count_open(self, model: type[Record]) -> dict[int, int]:
        columns = columns_of(model)
        query = select(columns["owner_id"], func.count()).where(
            columns["owner_id"].is_not(None), columns["deleted_at"].is_(None), OPEN.get(model, true())
        )
        rows = self._session.execute(query.group_by(columns["owner_id"])).all()
        return {owner: count for owner, count in rows if owner is not None}


def away_next(session: Session, working: WorkingTime, today: date) -> set[int]:
    """Return who is away on the next day that is worked: today, or the first day after a holiday."""
    day = today
    for _ in range(31):
        if working.is_working_day(day):
            break
        day += timedelta(days=1)
    return list_absent(session, day)
