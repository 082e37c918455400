"""What an administrator sets of the stages of a pipeline, in place of what `crm_core.pipelines` says.

Names, the days after which a deal counts as stuck, the fields that a deal needs before it enters, a note for
whoever moves one there, what is to be done in the stage, and the tasks that entering it makes can be set.
Keys, order, and which stages are won cannot: histories, features and trained models refer to them. Features
measure a stage by the days of the program, so that a score means the same before and after a setting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from crm_core.columns import Instant, Json, check_text
from crm_core.declared import declarations
from crm_core.errors import InvalidValueError, StageNotInPipelineError, StaleRecordError
from crm_core.external_ids import hold_keys
from crm_core.fields import CUSTOM
from crm_core.phrases import Phrase
from crm_core.pipelines import PIPELINES, ChecklistItem, PlaybookTask, Stage, get_stage
from crm_core.recall import recalled_by_readers
from crm_core.records import OUTCOME_FIELDS, SCORE_COLUMNS, Base, Deal, User
from crm_core.store import Transaction
from crm_core.validation import columns_of

LONGEST_NAME: Final = 80
LONGEST_NOTE: Final = 500
MOST_DAYS: Final = 3650
LONGEST_ITEM: Final = 200
MOST_ITEMS: Final = 30

_NEVER_REQUIRED: Final = SCORE_COLUMNS | OUTCOME_FIELDS["deal"] | {"custom", "deleted_at", "external_id"}


_CACHE: Final = "stages"


class StageSetting(Base):
    """What was set of one stage; NULL is what the program says.

    A row stays when all of it is taken back, so that its version goes on counting.
    """

    __tablename__ = "stage_settings"

    pipeline: Mapped[str] = mapped_column(String(80), primary_key=True)
    stage: Mapped[str] = mapped_column(String(80), primary_key=True)
    name_en: Mapped[str | None] = mapped_column(String(LONGEST_NAME))
    name_zh: Mapped[str | None] = mapped_column(String(LONGEST_NAME))
    rotting_days: Mapped[int | None] = mapped_column(comment="days after which a deal in it counts as stuck")
    required: Mapped[list[str] | None] = mapped_column(
        Json, comment="fields that a deal needs before it enters; custom.NAME of a declared one"
    )
    note: Mapped[str | None] = mapped_column(String(LONGEST_NOTE), comment="for whoever moves a deal there")
    checklist: Mapped[list[dict[str, Any]] | None] = mapped_column(
        Json, comment="what is to be done in it: text, and whether before the deal leaves"
    )
    playbook: Mapped[list[dict[str, Any]] | None] = mapped_column(
        Json, comment="tasks that entering it makes: text, and after how many days they are due"
    )
    version: Mapped[int] = mapped_column(default=1, comment="counts changes")
    set_by_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    set_at: Mapped[datetime] = mapped_column(Instant)


@dataclass(frozen=True, kw_only=True)
class SetStage:
    """A stage as it is, as the program says it, and the version of its setting; 0 where it never had one."""

    stage: Stage
    default: Stage
    version: int

    @property
    def is_set(self) -> bool:
        """Whether anything of it was set."""
        return self.stage != self.default


# ------------------------------------------------------------------------------------------------ reading


def stages_of(session: Session, pipeline: str = "default") -> tuple[Stage, ...]:
    """Return the stages of a pipeline in their order, as they were set; none of a pipeline that is not there.

    Read once a session, and again after a setting in it; whoever only reads may get what was known a moment
    ago. A required field that was retired is left out: no deal could get a value any more.
    """
    if _CACHE not in session.info:
        session.info[_CACHE] = recalled_by_readers(session, _CACHE, lambda: _read(session))
    known: Mapping[str, tuple[Stage, ...]] = session.info[_CACHE]
    return known.get(pipeline, ())


def stage_of(session: Session, pipeline: str, key: str) -> Stage:
    """Return a stage as it was set, by its key; raise StageNotInPipelineError."""
    stages = stages_of(session, pipeline)
    for stage in stages:
        if stage.key == key:
            return stage
    raise StageNotInPipelineError(key, tuple(stage.key for stage in stages))


def list_stages(session: Session, pipeline: str) -> list[SetStage]:
    """Return the stages of a pipeline beside what the program says of each, read anew."""
    rows = _rows(session)
    return [
        SetStage(
            stage=_as_set(session, stage, found := rows.get((pipeline, stage.key))),
            default=stage,
            version=0 if found is None else found.version,
        )
        for stage in PIPELINES.get(pipeline, ())
    ]


def requirable_fields(session: Session) -> list[str]:
    """Return the fields of deals that a stage may require: those that may be empty, and are not retired."""
    plain = [
        name for name, column in columns_of(Deal).items() if column.nullable and name not in _NEVER_REQUIRED
    ]
    declared = declarations(session).fields("deal").items()
    return [*plain, *(f"{CUSTOM}{name}" for name, field in declared if not field.retired)]


def _read(session: Session) -> Mapping[str, tuple[Stage, ...]]:
    rows = _rows(session)
    return {
        pipeline: tuple(_as_set(session, stage, rows.get((pipeline, stage.key))) for stage in stages)
        for pipeline, stages in PIPELINES.items()
    }


def _rows(session: Session) -> dict[tuple[str, str], StageSetting]:
    return {(row.pipeline, row.stage): row for row in session.scalars(select(StageSetting))}


def _as_set(session: Session, stage: Stage, row: StageSetting | None) -> Stage:
    if row is None:
        return stage
    return replace(
        stage,
        name_en=row.name_en or stage.name_en,
        name_zh=row.name_zh or stage.name_zh,
        rotting_days=row.rotting_days or stage.rotting_days,
        required=stage.required if row.required is None else _still_there(session, row.required),
        note=row.note,
        checklist=tuple(ChecklistItem(**each) for each in row.checklist or ()),
        playbook=tuple(PlaybookTask(**each) for each in row.playbook or ()),
    )


def _still_there(session: Session, required: Sequence[str]) -> tuple[str, ...]:
    if not any(name.startswith(CUSTOM) for name in required):
        return tuple(required)
    known = set(requirable_fields(session))
    return tuple(name for name in required if name in known)


# ------------------------------------------------------------------------------------------------ setting


def set_stage(
    transaction: Transaction, user: User, pipeline: str, wanted: Stage, *, version: int | None = None
) -> bool:
    """Set a stage, named by its key, to what is wanted; what the program says is no setting.

    Return whether anything changed. `version` is that of the setting which whoever sets it saw.

    Raises
    ------
    StageNotInPipelineError
        For a pipeline or key that is not there.
    InvalidValueError
        For an empty name, days out of bounds, or a field that is none of `requirable_fields`.
    StaleRecordError
        Where the setting has another version by now.
    """
    default = get_stage(pipeline, wanted.key)
    checked = _checked(transaction.session, replace(wanted, won=default.won))
    hold_keys(transaction.session, [f"stage:{pipeline}:{wanted.key}"])
    row = transaction.session.get(StageSetting, (pipeline, wanted.key), populate_existing=True)
    known = 0 if row is None else row.version
    if version is not None and version != known:
        raise StaleRecordError("stage", 0, version, known)
    if _as_set(transaction.session, default, row) == checked:
        return False
    if row is None:
        row = StageSetting(pipeline=pipeline, stage=wanted.key, version=0)
        transaction.session.add(row)
    _write(row, checked, default)
    row.version, row.set_by_id, row.set_at = known + 1, user.id, transaction.now
    transaction.session.flush()
    transaction.session.info.pop(_CACHE, None)
    return True


def reset_stage(
    transaction: Transaction, user: User, pipeline: str, key: str, *, version: int | None = None
) -> bool:
    """Take back all that was set of a stage; return whether anything was."""
    return set_stage(transaction, user, pipeline, get_stage(pipeline, key), version=version)


def _write(row: StageSetting, wanted: Stage, default: Stage) -> None:
    row.name_en = None if wanted.name_en == default.name_en else wanted.name_en
    row.name_zh = None if wanted.name_zh == default.name_zh else wanted.name_zh
    row.rotting_days = None if wanted.rotting_days == default.rotting_days else wanted.rotting_days
    row.required = None if wanted.required == default.required else list(wanted.required)
    row.note = wanted.note
    row.checklist = [{"text": each.text, "required": each.required} for each in wanted.checklist] or None
    row.playbook = [{"text": each.text, "due_days": each.due_days} for each in wanted.playbook] or None


def _checked(session: Session, wanted: Stage) -> Stage:
    if not 1 <= wanted.rotting_days <= MOST_DAYS:
        raise InvalidValueError(
            "rotting_days", wanted.rotting_days, Phrase("a number of days, 1 to {most:,}", most=MOST_DAYS)
        )
    note = check_text("note", (wanted.note or "").strip(), longest=LONGEST_NOTE)
    return replace(
        wanted,
        name_en=_name("name_en", wanted.name_en),
        name_zh=_name("name_zh", wanted.name_zh),
        required=_required(session, wanted),
        note=note or None,
        checklist=_checklist(wanted),
        playbook=_playbook(wanted),
    )


def _checklist(wanted: Stage) -> tuple[ChecklistItem, ...]:
    texts = _texts("checklist", [each.text for each in wanted.checklist])
    return tuple(replace(each, text=text) for each, text in zip(wanted.checklist, texts, strict=True))


def _playbook(wanted: Stage) -> tuple[PlaybookTask, ...]:
    for each in wanted.playbook:
        if not 0 <= each.due_days <= MOST_DAYS:
            raise InvalidValueError(
                "playbook", each.due_days, Phrase("a number of days, 0 to {most:,}", most=MOST_DAYS)
            )
    texts = _texts("playbook", [each.text for each in wanted.playbook])
    return tuple(replace(each, text=text) for each, text in zip(wanted.playbook, texts, strict=True))


def _texts(field: str, said: Sequence[str]) -> list[str]:
    """Return what somebody wrote down, each once and none of it empty."""
    texts = [check_text(field, text.strip(), longest=LONGEST_ITEM) for text in said]
    if len(texts) > MOST_ITEMS or not all(texts) or len(set(texts)) < len(texts):
        raise InvalidValueError(
            field, len(texts), Phrase("at most {most} different texts, none of them empty", most=MOST_ITEMS)
        )
    return texts


def _name(field: str, said: str) -> str:
    name = check_text(field, said.strip(), longest=LONGEST_NAME)
    if not name:
        raise InvalidValueError(field, said, "a name")
    return name


def _required(session: Session, wanted: Stage) -> tuple[str, ...]:
    """Return the required fields in a settled order, each once."""
    known = requirable_fields(session)
    for name in wanted.required:
        if name not in known:
            raise InvalidValueError("required", name, "fields of deals that may be empty")
    return tuple(sorted(set(wanted.required), key=known.index))
