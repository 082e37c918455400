"""Who calls, and the API keys of people, over HTTP."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated

from flask import Response
from flask_openapi.blueprint import APIBlueprint
from pydantic import Field

from crm_core.access import check_may_see_keys
from crm_core.changes import Source
from crm_core.errors import AccessDeniedError, RecordNotFoundError
from crm_core.operations import Done, Operation, write_operations
from crm_core.records import Role
from crm_core.store import Transaction
from crm_core.tokens import (
    LONGEST_NAME,
    Holder,
    Scope,
    Token,
    issue_token,
    list_tokens,
    revoke_token,
    scopes_of,
)
from serving.api.blueprint import (
    answer,
    caller,
    documented,
    keep_no_body,
    key_holder,
    new_blueprint,
    requires,
)
from serving.api.conditional import created
from serving.journal import origin_of_request
from serving.payloads import Asked, Given, Id, Past, RecordPath, Taken, Utc
from serving.service import service, writing

api: APIBlueprint = new_blueprint("tokens", "Who calls, and the keys that programs call with.")


class MeOut(Given):
    """The caller, and what their key is for."""

    id: int
    name: str
    email: str
    role: str
    team_id: int | None
    language: str | None
    time_zone: str | None
    token_id: int
    scopes: list[Scope]
    expires_at: Utc | None = Field(description="When the key ends; null: never.")


class NewToken(Taken):
    """A key to be made."""

    name: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)] = Field(description="What it is for.")
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=20)] = Field(
        description="What it may be used for: no more than the key that it is made with."
    )
    expires_at: Past | None = Field(default=None, description="Null: when the key that it is made with ends.")


class TokenOut(Given):
    """A key, without the key."""

    id: int
    user_id: int
    name: str
    scopes: list[Scope]
    created_at: Utc
    last_used_at: Utc | None = Field(description="To about a minute.")
    expires_at: Utc | None
    revoked_at: Utc | None


class MadeToken(TokenOut):
    """A new key."""

    token: str = Field(description="The key. It cannot be read again.")


class TokensQuery(Asked):
    """Which keys."""

    everyone: bool = Field(default=False, description="Everybody's; for administrators.")
    limit: int = Field(default=50, ge=1, le=200, description="Keys on a page.")
    cursor: Id | None = Field(default=None, description="`next_cursor` of the page before.")


class TokensPage(Given):
    """Keys, newest first."""

    items: list[TokenOut]
    next_cursor: int | None = Field(description="Ask with it for the next page; null on the last.")


@api.get("/me", responses={"200": MeOut, **documented()})
def get_me() -> Response:
    """Tell who calls, and what their key is for."""
    user, holder = caller(), key_holder()
    own = MeOut(
        **{name: getattr(user, name) for name in MeOut.model_fields if hasattr(user, name)},
        token_id=holder.token_id,
        scopes=_sorted(holder.scopes),
        expires_at=holder.expires_at,
    )
    return answer(own)


@api.get("/tokens", operation_id="list_tokens", responses={"200": TokensPage, **documented()})
@requires(Scope.ADMIN)
def list_own_tokens(query: TokensQuery) -> Response:
    """List your keys, newest first; administrators may list everybody's."""
    if query.everyone:
        check_may_see_keys(caller())
    user_id = None if query.everyone else caller().id
    with service().store.reading() as session:
        found = list_tokens(session, user_id=user_id, before=query.cursor, limit=query.limit + 1)
        items = [_token_out(token) for token in found[: query.limit]]
    more = len(found) > query.limit
    return answer(TokensPage(items=items, next_cursor=items[-1].id if more else None))


@api.post(
    "/tokens", operation_id="create_token", responses={"201": MadeToken, **documented(400, 403, 413, 415)}
)
@requires(Scope.ADMIN)
def create_own_token(body: NewToken) -> Response:
    """Make a key for yourself, which may do no more and lasts no longer than the one it is made with."""
    holder = key_holder()
    _check_within(holder, body)
    keep_no_body()
    with writing(caller(), Source.API) as transaction:
        made = issue_token(
            transaction.session,
            user_id=caller().id,
            name=body.name,
            now=transaction.now,
            scopes=body.scopes,
            expires_at=body.expires_at or holder.expires_at,
        )
        _note(transaction, Done.TOKEN_MADE, made.token)
        told = MadeToken(**_token_out(made.token).model_dump(), token=made.key)
    return created(told, f"tokens/{told.id}")


@api.get("/tokens/<int:id>", responses={"200": TokenOut, **documented(404)})
@requires(Scope.ADMIN)
def get_token(path: RecordPath) -> Response:
    """Read one of your keys, without the key; administrators may read anybody's."""
    user = caller()
    with service().store.reading() as session:
        found = session.get(Token, path.id)
        if found is None or (user.role != Role.ADMIN and found.user_id != user.id):
            raise RecordNotFoundError("token", path.id)
        return answer(_token_out(found))


@api.delete("/tokens/<int:id>", operation_id="revoke_token", responses={"200": TokenOut, **documented(404)})
@requires(Scope.ADMIN)
def revoke_a_token(path: RecordPath) -> Response:
    """End one of your keys for good; administrators may end anybody's. Again, it changes nothing."""
    user = caller()
    whose = None if user.role == Role.ADMIN else user.id
    with writing(user, Source.API) as transaction:
        ended = revoke_token(transaction.session, path.id, now=transaction.now, user_id=whose)
        _note(transaction, Done.TOKEN_REVOKED, ended)
        told = _token_out(ended)
    return answer(told)


def _note(transaction: Transaction, done: Done, token: Token) -> None:
    origin = replace(origin_of_request(), token_id=token.id)
    write_operations(transaction.session, [Operation(at=transaction.now, done=done, origin=origin)])


def _check_within(holder: Holder, asked: NewToken) -> None:
    """Refuse a key that would open more, or for longer, than the one it is made with."""
    if beyond := set(asked.scopes) - holder.scopes:
        raise AccessDeniedError(f"the key may not make one with the scopes {', '.join(sorted(beyond))}")
    ends: datetime | None = asked.expires_at
    if holder.expires_at is not None and ends is not None and ends > holder.expires_at:
        raise AccessDeniedError(f"the key may not make one that lasts beyond {holder.expires_at:%F %T} UTC")


def _token_out(token: Token) -> TokenOut:
    plain = {name: getattr(token, name) for name in TokenOut.model_fields if name != "scopes"}
    return TokenOut(**plain, scopes=_sorted(scopes_of(token)))


def _sorted(scopes: frozenset[Scope]) -> list[Scope]:
    return [scope for scope in Scope if scope in scopes]
