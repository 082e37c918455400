"""Every error the program raises on purpose.

CRMError
├── InvalidValueError              a value that a field cannot take
│   └── UnsafeTextError            NUL or a lone surrogate in a text
├── RecordNotFoundError            no such record
├── DuplicateExternalIdError       the external id is taken
├── StaleRecordError               the record changed since it was read
├── FutureEventError               something said to have happened later than now
├── UnknownFieldError              no such field on that record type
│   └── FieldRetiredError          a custom field that takes no values any more
├── UnknownRecordTypeError         no such record type, built in or declared
├── DeclarationError               a custom field or record type that cannot be declared like that
│   └── FieldAlreadyDeclaredError  a custom field declared twice with different meaning
├── FilterError                    a condition on a list that cannot be read
├── TemplateError                  a template that says what cannot be filled in
│   └── EmptyPlaceError            a place of a template whose value is missing
├── NotWrittenToError              somebody who did not agree to be written to
├── LeadNotOpenError               the lead is converted or disqualified already
├── MergeError                     two records that cannot be made one
├── HandoverError                  nobody to hand over to
├── ScoringOptOutError             somebody asked not to be scored
├── DealNotOpenError               the deal is won or lost already
├── StageNotInPipelineError        no such stage in the deal's pipeline
├── MissingFieldsError             the deal lacks fields that the stage requires
├── ChecklistOpenError             something on the stage's checklist is to be done first
├── QuoteStateError                a quote that is not where it would have to be for that
├── ApprovalNeededError            somebody has to approve it first
├── ApprovalDecidedError           the request was decided already, or has lapsed
├── AlertClosedError               the cause of the alert is over already
├── RuleLoopError                  a rule that would set off itself
├── AccessDeniedError              the role may not do that
├── LoginRefusedError              an identity provider does not vouch for somebody who works here
├── StoreNotInitialisedError       the database is missing or of another version
├── StoreBusyError                 somebody else keeps the database in use
├── SettingsError                  a setting that is unknown or has a bad value
├── HomeInUseError                 the home folder holds other data
├── BackupError                    a backup that cannot be taken, or is damaged
├── ConnectorError                 another system refused, or says what cannot be understood
├── MappingError                   an import mapping that cannot be used
│   └── SourceFileError            a file to import that is missing, damaged or not what the mapping says
├── ExportFolderError              a folder that an export cannot write to
├── JobError                       a job that was not done this time
│   └── HopelessJobError           a job that no further attempt can do
├── OutboundError                  a request to another system that went wrong
│   ├── AddressRefusedError        an address that requests must not go to
│   └── NoAnswerError              the other system cannot be reached, or does not speak HTTP
├── FeatureError                   a declaration of a feature that cannot hold
│   ├── OutcomeFieldError          a field written at the outcome used as an input
│   └── FeatureSetMismatchError    a model made for another feature set
├── TrainingError                  a training run that must not go on
│   ├── LeakageError               an input that knows the outcome
│   ├── NotEnoughDataError         too few outcomes to say anything
│   └── ScorecardError             a scorecard that cannot be used
└── ModelError                     a model that cannot serve
    ├── ModelNotFoundError         no such model or version
    ├── NoChampionError            no model promoted for the task
    ├── GateNotPassedError         the model is worse than the one that serves, or nothing tells yet
    └── DamagedModelError          the bytes are not those that were registered
"""

from __future__ import annotations

from datetime import timedelta

from crm_core.phrases import Phrase


class CRMError(Exception):
    """Root of all errors raised on purpose; the message is for the person who asked.

    Where parts are put into a message, it is a `Phrase`, so that a page can say it in its own language.
    """

    @property
    def phrase(self) -> str:
        """Return the message with its parts."""
        said = self.args[0] if self.args else ""
        return said if isinstance(said, str) else str(said)


class InvalidValueError(CRMError):
    """A value that a field cannot take."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        shown = repr(value)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        super().__init__(
            Phrase("{field}: expected {expected}, got {shown}", field=field, expected=expected, shown=shown)
        )
        self.field = field
        self.value = value
        self.expected = expected


class UnsafeTextError(InvalidValueError):
    """A text that databases and browsers disagree about: NUL or half of a surrogate pair."""


class RecordNotFoundError(CRMError):
    """No such record, or not one that the reader may see."""

    def __init__(self, record_type: str, record_id: int | str) -> None:
        super().__init__(
            Phrase("no {record_type} with id {record_id}", record_type=record_type, record_id=record_id)
        )
        self.record_type = record_type
        self.record_id = record_id


class DuplicateExternalIdError(CRMError):
    """The external id belongs to another record of the same type."""

    def __init__(self, record_type: str, external_id: str) -> None:
        super().__init__(
            Phrase(
                "a {record_type} with external id {external_id!r} exists already",
                record_type=record_type,
                external_id=external_id,
            )
        )
        self.record_type = record_type
        self.external_id = external_id


class StaleRecordError(CRMError):
    """The record has changed since the writer read it."""

    def __init__(self, record_type: str, record_id: int, expected: int, found: int) -> None:
        super().__init__(
            Phrase(
                "{record_type} {record_id} is at version {found}, the edit was made on version {version}",
                record_type=record_type,
                record_id=record_id,
                found=found,
                version=expected,
            )
        )
        self.record_type = record_type
        self.record_id = record_id
        self.expected = expected
        self.found = found


class FutureEventError(InvalidValueError):
    """Something said to have happened later than now."""


class UnknownFieldError(CRMError):
    """No such field on that record type."""

    def __init__(self, record_type: str, field: str) -> None:
        super().__init__(Phrase("{record_type} has no field {field!r}", record_type=record_type, field=field))
        self.record_type = record_type
        self.field = field


class FieldRetiredError(UnknownFieldError):
    """A custom field that takes no values any more; those that it has stay."""

    def __init__(self, record_type: str, field: str) -> None:
        super().__init__(record_type, field)
        self.args = (
            Phrase(
                "{record_type}.{field} is retired and takes no values; restore it to use it again",
                record_type=record_type,
                field=field,
            ),
        )


class UnknownRecordTypeError(CRMError):
    """No such record type, neither built in nor declared."""

    def __init__(self, record_type: str) -> None:
        super().__init__(
            Phrase(
                "there is no record type {record_type!r}, neither built in nor declared",
                record_type=record_type,
            )
        )
        self.record_type = record_type


class DeclarationError(CRMError):
    """A custom field or record type that cannot be declared like that."""


class FilterError(CRMError):
    """A condition on a list that cannot be read; the message says what was expected."""


class TemplateError(CRMError):
    """A template that says what cannot be filled in."""

    def __init__(self, place: str, expected: str) -> None:
        shown = place if len(place) <= 80 else f"{place[:77]}..."
        super().__init__(
            Phrase("the template says {shown!r}, expected {expected}", shown=shown, expected=expected)
        )
        self.place = place
        self.expected = expected


class EmptyPlaceError(TemplateError):
    """A place of a template whose value is missing, and that gives no default."""

    def __init__(self, place: str) -> None:
        super().__init__(place, "a value")
        self.args = (
            Phrase('{place} is empty: fill it in, or write {{{{ {place} | default("...") }}}}', place=place),
        )


class NotWrittenToError(CRMError):
    """Somebody who did not agree to be written to, took it back, or whom mails do not reach."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(Phrase("no mail to {address}: {why}", address=address, why=why))
        self.address = address
        self.why = why


class FieldAlreadyDeclaredError(DeclarationError):
    """A custom field exists with another type or another time of being known."""


class LeadNotOpenError(CRMError):
    """The lead is converted or disqualified already."""

    def __init__(self, lead_id: int, status: str) -> None:
        super().__init__(
            Phrase(
                "lead {lead_id} is {lead_status}, expected an open lead", lead_id=lead_id, lead_status=status
            )
        )
        self.lead_id = lead_id
        self.status = status


class MergeError(CRMError):
    """Two records that cannot be made one."""


class HandoverError(CRMError):
    """Nobody to hand over to."""


class ScoringOptOutError(CRMError):
    """Somebody whom the record is about asked not to be scored."""

    def __init__(self, record_type: str, record_id: int) -> None:
        super().__init__(
            Phrase(
                "{record_type} {record_id} is not scored: somebody it is about opted out",
                record_type=record_type,
                record_id=record_id,
            )
        )
        self.record_type = record_type
        self.record_id = record_id


class DealNotOpenError(CRMError):
    """The deal is won or lost already."""

    def __init__(self, deal_id: int, status: str) -> None:
        super().__init__(
            Phrase(
                "deal {deal_id} is {deal_status}, expected an open deal", deal_id=deal_id, deal_status=status
            )
        )
        self.deal_id = deal_id
        self.status = status


class StageNotInPipelineError(CRMError):
    """No such stage in the deal's pipeline."""

    def __init__(self, stage: str, known: tuple[str, ...]) -> None:
        super().__init__(
            Phrase(
                "stage {stage!r} is not in the pipeline; its stages are {stages}", stage=stage, stages=known
            )
        )
        self.stage = stage
        self.known = known


class MissingFieldsError(CRMError):
    """The deal lacks fields that the stage requires."""

    def __init__(self, deal_id: int, stage: str, fields: tuple[str, ...]) -> None:
        super().__init__(
            Phrase(
                "deal {deal_id} needs {deal_fields} before it can enter the stage {stage!r}",
                deal_id=deal_id,
                deal_fields=tuple(fields),
                stage=stage,
            )
        )
        self.deal_id = deal_id
        self.stage = stage
        self.fields = fields


class ChecklistOpenError(CRMError):
    """The deal cannot leave its stage before something on the stage's checklist is done."""

    def __init__(self, deal_id: int, stage: str, items: tuple[str, ...]) -> None:
        super().__init__(
            Phrase(
                "deal {deal_id} cannot leave the stage {stage!r} before: {items}",
                deal_id=deal_id,
                stage=stage,
                items="; ".join(items),
            )
        )
        self.deal_id = deal_id
        self.stage = stage
        self.items = items


class QuoteStateError(CRMError):
    """The quote is not where it would have to be for that."""

    def __init__(self, quote_id: int, status: str, expected: str) -> None:
        super().__init__(
            Phrase(
                "quote {quote_id} is {quote_status}, expected {expected}",
                quote_id=quote_id,
                quote_status=status,
                expected=expected,
            )
        )
        self.quote_id = quote_id
        self.status = status
        self.expected = expected


class ApprovalNeededError(CRMError):
    """Somebody else has to approve it first."""

    def __init__(self, quote_id: int, given_away: float, limit: float) -> None:
        super().__init__(
            Phrase(
                "quote {quote_id} gives {given_away:.2%} of the list price away, above the limit of"
                " {limit:.2%}:"
                " it needs an approval as it is now",
                quote_id=quote_id,
                given_away=given_away,
                limit=limit,
            )
        )
        self.quote_id = quote_id
        self.given_away = given_away
        self.limit = limit


class ApprovalDecidedError(CRMError):
    """The request for an approval was decided already, or has lapsed because what it is about changed."""

    def __init__(self, approval_id: int, state: str) -> None:
        super().__init__(
            Phrase(
                "approval {approval_id} is {approval_state}, expected one that waits",
                approval_id=approval_id,
                approval_state=state,
            )
        )
        self.approval_id = approval_id
        self.state = state


class AlertClosedError(CRMError):
    """The cause of the alert is over already: nothing is left to be done about it."""

    def __init__(self, alert_id: int, why: str) -> None:
        super().__init__(
            Phrase(
                "alert {alert_id} is closed ({closed_why}), expected one whose cause is not over",
                alert_id=alert_id,
                closed_why=why,
            )
        )
        self.alert_id = alert_id
        self.why = why


class RuleLoopError(CRMError):
    """A rule of automation that would set off itself, at once or through others."""

    def __init__(self, name: str, through: tuple[str, ...]) -> None:
        super().__init__(
            Phrase(
                "rule {name!r} would set off itself: {chain}; expected a trigger that waits for"
                " another value,"
                " or an action that writes another field",
                name=name,
                chain=" -> ".join((name, *through)),
            )
        )
        self.name = name
        self.through = through


class AccessDeniedError(CRMError):
    """The role may not do that."""


class LoginRefusedError(CRMError):
    """An identity provider does not vouch for somebody who works here."""


class StoreNotInitialisedError(CRMError):
    """The database is missing, empty or of another version."""


class StoreBusyError(CRMError):
    """Somebody else keeps the database in use, so that it cannot be written."""


class SettingsError(CRMError):
    """A setting that is unknown or has a bad value."""


class HomeInUseError(CRMError):
    """The home folder holds data that this would overwrite."""


class BackupError(CRMError):
    """A backup that cannot be taken, or one that is damaged or of another kind."""


class ConnectorError(CRMError):
    """Another system refused what it was asked, or its answer cannot be understood."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class MappingError(CRMError):
    """An import mapping that cannot be used."""


class SourceFileError(MappingError):
    """A file to import that is missing, damaged, or not what the mapping says of it."""


class ExportFolderError(CRMError):
    """A folder that an export cannot write to."""


class JobError(CRMError):
    """A job that was not done this time; it may say how long to wait before the next."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class HopelessJobError(JobError):
    """A job that no further attempt can do."""


class OutboundError(CRMError):
    """A request to another system that went wrong."""


class AddressRefusedError(OutboundError):
    """An address that requests must not go to: inside our own network, or written to look like another."""


class NoAnswerError(OutboundError):
    """The other system cannot be reached, takes too long, or does not speak HTTP."""


class FeatureError(CRMError):
    """A declaration of a feature that cannot hold."""


class OutcomeFieldError(FeatureError):
    """A field written at the outcome, used as an input."""


class FeatureSetMismatchError(FeatureError):
    """A model made for another feature set than the one at hand."""


class TrainingError(CRMError):
    """A training run that must not go on."""


class LeakageError(TrainingError):
    """An input that knows the outcome."""


class NotEnoughDataError(TrainingError):
    """Too few outcomes to say anything."""


class ScorecardError(TrainingError):
    """A scorecard that cannot be used."""


class ModelError(CRMError):
    """A model that cannot serve."""


class ModelNotFoundError(ModelError):
    """No such model or version."""


class NoChampionError(ModelError):
    """No model has been promoted for the task."""

    def __init__(self, task: str) -> None:
        super().__init__(Phrase("no champion for {task}; train one with: crm train {task}", task=task))
        self.task = task


class GateNotPassedError(ModelError):
    """A model that is worse than the one that serves, or that nothing tells apart from it yet."""

    def __init__(self, version: str, reason: str) -> None:
        super().__init__(
            Phrase(
                "{version} was not promoted: {gate}; promote it all the same with --overrule",
                version=version,
                gate=reason,
            )
        )
        self.version = version
        self.reason = reason


class ChampionChangedError(ModelError):
    """Another model was put in charge since somebody decided which one should be."""

    def __init__(self, task: str, found: str | None, by: str | None) -> None:
        super().__init__(
            Phrase(
                "{task}: {model} was put in charge meanwhile by {by}; look again",
                task=task,
                model=found or "nothing",
                by=by or "the program",
            )
        )
        self.task = task
        self.found = found
        self.by = by


class DamagedModelError(ModelError):
    """The bytes are not those that were registered."""
