"""The stages that deals pass through, as the program says; `crm_core.stage_settings` knows what was set."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from crm_core.errors import StageNotInPipelineError


@dataclass(frozen=True, kw_only=True)
class ChecklistItem:
    """Something to be done while a deal is in a stage; `required`: before it leaves for a later one."""

    text: str
    required: bool = False

    @property
    def key(self) -> str:
        """What a tick refers to: it is that of the text, so that another text is another thing to do."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class PlaybookTask:
    """A task that the owner of a deal gets when it enters a stage, due so many days after."""

    text: str
    due_days: int

    @property
    def key(self) -> str:
        """What says that a deal got it already."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: its key, its names, and after how many days in it a deal counts as stuck.

    `required` are the fields of a deal that must be filled before a person moves it here, `note` is what
    whoever moves one should know, `checklist` what is to be done in it, `playbook` the tasks that entering it
    makes.
    """

    key: str
    name_en: str
    name_zh: str
    rotting_days: int
    required: tuple[str, ...] = ()
    won: bool = False
    note: str | None = None
    checklist: tuple[ChecklistItem, ...] = ()
    playbook: tuple[PlaybookTask, ...] = ()


_OFFER = ("account_id", "amount", "currency")
"""What an offer says: to whom, and how much."""


DEFAULT_PIPELINE: tuple[Stage, ...] = (
    Stage(key="first_contact", name_en="First contact", name_zh="初步接触", rotting_days=14),
    Stage(key="needs", name_en="Needs", name_zh="需求沟通", rotting_days=21),
    Stage(
        key="proposal", name_en="Proposal and quote", name_zh="方案与报价", rotting_days=21, required=_OFFER
    ),
    Stage(
        key="negotiation",
        name_en="Negotiation",
        name_zh="商务谈判",
        rotting_days=30,
        required=(*_OFFER, "expected_close_on"),
    ),
    Stage(
        key="contract",
        name_en="Contract signed",
        name_zh="合同签署",
        rotting_days=30,
        required=_OFFER,
        won=True,
    ),
    Stage(key="paid", name_en="Paid", name_zh="回款完成", rotting_days=3650, required=_OFFER, won=True),
)
"""A deal is won when the contract is signed; payment follows."""

PIPELINES: dict[str, tuple[Stage, ...]] = {"default": DEFAULT_PIPELINE}


def get_stage(pipeline: str, key: str) -> Stage:
    """Return a stage of a pipeline by its key."""
    stages = PIPELINES.get(pipeline, ())
    for stage in stages:
        if stage.key == key:
            return stage
    raise StageNotInPipelineError(key, tuple(stage.key for stage in stages))


def comes_after(pipeline: str, stage: str, other: str) -> bool:
    """Say whether a stage stands behind another one."""
    stages = PIPELINES[pipeline]
    return stages.index(get_stage(pipeline, stage)) > stages.index(get_stage(pipeline, other))


def open_stages(pipeline: str = "default") -> tuple[Stage, ...]:
    """Return the stages of deals that are not won yet, in order."""
    return tuple(stage for stage in PIPELINES[pipeline] if not stage.won)
