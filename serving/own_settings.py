"""What people set of themselves: their name, language and time zone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from zoneinfo import available_timezones

from crm_core.errors import InvalidValueError
from crm_core.records import User
from crm_core.store import Transaction


def set_own(transaction: Transaction, user: User, values: Mapping[str, str]) -> User:
    """Keep somebody's own name, language or time zone; raise InvalidValueError for what makes no sense."""
    if not values.get("name", "-").strip():
        raise InvalidValueError("name", values["name"], "a name")
    if values.get("time_zone", "UTC") not in time_zones():
        raise InvalidValueError("time_zone", values["time_zone"], "a time zone such as Asia/Shanghai")
    found = transaction.get(User, user.id)
    transaction.update(found, dict(values))
    return found


@cache
def time_zones() -> tuple[str, ...]:
    """Return the time zones that somebody may choose: those of a place, and UTC."""
    known = (zone for zone in available_timezones() if "/" in zone and not zone.startswith(_NOT_PLACES))
    return ("UTC", *sorted(known))


_NOT_PLACES = ("Etc/", "SystemV/", "US/", "posix/", "right/")
