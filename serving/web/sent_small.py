"""Pages and our files as they go over the wire: small, and files only once.

A file's address carries what tells its version, so a browser may keep it for good and ask for nothing. Pages
are compressed with a name of random length inside: a page holds the token of its forms, and whoever sees only
how long answers are must learn nothing of it by having guesses shown beside it.
"""

from __future__ import annotations

import gzip
import io
import secrets
from pathlib import Path
from typing import Any

from flask import Flask, Response, current_app, request
from flask.sessions import SecureCookieSessionInterface, SessionMixin
from werkzeug.security import safe_join

LEAST_BYTES = 1_000
"""Shorter answers are hardly any shorter compressed."""

LONGEST_PAD = 100
FOR_GOOD = "private, max-age=31536000, immutable"
VERSION = "v"

_COMPRESSED = frozenset(
    {
        "text/html",
        "text/css",
        "text/javascript",
        "application/javascript",
        "image/svg+xml",
        "application/json",
    }
)
_KEPT: dict[tuple[str, str], bytes] = {}
"""Files compressed, by path and version."""


class _Sessions(SecureCookieSessionInterface):
    """Sessions that leave files alone: these are the same for everybody, whatever cookie comes with them."""

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Keep a session in the cookie of an answer."""
        if not _is_file(request.endpoint):
            super().save_session(app, session, response)


def register(app: Flask) -> None:
    """Have files told by their version, and answers compressed."""
    app.session_interface = _Sessions()
    app.url_defaults(_tell_version)
    app.after_request(_make_small)


def _tell_version(endpoint: str, values: dict[str, Any]) -> None:
    if _is_file(endpoint) and VERSION not in values:
        version = _version(endpoint, values.get("filename", ""))
        if version:
            values[VERSION] = version


def _is_file(endpoint: str | None) -> bool:
    return endpoint is not None and endpoint.endswith(".static")


def _version(endpoint: str, filename: str) -> str:
    """Return what changes when a file does; nothing for one that is not there."""
    folder = current_app.blueprints[endpoint.rpartition(".")[0]].static_folder
    path = safe_join(folder, filename) if folder else None
    try:
        found = Path(path).stat() if path else None
    except OSError:
        return ""
    return f"{found.st_mtime_ns ^ found.st_size:x}" if found else ""


def _make_small(response: Response) -> Response:
    if _is_file(request.endpoint):
        _let_keep(response)
    if not _may_be_small(response):
        return response
    response.vary.add("Accept-Encoding")
    if not request.accept_encodings.quality("gzip"):
        return response
    whole = _read(response)
    if len(whole) < LEAST_BYTES:
        return response
    response.set_data(_file_small(whole) if _is_file(request.endpoint) else _page_small(whole))
    response.headers["Content-Encoding"] = "gzip"
    tag, _ = response.get_etag()
    if tag is not None:
        response.set_etag(tag, weak=True)  # the same file, in other bytes
    return response


def _read(response: Response) -> bytes:
    """Return what an answer holds; a file that is open for it is closed."""
    opened, response.direct_passthrough = response.response, False
    whole = response.get_data()
    if hasattr(opened, "close"):
        opened.close()
    return whole


def _let_keep(response: Response) -> None:
    """Let a browser keep a file that is asked for by its version as it is now."""
    version = _version(request.endpoint or "", (request.view_args or {}).get("filename", ""))
    if response.status_code in {200, 304} and version and request.args.get(VERSION) == version:
        response.headers["Cache-Control"] = FOR_GOOD


def _may_be_small(response: Response) -> bool:
    """Tell whether an answer is a whole text for a person's browser; the API's answers stay as they are."""
    return (
        response.status_code in {200, 404, 409, 412, 422}
        and response.mimetype in _COMPRESSED
        and "Content-Encoding" not in response.headers
        and not response.headers.get("Content-Disposition", "").startswith("attachment")
        and not request.path.startswith("/api/v")
        and request.method == "GET"
    )


def _file_small(whole: bytes) -> bytes:
    key = (request.path, _version(request.endpoint or "", (request.view_args or {}).get("filename", "")))
    if key not in _KEPT:
        _KEPT[key] = gzip.compress(whole, compresslevel=9, mtime=0)
    return _KEPT[key]


def _page_small(whole: bytes) -> bytes:
    pad = "a" * secrets.randbelow(LONGEST_PAD)
    out = io.BytesIO()
    with gzip.GzipFile(filename=pad, mode="wb", compresslevel=4, fileobj=out, mtime=0) as written:
        written.write(whole)
    return out.getvalue()
