"""Saving rules: each change is a new version, and what cannot work is refused before anybody relies on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core.access import Reader, check_may_administer
from crm_core.alerts import Alert
from crm_core.automation.actions import Action, Assign, Mail, Notice, Pool, Renewal, Sequence, SetField, Task
from crm_core.automation.kept import AutomationRule, AutomationVersion, get_rule, list_rules
from crm_core.automation.loops import check_no_loop
from crm_core.automation.rules import Rule, read_rule
from crm_core.automation.triggers import (
    CREATED,
    DateReached,
    FieldChanged,
    Idle,
    ScoreCrossed,
    StageEntered,
)
from crm_core.bulk import loaded_form
from crm_core.changes import newest_sequence
from crm_core.columns import Day, Instant
from crm_core.declared import declarations
from crm_core.errors import InvalidValueError, RecordNotFoundError, StaleRecordError, UnknownFieldError
from crm_core.external_ids import hold_keys
from crm_core.fields import CUSTOM, FieldKind, model_of
from crm_core.filters import compile_filter
from crm_core.mail_templates import get_template
from crm_core.operations import Done, Operation, Origin, write_operations
from crm_core.phrases import Phrase
from crm_core.pipelines import get_stage
from crm_core.predictions import Prediction
from crm_core.records import (
    OUTCOME_FIELDS,
    RECORD_TYPES,
    SCORE_COLUMNS,
    Line,
    Owned,
    Payment,
    Quote,
    Record,
    Team,
    User,
)
from crm_core.sequences import get_sequence
from crm_core.store import Transaction
from crm_core.ticket_clocks import CLOCK_FIELDS
from crm_core.validation import check_values, columns_of

MOST_RULES: Final = 200

TASKS: Final = {"lead_scoring": "lead", "win_probability": "deal", "churn": "account"}
"""What models answer, and about which records."""

PEOPLE: Final = frozenset({"lead", "contact", "deal", "ticket"})
"""Record types that mails can be sent about: a person stands in them, or they name one."""

_KEPT: Final = SCORE_COLUMNS | {
    *{"id", "external_id", "occurred_at", "recorded_at", "deleted_at", "version", "custom", "type_id"},
    *{"owner_id", "merged_into_id", "erased_at", "password_hash", "scoring_opt_out", "consent", "consent_at"},
}
"""Fields that no rule sets: they are others' to write, or an action of their own does it."""

_BY_VERBS: Final[dict[str, frozenset[str]]] = {
    "ticket": CLOCK_FIELDS | {"closed_at", "account_id", "satisfaction", "satisfaction_comment"},
    "deal": frozenset({"pipeline"}),
    "quote": frozenset(Quote.__table__.columns.keys()),
    "line": frozenset(Line.__table__.columns.keys()),
    "order": frozenset({"number", "quote_id", "amount", "currency"}),
    "contract": frozenset({"number", "quote_id", "value", "currency", "starts_on", "ends_on"}),
    "payment": frozenset(Payment.__table__.columns.keys()),
    "user": frozenset(User.__table__.columns.keys()),
    "team": frozenset(Team.__table__.columns.keys()),
}
"""By record type what clocks, sums, approvals and rights hang on: only the verbs about it write it."""


def save_rule(
    transaction: Transaction,
    user: User,
    declared: Mapping[str, Any],
    *,
    origin: Origin,
    rule_id: int | None = None,
    version: int | None = None,
) -> AutomationRule:
    """Keep a rule, off at first, or a new version of one; `version` is that of the rule that was changed.

    Raises
    ------
    InvalidValueError, FilterError, UnknownFieldError, UnknownRecordTypeError, RecordNotFoundError
        For what the rule cannot mean here.
    RuleLoopError
        Where it would set off itself.
    StaleRecordError
        Where somebody has changed it since.
    """
    check_may_administer(user)
    session = transaction.session
    hold_keys(session, ["automation rules"])
    rule = read_rule(declared)
    _check_loops(session, rule, rule_id)
    check_rule(session, user, rule)
    kept = _new(session) if rule_id is None else _changed(session, rule_id, version)
    session.add(
        AutomationVersion(
            rule_id=kept.id,
            version=kept.version,
            declared=rule.as_json(),
            saved_by_id=user.id,
            saved_at=transaction.now,
        )
    )
    _note(transaction, origin, f"automation rule {kept.id}: version {kept.version}")
    return kept


def set_active(
    transaction: Transaction, user: User, rule_id: int, *, active: bool, origin: Origin
) -> AutomationRule:
    """Switch a rule on, for what happens from now on, or off; raise RuleLoopError as saving one does."""
    check_may_administer(user)
    session = transaction.session
    hold_keys(session, ["automation rules"])
    found = get_rule(session, rule_id)
    if found.kept.active == active:
        return found.kept
    if active:
        check_rule(session, user, found.rule)
        _check_loops(session, found.rule, rule_id)
        start(transaction, found.kept)
    found.kept.active = active
    _note(transaction, origin, f"automation rule {rule_id}: {'on' if active else 'off'}")
    session.flush()
    return found.kept


def start(transaction: Transaction, kept: AutomationRule) -> None:
    """Have a rule act on what happens from now on, and on nothing before."""
    session = transaction.session
    kept.active, kept.since = True, transaction.now
    kept.since_sequence = newest_sequence(session)
    kept.since_prediction = session.scalar(select(func.max(Prediction.id))) or 0
    kept.since_alert = session.scalar(select(func.max(Alert.id))) or 0


def _new(session: Session) -> AutomationRule:
    if (session.scalar(select(func.count(AutomationRule.id))) or 0) >= MOST_RULES:
        raise InvalidValueError("rules", MOST_RULES + 1, Phrase("at most {most} rules", most=MOST_RULES))
    made = AutomationRule(active=False, version=1, since_sequence=0, since_prediction=0, since_alert=0)
    session.add(made)
    session.flush()
    return made


def _changed(session: Session, rule_id: int, version: int | None) -> AutomationRule:
    kept = session.get(AutomationRule, rule_id, with_for_update=True, populate_existing=True)
    if kept is None:
        raise RecordNotFoundError("rule", rule_id)
    if version is not None and version != kept.version:
        raise StaleRecordError("rule", rule_id, version, kept.version)
    kept.version += 1
    session.flush()
    return kept


def _check_loops(session: Session, rule: Rule, rule_id: int | None) -> None:
    on = {each.kept.id: each.rule for each in list_rules(session) if each.kept.active}
    check_no_loop(on, rule, rule_id)


def _note(transaction: Transaction, origin: Origin, detail: str) -> None:
    operation = Operation(at=transaction.now, done=Done.SETTING_SET, origin=origin, detail=detail)
    write_operations(transaction.session, [operation])


# ---------------------------------------------------------------- what a rule may say here


def check_rule(session: Session, user: User, rule: Rule) -> None:
    """Raise for a field, stage, segment, team or person that is not there, or that the user may not use."""
    model = model_of(session, rule.record_type)
    compile_filter(Reader(session, user), rule.record_type, rule.condition)
    _check_trigger(session, rule, model)
    for number, action in enumerate(rule.actions):
        _check_action(session, user, rule, model, action, f"rule.actions.{number}")


def _check_trigger(session: Session, rule: Rule, model: type[Record]) -> None:
    match rule.trigger:
        case FieldChanged(field=field):
            _check_field(session, rule.record_type, model, field)
        case StageEntered(stage=stage, pipeline=pipeline):
            get_stage(pipeline, stage)
        case ScoreCrossed(task=task):
            if TASKS.get(task) != rule.record_type:
                known = ", ".join(f"{each} of a {about}" for each, about in TASKS.items())
                raise InvalidValueError("rule.trigger.task", task, known)
        case DateReached(field=field):
            if not _holds_dates(session, rule.record_type, model, field):
                raise InvalidValueError("rule.trigger.field", field, "a field that holds days or instants")
        case Idle(since=since, customers=customers):
            if since != CREATED:
                _check_field(session, rule.record_type, model, since)
            if customers and rule.record_type != "account":
                raise InvalidValueError("rule.trigger.customers", "true", "nothing: only accounts buy")


def _check_field(session: Session, record_type: str, model: type[Record], field: str) -> None:
    if field.startswith(CUSTOM):
        if field.removeprefix(CUSTOM) not in declarations(session).fields(record_type):
            raise UnknownFieldError(record_type, field)
    elif field not in columns_of(model) or field in SCORE_COLUMNS or field == "custom":
        raise UnknownFieldError(record_type, field)


def _holds_dates(session: Session, record_type: str, model: type[Record], field: str) -> bool:
    _check_field(session, record_type, model, field)
    if field.startswith(CUSTOM):
        declared = declarations(session).fields(record_type)[field.removeprefix(CUSTOM)]
        return declared.kind in {FieldKind.DAY, FieldKind.INSTANT}
    return isinstance(columns_of(model)[field].type, Day | Instant)


def _check_action(
    session: Session, user: User, rule: Rule, model: type[Record], action: Action, place: str
) -> None:
    for who in _named_by(action):
        _check_there(session, who, place)
    if isinstance(action, Assign | Pool) and not issubclass(model, Owned):
        raise InvalidValueError(place, model.record_type, "a record type that somebody is responsible for")
    if isinstance(action, Assign) and action.by is not None:
        _check_field(session, rule.record_type, model, action.by)
    if isinstance(action, SetField):
        _check_set(session, rule.record_type, model, action, place)
    if isinstance(action, Renewal) and rule.record_type != "contract":
        raise InvalidValueError(place, "renewal", "a rule about contracts")
    if isinstance(action, Mail | Sequence) and rule.record_type not in PEOPLE:
        raise InvalidValueError(
            place, "mail", Phrase("a rule about one of {targets}", targets=tuple(sorted(PEOPLE)))
        )
    if isinstance(action, Mail):
        get_template(session, user, action.template)
    if isinstance(action, Sequence):
        kind = "lead" if rule.record_type == "lead" else "contact"
        if get_sequence(session, action.sequence).record_type != kind:
            raise InvalidValueError(
                place, action.sequence, Phrase("a sequence for a {record_type}", record_type=kind)
            )


def _named_by(action: Action) -> tuple[str, ...]:
    """Return the texts of an action that name people."""
    if isinstance(action, Assign):
        return (*action.to, *(who for _, who in action.table))
    return action.to if isinstance(action, Task | Notice) else ()


def _check_set(session: Session, record_type: str, model: type[Record], action: SetField, place: str) -> None:
    _check_field(session, record_type, model, action.field)
    if action.field.startswith(CUSTOM):
        name = action.field.removeprefix(CUSTOM)
        declarations(session).stored(record_type, {name: action.value}, new=False)
        return
    others = OUTCOME_FIELDS.get(record_type, frozenset()) | _BY_VERBS.get(record_type, frozenset())
    if action.field in _KEPT or action.field in others:
        raise InvalidValueError(f"{place}.field", action.field, "a field that a rule may set")
    column = columns_of(model)[action.field]
    if action.value is None and not column.nullable:
        raise InvalidValueError(f"{place}.value", "null", "a value: the field is never empty")
    try:
        value = loaded_form(model, action.field, action.value)
    except (TypeError, ValueError, OverflowError, ArithmeticError):
        raise InvalidValueError(f"{place}.value", repr(action.value), "a value as it is stored") from None
    check_values(model, {action.field: value})


def _check_there(session: Session, who: str, place: str) -> None:
    kind, _, number = who.partition(":")
    if kind not in {"team", "user"}:
        return
    found = session.get(Team if kind == "team" else User, int(number))
    if found is None or found.deleted_at is not None:
        raise InvalidValueError(
            f"{place}.to",
            who,
            Phrase("a {record_type} that there is", record_type=RECORD_TYPES[kind].record_type),
        )
