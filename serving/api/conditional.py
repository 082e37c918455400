"""Conditional requests: what an answer is tagged with, and which versions an edit was made on.

A tag is `"VERSION-DIGEST"`. The digest is of the answer itself, so that a new score, another right or another
choice of fields makes another tag, and a 304 never hides any of them. An edit compares the version alone: it
counts what people and programs wrote, so a score that a model writes meanwhile never fails somebody's edit.
What counts no versions has a number made of what can be edited about it, which is another for anything else.
"""

from __future__ import annotations

import hashlib

from flask import Response, request
from pydantic import BaseModel, ConfigDict, Field

from crm_core.errors import StaleRecordError
from serving.api.blueprint import PREFIX
from serving.payloads import Parameters

_MARK = 7
"""Digits of a mark in base 16: below 10 decimal ones, as a version in a tag is."""


class ReadHeaders(Parameters):
    """What a reader has already."""

    model_config = ConfigDict(populate_by_name=True)

    if_none_match: str | None = Field(
        default=None,
        alias="If-None-Match",
        max_length=8_000,
        description="`ETag`s of answers that you have: 304 if one of them would come again.",
    )

    def answer(self, given: BaseModel, version: int) -> Response:
        """Return what is read with its tag, or 304 where its reader has it already."""
        return tagged(given.model_dump_json(), version)


class WriteHeaders(Parameters):
    """Which version an edit was made on."""

    model_config = ConfigDict(populate_by_name=True)

    if_match: str | None = Field(
        default=None,
        alias="If-Match",
        max_length=8_000,
        description=(
            "`ETag` of what you edit, as you know it: 412 if somebody has written it since. Only the version "
            "in it is compared, so scores that models write do not count."
        ),
    )

    def version(self, present: int) -> int | None:
        """Return the version that an edit of what has a present one was made on; None: any."""
        asked = versions_asked()
        return None if asked is None else present if present in asked else max(asked, default=0)

    def check(self, what: str, which: int, present: int) -> None:
        """Refuse an edit that was made on another version of something than the present one."""
        made_on = self.version(present)
        if made_on is not None and made_on != present:
            raise StaleRecordError(what, which, made_on, present)


def mark_of(said: BaseModel) -> int:
    """Return the number that stands for what something says that counts no versions."""
    return int(hashlib.sha256(said.model_dump_json().encode()).hexdigest()[:_MARK], 16)


def tag_of(version: int, body: str) -> str:
    """Return the tag of an answer about a record."""
    digest = hashlib.sha256(body.encode()).hexdigest()[:16]
    return f"{version}-{digest}"


def tagged(body: str, version: int, status: int = 200) -> Response:
    """Return an answer about one record with its tag; 304 without a body where a reader has it already."""
    tag = tag_of(version, body)
    if request.method in {"GET", "HEAD"} and request.if_none_match.contains_weak(tag):
        response = Response(status=304)
    else:
        response = Response(body, status=status, content_type="application/json")
    response.set_etag(tag)
    return response


def created(made: BaseModel, location: str, version: int | None = None) -> Response:
    """Return what was created, where it is below the API's prefix, and its tag if it can be edited."""
    body = made.model_dump_json()
    if version is None:
        response = Response(body, status=201, content_type="application/json")
    else:
        response = tagged(body, version, 201)
    response.headers["Location"] = f"{PREFIX}/{location}"
    return response


def versions_asked() -> frozenset[int] | None:
    """Return the versions that an edit may have been made on; None: any.

    A weak tag counts too: a proxy that compresses makes one, and the version in it is as exact as before.
    """
    if "If-Match" not in request.headers or request.if_match.star_tag:
        return None
    tags = request.if_match.as_set(include_weak=True)
    return frozenset(map(_version, tags))


def _version(tag: str) -> int:
    number = tag.split("-", 1)[0]
    return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0
