"""The tasks by name."""

from __future__ import annotations

from crm_core.errors import ModelNotFoundError
from crm_core.phrases import Phrase
from models import churn, lead_scoring, win_probability
from models.in_the_end import with_endings
from models.task import Task

TASKS: dict[str, Task] = {
    task.name: with_endings(task) for task in (lead_scoring.TASK, win_probability.TASK, churn.TASK)
}
"""Every task."""


def get_task(name: str) -> Task:
    """Return a task by its name."""
    if name not in TASKS:
        raise ModelNotFoundError(
            Phrase("no task {name!r}; expected one of {choices}", name=name, choices=tuple(TASKS))
        )
    return TASKS[name]
