"""Small made-up histories with all that is hard in them, written through the store, in whole or in part.

Times lie on a grid of half days, so that events fall together and on the very edges of windows all the time.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from crm_core.changes import Source
from crm_core.clock import DAY, FixedClock, instant
from crm_core.fields import FieldKind, Known, declare_field
from crm_core.records import RECORD_TYPES, Campaign, Contact, Record, Team, User
from crm_core.store import Store, Transaction

T = TypeVar("T")
Choose = Callable[[Sequence[Any]], Any]

BEGIN = 20_089 * DAY
"""2025-01-01."""
LENGTH = 420
"""Days that a world lasts."""
END = BEGIN + (LENGTH + 1) * DAY
BUSY = (60, 150, 290, 400)
"""Days before which much happens: good ones to ask from."""

PEOPLE = ("ana", "ben")
TEAMS = ("north", "south")
ENTITIES = {"account": 2, "lead": 2, "deal": 2}
OTHERS = ("lead", "deal")
"""Records that nobody asks about, from whose outcomes rates are counted."""
EVENTS = ("activity", "order", "ticket", "contract", "payment", "quote", "campaign_member")
STAGES = ("first_contact", "needs", "proposal", "negotiation")

WORDS = (None, "a", "b", "丙")
MONEY = (None, Decimal(0), Decimal("99.95"), Decimal(1500), Decimal("0.0001"))

OFTEN = {"lead": ("status", "status", "status"), "deal": ("expected_close_on", "expected_close_on", "status")}
"""Fields that are edited more often than others."""

_numbers = itertools.count()


@dataclass(frozen=True)
class Write:
    """One write: what, to which record (by its label), when it happened and when it was recorded."""

    action: str
    record_type: str
    label: str
    occurred_at: int
    recorded_at: int
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def visible_at(self) -> int:
        """When it can first be known."""
        return max(self.occurred_at, self.recorded_at)


@dataclass(frozen=True)
class World:
    """Writes in their order: as things became known (`in_order`), or as one late import brought them."""

    writes: tuple[Write, ...]
    in_order: bool

    def known_at(self, as_of: int) -> World:
        """The world as it would be if nobody had written anything later than `as_of`."""
        kept = (
            w
            for w in self.writes
            if w.visible_at <= as_of or (w.record_type in ENTITIES and w.action == "create")
        )
        return World(tuple(kept), self.in_order)

    def followed_by(self, writes: Sequence[Write]) -> World:
        """The world with more written after all."""
        return World((*self.writes, *writes), self.in_order)


def make_world(choose: Choose, size: int, others: int = 28) -> World:
    """A world of `size` writes after its six records exist, and `others` leads and deals beside them."""
    entities = _entities(choose)
    writes: list[Write] = []
    for number in range(size):
        writes.append(_write(choose, number, [*entities, *writes]))
    writes += _others(choose, others)
    in_order = choose((True, True, False))
    writes += _moves(choose)
    if in_order:
        writes.sort(key=lambda write: write.visible_at)
    else:
        writes = [write for write in writes if write.action != "delete"]
    return World((*entities, *writes), in_order)


def poison(as_of: int) -> list[Write]:
    """Absurd writes that became known only after `as_of`, about things before and after it."""
    later = as_of + DAY // 2
    writes = []
    for number, (kind, happened) in enumerate(
        itertools.product(EVENTS, (as_of - DAY, as_of, as_of + 1, later))
    ):
        links = dict.fromkeys(_links(kind), 1)
        values = {**_absurd(kind), **links}
        writes.append(Write("create", kind, f"poison{number}", happened, later, values))
    for entity, count in ENTITIES.items():
        for number, happened in itertools.product(range(count), (as_of - DAY, as_of, later)):
            values = _absurd(entity)
            writes.append(Write("update", entity, f"{entity}{number}", happened, later, values))
    for happened in (as_of - DAY, as_of, later):
        writes += [Write("update", "user", name, happened, later, {"team_id": 1}) for name in PEOPLE]
        writes += [Write("update", "team", name, happened, later, {"name": "poison"}) for name in TEAMS]
    for record_type, wanted in (("lead", "converted"), ("deal", "won")):
        for number, happened in itertools.product(range(3), (as_of - 30 * DAY, as_of - DAY)):
            changed = {"status": wanted, "owner_id": 2, "source": "b"}
            writes.append(Write("update", record_type, other(record_type, number), happened, later, changed))
        for number in range(3):
            values = {**_must(record_type), "status": "open", "source": "a", "owner_id": 1}
            label = f"poison {record_type}{number}"
            writes.append(Write("create", record_type, label, as_of - 200 * DAY, later, values))
    return writes


def write_world(world: World, folder: Path, template: Path) -> Store:
    """A new store with the world in it."""
    path = folder / f"world{next(_numbers)}.db"
    shutil.copy(template, path)
    return fill_store(world, f"sqlite:///{path}")


def fill_store(world: World, url: str) -> Store:
    """The store at `url`, so far empty, with the world in it."""
    clock = FixedClock(instant(END))
    store = Store(url, clock=clock)
    records: dict[str, Record] = {}
    with store.transaction(source=Source.IMPORT) as opened:
        _declare(opened.session)
        for name, team in zip(PEOPLE, TEAMS, strict=True):
            born = {"occurred_at": instant(BEGIN), "recorded_at": instant(BEGIN)}
            records[team] = opened.create(Team(name=team, **born))
            records[name] = opened.create(User(name=name, email=name, role="rep", **born))
            opened.create(Contact(name=name))
        opened.create(Campaign(name="fair"))
        for write in world.writes:
            clock.set(instant(write.visible_at if world.in_order else END))
            step = Transaction(opened.session, clock=clock, source=Source.IMPORT, actor_id=None)
            _apply(step, write, records)
        opened.session.flush()
    clock.set(instant(END))
    return store


def ids_of(record_type: str) -> list[int]:
    """The ids of the records of a type that every world has."""
    return list(range(1, ENTITIES[record_type] + 1))


def _declare(session: Session) -> None:
    for name, kind, known in (
        ("landing_page", FieldKind.TEXT, Known.CREATION),
        ("budget", FieldKind.NUMBER, Known.HISTORY),
        ("vip", FieldKind.FLAG, Known.HISTORY),
        ("trial_ends", FieldKind.DAY, Known.HISTORY),
        ("demo_at", FieldKind.INSTANT, Known.HISTORY),
        ("won_category", FieldKind.TEXT, Known.OUTCOME),
        ("imported_score", FieldKind.NUMBER, Known.UNKNOWN),
    ):
        declare_field(session, record_type="lead", name=f"custom.{name}", kind=kind, known=known)


def _apply(step: Transaction, write: Write, records: dict[str, Record]) -> None:
    times = {"occurred_at": instant(write.occurred_at), "recorded_at": instant(write.recorded_at)}
    record = records.get(write.label)
    if write.action == "create":
        records[write.label] = step.create(RECORD_TYPES[write.record_type](**write.values, **times))
    elif record is None or record.deleted_at is not None:
        return
    elif write.action == "delete":
        step.delete(record)
    else:
        step.update(record, write.values, **times)


def _entities(choose: Choose) -> list[Write]:
    writes = []
    for record_type, count in ENTITIES.items():
        for number in range(count):
            born = BEGIN + choose((0, 1, 20)) * DAY
            learned = born + choose((0, 0, 3)) * DAY
            values = {**_fields(choose, record_type), **_must(record_type)}
            writes.append(Write("create", record_type, f"{record_type}{number}", born, learned, values))
    return writes


def _others(choose: Choose, count: int) -> list[Write]:
    """Records beside those asked about: most are open at first, and some reach their outcome."""
    writes = []
    for record_type in OTHERS:
        for number in range(count):
            label = other(record_type, number)
            born = BEGIN + choose((0, 10, 40, 100)) * DAY
            fields = {**_fields(choose, record_type), "status": choose(("open",) * 9 + ("won",))}
            if record_type == "lead" and fields["status"] == "won":
                fields["status"] = "converted"
            learned = born + choose((0, 0, 3)) * DAY
            writes.append(
                Write("create", record_type, label, born, learned, {**fields, **_must(record_type)})
            )
            for _ in range(choose((1, 2))):
                happened = born + choose((1, 8, 30, 31, 90, 130)) * DAY
                known = max(happened + choose((0, 0, 2, 60)) * DAY, learned)
                wanted = "converted" if record_type == "lead" else "won"
                values = choose(({"status": wanted}, {"status": "open"}, {"owner_id": 2}, {"source": "b"}))
                if record_type == "deal":
                    values = choose((values, {"stage": "proposal"}))
                writes.append(Write("update", record_type, label, happened, known, values))
            if choose((False,) * 9 + (True,)):
                gone = max(write.visible_at for write in writes if write.label == label) + DAY
                writes.append(Write("delete", record_type, label, gone, gone))
    return writes


def _moves(choose: Choose) -> list[Write]:
    """People who come to another team, and teams that are renamed: learned late, or told ahead."""
    writes = []
    for name in PEOPLE:
        for busy in BUSY[:3]:
            happened = BEGIN + (2 * busy - choose((-1, 0, 1, 90))) * DAY // 2
            learned = max(happened + choose((0, 0, 60, -3)) * DAY, BEGIN)
            team = {"team_id": choose((None, 1, 1, 2, 2))}
            writes.append(Write("update", "user", name, happened, learned, team))
    renamed = BEGIN + BUSY[2] * DAY + choose((-1, 0, 1)) * DAY // 2
    writes.append(
        Write("update", "team", choose(TEAMS), renamed, renamed + choose((0, 30)) * DAY, {"name": "丁"})
    )
    return writes


def other(record_type: str, number: int) -> str:
    """The label of a record that nobody asks about."""
    return f"other {record_type}{number}"


def _write(choose: Choose, number: int, before: list[Write]) -> Write:
    happened = (
        BEGIN
        + choose((*range(2 * LENGTH), *(2 * busy - back for busy in BUSY for back in range(60)))) * DAY // 2
    )
    late = choose((0, 0, 0, 0, 1, 14, 90, -3))
    learned = min(happened + late * DAY, END - DAY)
    kind = choose(("create", "create", "create", "update", "update", "delete"))
    if kind == "create":
        event = choose(("activity", "activity", "activity", *EVENTS))
        values = {**_fields(choose, event), **_linked(choose, event)}
        return Write("create", event, f"event{number}", happened, learned, values)
    target = choose(choose((before, before[: sum(ENTITIES.values())], before[: sum(ENTITIES.values())])))
    if kind == "delete" and target.record_type not in ENTITIES:
        return Write("delete", target.record_type, target.label, learned, learned)
    happened, learned = max(happened, target.visible_at), max(learned, target.visible_at)
    values = _edit(choose, target.record_type)
    return Write("update", target.record_type, target.label, happened, learned, values)


def _edit(choose: Choose, record_type: str) -> dict[str, Any]:
    fields = {
        **_fields(choose, record_type),
        **(_linked(choose, record_type) if record_type in EVENTS else {}),
    }
    if record_type == "lead":
        fields |= {f"custom.{name}": value for name, value in fields.pop("custom", {}).items()}
    name = choose((*sorted(fields), *OFTEN.get(record_type, ()), *OFTEN.get(record_type, ())))
    return {name: fields[name]}


def _must(record_type: str) -> dict[str, Any]:
    if record_type == "deal":
        return {"name": "deal", "stage": "first_contact"}
    return {"name": record_type} if record_type == "account" else {}


def _fields(choose: Choose, record_type: str) -> dict[str, Any]:
    build: Callable[[Choose], dict[str, Any]] = {
        "account": _account,
        "lead": _lead,
        "deal": _deal,
        "activity": _activity,
        "order": lambda choose: {"amount": _money(choose)},
        "ticket": _ticket,
        "contract": _contract,
        "payment": _payment,
        "quote": _quote,
        "campaign_member": _campaign_member,
    }[record_type]
    return build(choose)


def _account(choose: Choose) -> dict[str, Any]:
    return {
        "industry": choose(WORDS),
        "region": choose((None, "n", "s")),
        "employees": choose((None, 0, 12)),
        "phone": choose(WORDS),
        "owner_id": choose((None, 1, 2)),
    }


def _lead(choose: Choose) -> dict[str, Any]:
    custom = {
        "landing_page": choose(WORDS),
        "budget": choose((None, 0, 2.5)),
        "vip": choose((None, True, False)),
        "trial_ends": choose((None, 20_100)),
        "demo_at": choose((None, BEGIN + 5 * DAY)),
    }
    return {
        "source": choose(WORDS),
        "campaign": choose(WORDS),
        "phone": choose(WORDS),
        "email": choose((None, "a@gmail.com", "b@qq.example.com", "c@firm.example.com")),
        "status": choose(("open", "open", "converted", "disqualified")),
        "industry": choose((None, "x", "y")),
        "region": choose((None, "n")),
        "employees": choose((None, 7)),
        "owner_id": choose((None, 1, 2)),
        "custom": custom,
    }


def _deal(choose: Choose) -> dict[str, Any]:
    return {
        "stage": choose(STAGES),
        "status": choose(("open", "open", "won", "lost")),
        "amount": _money(choose),
        "expected_close_on": choose((None, _day(choose), _day(choose))),
        "source": choose(WORDS),
        "competitors": choose((None, [], ["a"], ["a", "b"], ["b", "c"])),
        "owner_id": choose((None, 1, 2)),
        "account_id": choose((None, 1, 2)),
    }


def _activity(choose: Choose) -> dict[str, Any]:
    return {
        "kind": choose(("mail", "mail", "call", "meeting", "visit", "web")),
        "direction": choose((None, "inbound", "outbound")),
        "outcome": choose((None, "connected", "no answer", "no answer")),
        "contact_id": choose((None, 1, 2)),
    }


def _ticket(choose: Choose) -> dict[str, Any]:
    return {
        "subject": "t",
        "status": choose(("open", "pending", "solved", "closed")),
        "satisfaction": choose((None, 1, 5)),
        "solve_breached_at": choose((None, instant(END))),
    }


def _contract(choose: Choose) -> dict[str, Any]:
    day = _day(choose)
    return {
        "starts_on": day,
        "ends_on": day + timedelta(days=choose((0, 60, 90, 120, 365))),
        "value": _money(choose),
        "status": choose(("active", "active", "active", "renewed", "cancelled", "ended")),
    }


def _payment(choose: Choose) -> dict[str, Any]:
    paid = choose((None, BEGIN + 100 * DAY, BEGIN + 250 * DAY))
    return {
        "amount": Decimal(1),
        "due_on": choose((None, _day(choose), _day(choose))),
        "paid_at": None if paid is None else instant(paid),
    }


def _quote(choose: Choose) -> dict[str, Any]:
    return {
        "number": "Q",
        "status": choose(("sent", "rejected", "accepted")),
        "discount": choose((None, 0.1)),
        "sent_at": choose((None, instant(END), instant(END))),
    }


def _campaign_member(choose: Choose) -> dict[str, Any]:
    return {"campaign_id": 1, "responded_at": choose((None, instant(END)))}


def _day(choose: Choose) -> date:
    days: int = choose((0, 30, 90, 200, 400))
    return date(2025, 1, 1) + timedelta(days=days)


def _money(choose: Choose) -> Decimal | None:
    amount: Decimal | None = choose(MONEY)
    return amount


def _linked(choose: Choose, event: str) -> dict[str, Any]:
    links = _links(event)
    if len(links) == 1:
        return {links[0]: choose((1, 2))}
    return {link: choose((None, 1, 2, 2)) for link in links}


def _links(event: str) -> tuple[str, ...]:
    if event == "activity":
        return ("lead_id", "deal_id", "account_id")
    return ({"quote": "deal_id", "campaign_member": "lead_id"}.get(event, "account_id"),)


def _absurd(record_type: str) -> dict[str, Any]:
    money = Decimal(900_000_000_000_000)
    values: dict[str, dict[str, Any]] = {
        "account": {"industry": "poison", "employees": 99_999_999},
        "lead": {"source": "poison", "employees": 99_999_999, "status": "converted", "custom.budget": 1e300},
        "deal": {"stage": "paid", "amount": money, "expected_close_on": date(9999, 1, 1), "account_id": 2},
        "activity": {"kind": "call", "direction": "inbound", "outcome": "poison"},
        "order": {"amount": money},
        "ticket": {"subject": "poison", "satisfaction": 5},
        "contract": {"starts_on": date(2000, 1, 1), "ends_on": date(9999, 1, 1), "value": money},
        "quote": {"number": "poison", "status": "rejected", "sent_at": instant(END)},
        "campaign_member": {"campaign_id": 1, "responded_at": instant(END)},
        "payment": {"amount": money, "due_on": date(2000, 1, 1)},
    }
    return values[record_type]
