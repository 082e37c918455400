"""The page of any record, as far as all of them are alike: facts, steps, comments and timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crm_core.access import Reader
from crm_core.records import Activity, Role, User
from crm_core.records import Record as AnyRecord
from serving.editing import Kind
from serving.steps import list_steps
from serving.web import happened
from serving.web.facts import Fact, may_write, names_of_people, read_facts
from serving.web.places import list_path, path_of, title_in, type_word


@dataclass(frozen=True, kw_only=True)
class About:
    """What the shared parts of a page are told: `key` is the record's type, which may be declared, and id."""

    kind: Kind
    key: tuple[str, int]
    title: str
    type_word: str
    version: int
    facts: Sequence[Fact]
    may_write: bool
    may_talk: bool
    steps: Sequence[Activity]
    timeline: happened.Page
    people: Mapping[int | None, str]

    @property
    def path(self) -> str:
        """Return the address of the record's page."""
        return path_of(*self.key) or list_path(self.key[0])

    @property
    def parts(self) -> str:
        """Return below which address the parts of the page are."""
        return f"/records/{self.key[0]}/{self.key[1]}"

    @property
    def list_path(self) -> str:
        """Return the address of the list that the record is in."""
        return list_path(self.key[0])


def read_about(
    reader: Reader,
    kind: Kind,
    record: AnyRecord,
    *,
    group: str = "all",
    cursor: str | None = None,
    silent: bool | None = None,
    steps: Sequence[Activity] | None = None,
) -> About:
    """Return what the shared parts show of a record that the reader sees; `silent`: no scores are shown.

    `steps` are its next steps where they were read already.
    """
    people = names_of_people(reader.session)
    return About(
        kind=kind,
        key=(kind.name, record.id),
        title=title_in(reader, record),
        type_word=type_word(reader, kind.name),
        version=record.version,
        facts=read_facts(reader, kind, record, people),
        may_write=may_write(reader, kind, record),
        may_talk=may_talk(reader.user),
        steps=list_steps(reader, record) if steps is None else steps,
        timeline=happened.read_page(reader, kind, record, group=group, cursor=cursor, silent=silent),
        people=people,
    )


def may_talk(user: User) -> bool:
    """Return whether somebody may log, comment and put files on what they see."""
    return user.role != Role.ANALYST


def asked_of(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return which page of the timeline an address asks for."""
    return {"group": args.get("kinds", "all"), "cursor": args.get("before") or None}
