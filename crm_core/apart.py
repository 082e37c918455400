"""One thing after another, so that one that cannot be done holds up none of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from sqlalchemy.exc import OperationalError

from crm_core.errors import StoreBusyError

T = TypeVar("T")


def each_apart(items: Iterable[T], do: Callable[[T], int]) -> int:
    """Do something with each of some items; return the sum of what that gives.

    What goes wrong with one of them is raised once the others are done, so that whoever calls is told of it
    and waits before they try again. What is the database's fault, and no item's, is raised at once.
    """
    done, failed = 0, list[Exception]()
    for item in items:
        try:
            done += do(item)
        except (OperationalError, StoreBusyError):
            raise
        except Exception as error:  # noqa: BLE001  whatever is wrong with one must not stop all that follow
            failed.append(error)
    if failed:
        raise failed[0]
    return done
