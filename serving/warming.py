"""What the first clicks would wait for, done while a process starts: pages compiled, copies compared."""

from __future__ import annotations

import threading
from typing import Final

from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from crm_core.duplicates import COMPARED, list_duplicates
from crm_core.records import RECORD_TYPES
from crm_core.store import Store
from crm_core.won_deals import recent_won_deals
from serving.copies import LIKELY
from serving.logs import get_log
from serving.web.home import FOLDER

MOST_COMPARED: Final = 50_000
"""Records of a type that are compared before anybody asks; more would take minutes."""

_log = get_log("serving.warming")


def begin_warming(app: Flask, store: Store) -> threading.Thread:
    """Begin to do it in a thread; nobody has to wait for that."""
    thread = threading.Thread(target=_warm, args=(app, store), name="warming", daemon=True)
    thread.start()
    return thread


def _warm(app: Flask, store: Store) -> None:
    compile_pages(app)
    try:
        recent_won_deals(store)
        compare_copies(store)
    except SQLAlchemyError as error:  # whoever asks is told
        _log.warning("not compared ahead", error=type(error).__name__)


def compile_pages(app: Flask) -> None:
    """Compile the templates of all pages; each takes ten milliseconds or more at its first use."""
    for path in sorted((FOLDER / "templates").rglob("*.html")):
        app.jinja_env.get_template(path.relative_to(FOLDER / "templates").as_posix())


def compare_copies(store: Store) -> None:
    """Find the records that may be the same, which are kept until something that is compared changes."""
    with store.reading() as session:
        for record_type in COMPARED:
            if (
                session.scalar(select(func.count()).select_from(RECORD_TYPES[record_type])) or 0
            ) <= MOST_COMPARED:
                list_duplicates(session, record_type, at_least=LIKELY)
