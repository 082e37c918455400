"""What notifications speak of: the names of records by the reader's rights, and the words of rules."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from crm_core.access import Reader
from crm_core.automation.kept import AutomationVersion
from crm_core.notifications import Notification, Occasion
from crm_core.records import RECORD_TYPES
from serving.finding import title_of

About = tuple[str | None, int | None]


def names_of(reader: Reader, found: Sequence[Notification]) -> dict[About, str]:
    """Return what the records are called that are told of, as far as the reader sees them now."""
    called: dict[About, str] = {}
    for record_type in {each.about_type for each in found} & RECORD_TYPES.keys():
        model = RECORD_TYPES[str(record_type)]
        ids = [each.about_id for each in found if each.about_type == record_type]
        for record in reader.session.scalars(reader.select(model).where(model.id.in_(ids))):
            called[record_type, record.id] = title_of(reader.masked(record))
    return called


def said_by_rules(session: Session, found: Sequence[Notification]) -> dict[int, object]:
    """Return by notification what rules of automation say: a text, or one by language."""
    told = {each.id: each.params for each in found if each.text == Occasion.AUTOMATION and each.params}
    rules = {(params["rule"], params["version"]) for params in told.values()}
    key = tuple_(AutomationVersion.rule_id, AutomationVersion.version)
    query = select(AutomationVersion).where(key.in_(rules))
    versions = (
        {(each.rule_id, each.version): each.declared for each in session.scalars(query)} if rules else {}
    )
    return {
        each: declared["actions"][params["action"]].get("text", "")
        for each, params in told.items()
        if (declared := versions.get((params["rule"], params["version"])))
    }
