"""How suggestions are said on pages."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from flask_babel import get_locale
from flask_babel import lazy_gettext as _

from serving.unusual import Unusual
from serving.web.language import gettext, ngettext
from serving.web.shown_as import money, number, percent
from serving.web.words import field_word

if TYPE_CHECKING:
    from models.next_step import Step

PARTS = {
    "morning": _("mornings"),
    "afternoon": _("afternoons"),
    "evening": _("evenings"),
}


STEPS = {
    "call": _("a call that got through"),
    "meeting": _("a meeting"),
    "mail": _("a mail to them"),
    "next_step": _("a task set"),
    "quote": _("a quote sent"),
}


def share_of(share: float) -> str:
    """Return a share of what was counted; small ones with a decimal, and none as none."""
    return percent(share, 1 if 0 < share < _SMALL else 0)


def points_of(low: float, high: float) -> dict[str, str]:
    """Return the bounds of a difference of shares, in points, the smaller first."""
    digits = 1 if max(abs(low), abs(high)) < _SMALL else 0
    return {"low": number(low * 100, digits), "high": number(high * 100, digits)}


_SMALL = 0.1


def ends_of(record_type: str, step: Step) -> str:
    """Return what went with a step in a sentence, as what went together."""
    from models.next_step import STEP_DAYS

    given = {
        "step": STEPS[step.action],
        "days": STEP_DAYS,
        "share": share_of(step.with_share),
        "share_else": share_of(step.without_share),
    }
    if record_type == "account":
        return gettext(
            "Customers that stood alike left less often after %(step)s within %(days)s days: "
            "%(share)s against %(share_else)s without",
            **given,
        )
    if record_type == "lead":
        return gettext(
            "Leads that stood alike were converted more often after %(step)s within %(days)s days: "
            "%(share)s against %(share_else)s without",
            **given,
        )
    return gettext(
        "Deals that stood alike were won more often after %(step)s within %(days)s days: "
        "%(share)s against %(share_else)s without",
        **given,
    )


def suggested_labels(field: str) -> str:
    """Return what a field, named as `record.field`, is called; one of a customer says so."""
    record_type, _sign, name = field.partition(".")
    return field_word(record_type, name)


def days_of(first: int, last: int, part: str) -> str:
    """Return a window of the week in words."""
    names = get_locale().days["format"]["abbreviated"]
    days = names[first] if first == last else f"{names[first]}-{names[last]}"
    if not part:
        return str(days)
    if (first, last) == (0, 4):
        return str(PARTS[part])
    return gettext("%(days)s, %(part)s", days=days, part=PARTS[part])


@dataclass(frozen=True, kw_only=True)
class Said:
    """What changed, and what was usual."""

    what: str
    usual: str


def said_unusual(item: Unusual) -> Said:
    """Return an unusual change in words."""
    now = _value(item, item.now)
    span = {
        "usual": _value(item, item.usual),
        "low": _value(item, _whole(item, item.low)),
        "high": _value(item, _whole(item, item.high)),
    }
    if item.source is None:
        return Said(
            what=gettext("%(measure)s: %(now)s", measure=_MEASURES[item.measure], now=now),
            usual=gettext("usual in a week: %(usual)s, mostly %(low)s to %(high)s", **span),
        )
    when = ngettext("in the last week", "in the last %(num)d weeks", item.weeks)
    if item.measure == "converted":
        when = ngettext(
            "of the newest week that is old enough",
            "of the newest %(num)d weeks that are old enough",
            item.weeks,
        )
    return Said(
        what=gettext(
            "%(measure)s %(when)s: %(now)s (%(records)s leads)",
            measure=_MEASURES[item.measure],
            when=when,
            now=now,
            records=number(item.records),
        ),
        usual=gettext("usual: %(usual)s, mostly %(low)s to %(high)s", **span),
    )


_MEASURES = {
    "opened": _("Deals opened in seven days"),
    "value": _("Value of deals opened in seven days"),
    "lost": _("Deals lost in seven days"),
    "stalled": _("Deals that came to a standstill in seven days"),
    "put_off": _("Close dates put off in seven days"),
    "score": _("Mean chance of new leads"),
    "converted": _("Converted within 30 days"),
}


def _whole(item: Unusual, bound: float) -> float:
    """Return the bound of a count as a count."""
    return bound if item.measure in {"score", "converted"} else float(round(bound))


def _value(item: Unusual, value: float) -> str:
    if item.measure in {"score", "converted"}:
        return share_of(value)
    if item.measure == "value":
        return money(Decimal(round(value)), item.currency)
    return number(value, 0 if value == int(value) else 1)
