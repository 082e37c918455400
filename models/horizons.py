"""A horizon in words: within so many days, or in the end where nobody can say when."""

from __future__ import annotations

from crm_core.predictions import IN_THE_END_DAYS


def within(days: int) -> str:
    """Return "within 90 days", or "in the end"."""
    return "in the end" if days == IN_THE_END_DAYS else f"within {days} days"


def within_zh(days: int) -> str:
    """Return the same in Chinese."""
    return "最终" if days == IN_THE_END_DAYS else f"在 {days} 天内"
