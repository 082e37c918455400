"""The language and time zone of a page: the person's own, else the browser's, else the setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import flask_babel
from babel.support import Translations
from flask import g, has_request_context, request, session
from flask_login import current_user
from jinja2 import Environment

from serving.service import service

LANGUAGES = {"en": "English", "zh": "中文"}
"""What the pages speak, each named in itself."""


def choose_language() -> str:
    """Return the language of this answer."""
    if not has_request_context():
        return "en"
    if "form_language" in g:  # a stranger's page: nothing is read from a cookie
        return cast("str", g.form_language)
    if "caller" in g:  # a program's key, which is somebody's: nothing is read from a cookie here either
        accepted = request.accept_languages.best_match(LANGUAGES)
        return cast("str", g.caller.language or accepted or service().settings.language)
    chosen = current_user.user.language if current_user.is_authenticated else None
    for language in (chosen, session.get("language"), request.accept_languages.best_match(LANGUAGES)):
        if language in LANGUAGES:
            return cast("str", language)
    return service().settings.language


def choose_time_zone() -> str:
    """Return the time zone of this answer."""
    mine = current_user.user.time_zone if has_request_context() and current_user.is_authenticated else None
    return mine or service().settings.time_zone


def catalog() -> Translations:
    """Return the translations of this answer: looked up once, and again where its language has changed."""
    locale = flask_babel.get_locale()
    found: tuple[object, Translations] | None = g.get("catalog")
    if found is None or found[0] is not locale:
        found = g.catalog = (locale, flask_babel.get_translations())
    return found[1]


def let_templates_speak(environment: Environment) -> None:
    """Have templates take their words from `catalog`, of which they ask hundreds a page."""
    environment.install_gettext_callables(  # type: ignore[attr-defined]  # an extension puts it there
        gettext=lambda text: catalog().ugettext(text),
        ngettext=lambda one, many, count: catalog().ungettext(one, many, count),
        newstyle=True,
        pgettext=lambda context, text: catalog().upgettext(context, text),
        npgettext=lambda context, one, many, count: catalog().unpgettext(context, one, many, count),
    )


def gettext(text: str, **values: object) -> str:
    """Return `text` in the language of this answer."""
    return cast("str", flask_babel.gettext(text, **values))


def ngettext(one: str, many: str, count: int, **values: object) -> str:
    """Return the form of a text that fits `count`, in the language of this answer."""
    return cast("str", flask_babel.ngettext(one, many, count, **values))


def in_language(said: object) -> str:
    """Return a text of a declaration, given once or in both languages, in that of the page."""
    if isinstance(said, Mapping):
        return str(said.get(choose_language(), ""))
    return str(said)
