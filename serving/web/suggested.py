"""How suggestions are said on pages."""

from __future__ import annotations

from flask_babel import get_locale
from flask_babel import lazy_gettext as _

from serving.web.language import gettext
from serving.web.words import field_word

PARTS = {
    "morning": _("mornings"),
    "afternoon": _("afternoons"),
    "evening": _("evenings"),
}


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
