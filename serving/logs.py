"""Structured logs: one JSON object a line, without personal data and without secrets.

What goes into a line: event names, ids, counts, durations, error classes. Never names, addresses, texts of
records, bodies or query strings of requests, passwords or keys.
"""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import ExcInfo

FILE_BYTES = 5_000_000
FILES_KEPT = 3


def get_log(name: str) -> Any:  # noqa: ANN401  structlog's logger is loosely typed
    """Return the logger of a part of the program."""
    return structlog.stdlib.get_logger(name)


def start_logging(folder: Path | None, *, level: str, file: str = "crm.log") -> None:
    """Write what happens to `file` in `folder`, or to standard error without one.

    Every process has a file of its own: two could not agree on when to begin another.
    """
    handler: logging.Handler = logging.StreamHandler()
    if folder is not None:
        path = folder / file
        handler = _Rotating(path, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8")
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processors=_rendering(), foreign_pre_chain=_shared())
    )
    root = logging.getLogger("serving")
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    root.propagate = False
    # It warns of every request that has to wait for a thread; how long requests took is measured anyway.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


class _Rotating(RotatingFileHandler):
    """A file that begins anew once it is full, where its own looks at each line beforehand: written twice."""

    def shouldRollover(self, record: logging.LogRecord) -> int:  # noqa: N802  as logging has it
        """Tell whether the file has grown as large as it may."""
        return int(self.stream is not None and self.stream.tell() >= self.maxBytes)


def _shared() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _frames_only(exc_info: ExcInfo) -> list[dict[str, Any]]:
    """Return which error was raised and where, but no message and no locals: they may tell of somebody."""
    stacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)(exc_info)
    return [_without_words(stack) for stack in stacks]


def _without_words(stack: dict[str, Any]) -> dict[str, Any]:
    inner = [[_without_words(each) for each in group] for group in stack.get("exceptions", ())]
    return {**stack, "exc_value": "", "exc_notes": [], "syntax_error": None, "exceptions": inner}


def _rendering() -> list[Any]:
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.ExceptionRenderer(_frames_only),
        structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
    ]
