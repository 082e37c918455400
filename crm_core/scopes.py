"""What keys may be made for; a module of its own, so that the command line names them without a database."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """Something that a key may be made for; it never gives more than its user may do."""

    READ = "read"
    WRITE = "write"
    SCORE = "score"
    MODELS = "models"
    PEOPLE = "people"
    INTAKE = "intake"
    ADMIN = "admin"
