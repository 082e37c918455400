"""Conditional requests: what an answer is tagged with, and which versions an edit was made on.

A tag is `"VERSION-DIGEST"`. The digest is of the answer itself, so that a new score, another right or another
choice of fields makes another tag, and a 304 never hides any of them. An edit compares the version alone: it
counts what people and programs wrote, so a score that a model writes meanwhile never fails somebody's edit.
"""

from __future__ import annotations

import hashlib

from flask import Response, request
from pydantic import BaseModel, ConfigDict, Field

from serving.payloads import Parameters


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
            "`ETag` of the record as you know it: 412 if somebody has written it since. Only the version in "
            "it is compared, so scores that models write do not count."
        ),
    )

    def version(self, present: int) -> int | None:
        """Return the version that an edit of what has a present one was made on; None: any."""
        asked = versions_asked()
        return None if asked is None else present if present in asked else max(asked, default=0)


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
