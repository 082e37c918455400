"""What the operation log tells of; a module of its own: the command line names it without a database."""

from __future__ import annotations

from enum import StrEnum


class Done(StrEnum):
    """What somebody did."""

    LOGGED_IN = "logged_in"
    LOGGED_IN_BY_PROVIDER = "logged_in_by_provider"
    PROVIDER_REFUSED = "provider_refused"
    LOGIN_FAILED = "login_failed"
    LOGIN_LOCKED = "login_locked"
    LOGGED_OUT = "logged_out"
    LOGGED_OUT_EVERYWHERE = "logged_out_everywhere"
    PASSWORD_SET = "password_set"  # noqa: S105  a word
    TOKEN_MADE = "token_made"  # noqa: S105  a word
    TOKEN_REVOKED = "token_revoked"  # noqa: S105  a word
    READ = "read"
    LISTED = "listed"
    PERSON_FOUND = "person_found"
    PERSON_EXPORTED = "person_exported"
    PERSON_ERASED = "person_erased"
    RECORDS_EXPORTED = "records_exported"
    RIGHT_SET = "right_set"
    SETTING_SET = "setting_set"
    HANDED_OVER = "handed_over"
    MODEL_PROMOTED = "model_promoted"
    MODEL_ROLLED_BACK = "model_rolled_back"
