"""Salesforce by its REST API: queries in the order of changes, and collections of up to 200 records.

Scores go to custom fields of leads, opportunities and accounts. Records that came from there are updated by
their id; those born here are upserted by an external-id field, so that sending again makes no second one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final
from urllib.parse import quote

from crm_core.connections import Outcome
from crm_core.errors import ConnectorError
from serving.connectors.calls import Caller, Login
from serving.connectors.connections import Connection
from serving.connectors.system import News, Page, Row, names_of

_API: Final = "/services/data/v61.0"
_OBJECTS: Final = {"account": "Account", "contact": "Contact", "lead": "Lead", "deal": "Opportunity"}
_COMMON: Final = ("Id", "CreatedDate", "LastModifiedDate", "OwnerId")
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "account": (
        *_COMMON,
        "Name",
        "Industry",
        "BillingCountry",
        "NumberOfEmployees",
        "Phone",
        "Website",
        "ParentId",
    ),
    "contact": (*_COMMON, "LastName", "FirstName", "AccountId", "Email", "Phone", "Title"),
    "lead": (
        *_COMMON,
        *("LastName", "FirstName", "Company", "Email", "Phone", "Title", "LeadSource", "Industry", "Country"),
        *("NumberOfEmployees", "Status", "IsConverted", "ConvertedDate"),
        *("ConvertedAccountId", "ConvertedContactId", "ConvertedOpportunityId"),
    ),
    "deal": (
        *_COMMON,
        *("Name", "StageName", "CloseDate", "Amount", "AccountId", "LeadSource", "Probability"),
        *("IsClosed", "IsWon", "LastStageChangeDate"),
    ),
}
_HISTORY: Final = ("OpportunityId", "StageName", "Amount", "CloseDate", "CreatedDate")
_ROWS: Final = 2_000
_IDS: Final = 200


class Salesforce:
    """Salesforce."""

    preset: ClassVar[str] = "salesforce"
    pulls: ClassVar[frozenset[str]] = frozenset(_OBJECTS)
    pushes: ClassVar[frozenset[str]] = frozenset({"lead", "deal", "account"})
    at_once: ClassVar[int] = 200
    names: ClassVar[Mapping[str, str]] = {
        "score": "Crm_Score__c",
        "probability": "Crm_Probability__c",
        "grade": "Crm_Grade__c",
        "trend": "Crm_Trend__c",
        "reasons": "Crm_Reasons__c",
        "scored_at": "Crm_Scored_At__c",
        "model_version": "Crm_Model__c",
    }

    def __init__(self, connection: Connection, caller: Caller) -> None:
        self._caller = caller
        self._names = names_of(connection, self.names)
        self._key = connection.key_field or "Crm_Key__c"

    @staticmethod
    def login(_connection: Connection, /) -> Login:
        """Log in as a connected app; the answer says which instance to call."""
        return Login(form={"grant_type": "client_credentials"}, base_key="instance_url")

    def pull(self, kind: str, mark: Row) -> Iterator[Page]:
        """Yield what has changed since a mark, by the instant of the change and then by id."""
        while True:
            rows = self._query(_select(kind, mark))
            if not rows:
                return
            last = rows[-1]
            mark = {"at": _literal(last["SystemModstamp"]), "id": str(last["Id"])}
            yield Page(files=self._files(kind, rows), mark=mark)
            if len(rows) < _ROWS:
                return

    def _files(self, kind: str, rows: Sequence[Row]) -> dict[str, Sequence[Row]]:
        files: dict[str, Sequence[Row]] = {_OBJECTS[kind]: [_cells(row, _FIELDS[kind]) for row in rows]}
        if kind == "deal":
            files["OpportunityHistory"] = self._history([str(row["Id"]) for row in rows])
        return files

    def _history(self, ids: Sequence[str]) -> list[Row]:
        """Return which stages deals went through, and when: the deal itself knows its last one only."""
        found: list[Row] = []
        for start in range(0, len(ids), _IDS):
            listed = ", ".join(f"'{_safe(each)}'" for each in ids[start : start + _IDS])
            fields = ", ".join(_HISTORY)
            soql = f"SELECT {fields} FROM OpportunityHistory WHERE OpportunityId IN ({listed}) "  # noqa: S608  SOQL, of our own names and ids that were checked
            found += self._query(f"{soql}ORDER BY CreatedDate")
        return [_cells(row, _HISTORY) for row in found]

    def _query(self, soql: str) -> list[Row]:
        answer = self._caller.get(f"{_API}/query?q={quote(soql)}")
        rows: list[Row] = list(answer["records"])
        while not answer.get("done", True):
            answer = self._caller.get(answer["nextRecordsUrl"])
            rows += answer["records"]
        return rows

    def push(self, kind: str, news: Sequence[News]) -> list[Outcome]:
        """Tell of some records; the answers come in the order of what was sent."""
        known = [each for each in news if each.external_id is not None]
        born = [each for each in news if each.external_id is None]
        outcomes: list[Outcome] = []
        if known:
            path = f"{_API}/composite/sobjects"
            outcomes += self._send(path, known, [self._record(kind, each) for each in known])
        if born:
            path = f"{_API}/composite/sobjects/{_OBJECTS[kind]}/{self._key}"
            outcomes += self._send(path, born, [self._new(kind, each) for each in born])
        return outcomes

    def _record(self, kind: str, each: News) -> dict[str, Any]:
        return {"attributes": {"type": _OBJECTS[kind]}, "id": each.external_id, **each.shown(self._names)}

    def _new(self, kind: str, each: News) -> dict[str, Any]:
        attributes = {"type": _OBJECTS[kind]}
        return {
            "attributes": attributes,
            self._key: each.key,
            **_facts(kind, each),
            **each.shown(self._names),
        }

    def _send(self, path: str, news: Sequence[News], records: Sequence[Row]) -> list[Outcome]:
        answer = self._caller.send("PATCH", path, {"allOrNone": False, "records": records})
        if not isinstance(answer, list) or len(answer) != len(news):
            raise ConnectorError(f"PATCH {path}: expected {len(news)} results, got another answer")
        return [_outcome(each, result) for each, result in zip(news, answer, strict=True)]


def _outcome(each: News, result: Row) -> Outcome:
    if result.get("success"):
        return Outcome(record_id=each.record_id, external_id=result.get("id"))
    errors = result.get("errors") or [{}]
    said = f"{errors[0].get('statusCode')}: {errors[0].get('message')}"
    return Outcome(record_id=each.record_id, error=said)


def _facts(kind: str, each: News) -> dict[str, Any]:
    """Return what Salesforce asks of a new record."""
    facts = each.facts
    name = facts["name"] or facts.get("company") or each.key
    match kind:
        case "lead":
            company = facts["company"] or name
            return {
                "LastName": name[:80],
                "Company": company,
                "Email": facts["email"],
                "Phone": facts["phone"],
            }
        case "deal":
            closes = facts["closes_on"]
            if closes is None:
                return {"Name": name[:120], "StageName": "Prospecting", "Amount": facts["amount"]}
            return {
                "Name": name[:120],
                "StageName": "Prospecting",
                "CloseDate": closes,
                "Amount": facts["amount"],
            }
        case _:
            return {"Name": name[:255]}


def _select(kind: str, mark: Row) -> str:
    fields = ", ".join((*_FIELDS[kind], "SystemModstamp"))
    where = ""
    if mark:
        at, last = _literal(mark["at"]), _safe(mark["id"])
        where = f" WHERE SystemModstamp > {at} OR (SystemModstamp = {at} AND Id > '{last}')"
    return f"SELECT {fields} FROM {_OBJECTS[kind]}{where} ORDER BY SystemModstamp, Id LIMIT {_ROWS}"  # noqa: S608  as above


def _literal(text: object) -> str:
    """Return an instant as queries write it; what is none is refused and never becomes part of a query."""
    try:
        read = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise ConnectorError(f"expected an instant, got {text!r}") from error
    return read.strftime("%Y-%m-%dT%H:%M:%S.") + f"{read.microsecond // 1000:03d}Z"


def _safe(identifier: object) -> str:
    text = str(identifier)
    if not (text.isascii() and text.isalnum()):
        raise ConnectorError(f"expected an id of letters and digits, got {text!r}")
    return text


def _cells(row: Row, fields: Sequence[str]) -> dict[str, Any]:
    return {name: row.get(name) for name in fields}
