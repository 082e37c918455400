"""What is done with leads and deals beside writing their fields: converting, disqualifying, closing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from flask import Response
from pydantic import BaseModel, Field, create_model, model_validator

from crm_core.access import Reader
from crm_core.changes import Source
from crm_core.deals import check_required, close_deal, reopen_deal
from crm_core.errors import InvalidValueError
from crm_core.leads import Conversion, convert_lead, disqualify_lead, reopen_lead
from crm_core.records import OUTCOME_FIELDS, Account, Contact, Deal, Lead, Record
from crm_core.store import Transaction
from serving.api.blueprint import answer, caller, documented
from serving.api.conditional import tagged
from serving.api.records import blueprint_of, sent
from serving.api.records_given import records_out, written_json
from serving.api.records_schemas import COLLECTIONS
from serving.editing import Editor, kind_of
from serving.payloads import Given, Id, Past, RecordPath, Taken
from serving.service import writing

api = blueprint_of("lead")
deals = blueprint_of("deal")

LeadOut, DealOut = COLLECTIONS["lead"].given, COLLECTIONS["deal"].given
_BODY = (400, 413, 415)

R = TypeVar("R", bound=Record)


class _Into(Taken):
    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("account", "contact"):
            if getattr(self, name) is not None and getattr(self, f"{name}_id") is not None:
                raise ValueError(f"expected either {name} or {name}_id")
        return self


def _or_none(kind: type[BaseModel], about: str) -> Any:  # noqa: ANN401  a field for pydantic
    return kind | None, Field(default=None, description=about)


ConvertIn: Any = create_model(
    "ConvertIn",
    __base__=_Into,
    __doc__="What becomes of a lead: new records are filled from it where nothing is said.",
    __module__=__name__,
    account_id=(Id | None, Field(default=None, description="An account that there is; default a new one.")),
    account=_or_none(COLLECTIONS["account"].patched, "What the new account says otherwise than the lead."),
    contact_id=(
        Id | None,
        Field(
            default=None, description="A contact that there is; default a new one, if the lead has a name."
        ),
    ),
    contact=_or_none(COLLECTIONS["contact"].patched, "What the new contact says otherwise than the lead."),
    deal=_or_none(COLLECTIONS["deal"].taken, "The deal that begins; default none."),
    occurred_at=(Past | None, Field(default=None, description="When it was converted; default now.")),
)

_PARTS: dict[str, Any] = {
    name: (COLLECTIONS[name].given | None, ...) for name in ("account", "contact", "deal")
}
ConversionOut: Any = create_model(
    "ConversionOut",
    __base__=Given,
    __doc__="What became of a lead, as far as you may see it.",
    __module__=__name__,
    lead=(LeadOut, ...),
    **_PARTS,
)


class DisqualifyIn(Taken):
    """Why a lead will not buy."""

    reason: Annotated[str, Field(min_length=1, max_length=200)]
    occurred_at: Past | None = Field(default=None, description="When that was clear; default now.")


class CloseIn(Taken):
    """How a deal ended."""

    outcome: Literal["won", "lost"]
    reason: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="Why it was lost."
    )
    occurred_at: Past | None = Field(default=None, description="When it ended; default now.")


class ReopenIn(Taken):
    """When something was opened again."""

    occurred_at: Past | None = Field(default=None, description="Default now.")


@api.post(
    "/leads/<int:id>/convert",
    operation_id="convert_lead",
    responses={"200": ConversionOut, **documented(*_BODY, 403, 404, 409)},
)
def convert(path: RecordPath, body: ConvertIn) -> Response:
    """Turn an open lead into an account, a contact and a deal; sent again, it changes nothing."""
    with writing(caller(), Source.API) as transaction:
        editor = Editor(transaction, caller())
        lead = cast("Lead", editor.get_to_write(kind_of(transaction.session, "lead"), path.id))
        editor.reader.check_fields("lead", sorted(OUTCOME_FIELDS["lead"] - {"disqualified_reason"}))
        return answer(_conversion_out(editor.reader, lead, _convert(editor, lead, body)))


def _convert(editor: Editor, lead: Lead, body: Any) -> Conversion:  # noqa: ANN401  a ConvertIn
    contact = _party(editor, "contact", body.contact_id, body.contact)
    account_id = body.account_id or _account_of(contact, body)
    account = _party(editor, "account", account_id, body.account)
    deal = _deal(editor, body.deal)
    made = convert_lead(
        editor.transaction,
        lead,
        account=cast("Account | None", account),
        contact=cast("Contact | None", contact),
        deal=deal,
        occurred_at=body.occurred_at,
    )
    if deal is not None and made.deal is deal:
        check_required(editor.transaction.session, deal, deal.stage)
    return made


def _account_of(contact: Record | None, body: Any) -> int | None:  # noqa: ANN401  as above
    """Return the account of a contact that there is: the lead's too, unless another one is named."""
    held = contact.account_id if isinstance(contact, Contact) and contact.id is not None else None
    if held is not None and body.account is not None:
        raise InvalidValueError("account", "a new one", f"nothing: the contact is at account {held}")
    return held


def _party(editor: Editor, name: str, record_id: int | None, new: BaseModel | None) -> Record | None:
    """Return an account or contact that there is and may be seen, or a new one; None: the lead says all."""
    kind = kind_of(editor.transaction.session, name)
    if record_id is not None:
        seen = editor.reader.select(kind.model).where(kind.model.id == record_id)
        found = editor.transaction.session.scalars(seen).one_or_none()
        if found is None:
            raise InvalidValueError(f"{name}_id", record_id, f"the id of a {name} that you may see")
        return found
    if new is None:
        editor.reader.check_may_create(kind.model)
        return None
    return editor.prepare(kind, sent(new))


def _deal(editor: Editor, new: BaseModel | None) -> Deal | None:
    if new is None:
        return None
    values = sent(new)
    for name in ("account_id", "contact_id"):
        if values.get(name) is not None:
            raise InvalidValueError(f"deal.{name}", values[name], "nothing: the deal is that of the lead")
    return cast("Deal", editor.prepare(kind_of(editor.transaction.session, "deal"), values))


def _conversion_out(reader: Reader, lead: Lead, made: Conversion) -> BaseModel:
    reader.session.flush()
    parts = {"lead": lead, "account": made.account, "contact": made.contact, "deal": made.deal}
    given = {name: _seen(reader, record) for name, record in parts.items()}
    found: BaseModel = ConversionOut(**given)
    return found


def _seen(reader: Reader, record: Record | None) -> BaseModel | None:
    """Return what is given of a record if it may be seen."""
    if record is None:
        return None
    model = type(record)
    query = reader.select(model).where(model.id == record.id).execution_options(populate_existing=True)
    found = reader.session.scalars(query).one_or_none()
    return None if found is None else records_out(reader, COLLECTIONS[model.record_type], [found])[0]


@api.post(
    "/leads/<int:id>/disqualify",
    operation_id="disqualify_lead",
    responses={"200": LeadOut, **documented(*_BODY, 403, 404, 409)},
)
def disqualify(path: RecordPath, body: DisqualifyIn) -> Response:
    """Close an open lead as one that will not buy."""

    def act(transaction: Transaction, lead: Lead) -> None:
        disqualify_lead(transaction, lead, reason=body.reason, occurred_at=body.occurred_at)

    return acting(Lead, path.id, ("status", "disqualified_reason"), act)


@api.post(
    "/leads/<int:id>/reopen",
    operation_id="reopen_lead",
    responses={"200": LeadOut, **documented(*_BODY, 403, 404, 409)},
)
def reopen_disqualified(path: RecordPath, body: ReopenIn) -> Response:
    """Open a disqualified lead again."""

    def act(transaction: Transaction, lead: Lead) -> None:
        reopen_lead(transaction, lead, occurred_at=body.occurred_at)

    return acting(Lead, path.id, ("status", "disqualified_reason"), act)


@deals.post(
    "/deals/<int:id>/close",
    operation_id="close_deal",
    responses={"200": DealOut, **documented(*_BODY, 403, 404, 409)},
)
def close(path: RecordPath, body: CloseIn) -> Response:
    """Close an open deal as won, which moves it to the first won stage, or as lost."""
    won = body.outcome == "won"
    if won and body.reason is not None:
        raise InvalidValueError("reason", body.reason, "nothing: only what is lost has a reason")

    def act(transaction: Transaction, deal: Deal) -> None:
        close_deal(transaction, deal, won=won, lost_reason=body.reason, occurred_at=body.occurred_at)

    return acting(Deal, path.id, ("status", "closed_at", "stage" if won else "lost_reason"), act)


@deals.post(
    "/deals/<int:id>/reopen",
    operation_id="reopen_deal",
    responses={"200": DealOut, **documented(*_BODY, 403, 404, 409)},
)
def reopen_closed(path: RecordPath, body: ReopenIn) -> Response:
    """Open a closed deal again; one that was won goes back to the last open stage."""

    def act(transaction: Transaction, deal: Deal) -> None:
        reopen_deal(transaction, deal, occurred_at=body.occurred_at)

    return acting(Deal, path.id, ("status", "closed_at", "lost_reason", "stage"), act)


def acting(
    model: type[R], record_id: int, fields: tuple[str, ...], act: Callable[[Transaction, R], None]
) -> Response:
    """Do something to a record of which the caller may change `fields`; answer with what it is then."""
    with writing(caller(), Source.API) as transaction:
        editor = Editor(transaction, caller())
        record = editor.get_to_write(kind_of(transaction.session, model.record_type), record_id)
        editor.reader.check_fields(model.record_type, fields)
        act(transaction, cast("R", record))
        given = written_json(editor.reader, record)
    return tagged(given, record.version)
