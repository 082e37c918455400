"""Zoho CRM by its REST API: records in the order of changes, and calls about up to 100 of them.

Scores go to custom fields of leads, deals and accounts. Records that came from there are updated by their
id; those born here are upserted by a field that takes no duplicates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final
from urllib.parse import urlencode

from crm_core.connections import Outcome
from crm_core.errors import ConnectorError
from serving.connectors.calls import Caller, Login
from serving.connectors.connections import Connection
from serving.connectors.system import News, Page, Row, names_of

_API: Final = "/crm/v8"
_MODULES: Final = {"account": "Accounts", "contact": "Contacts", "lead": "Leads", "deal": "Deals"}
_FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "account": {
        "Account_Name": "Account Name",
        "Owner": "Account Owner",
        "Industry": "Industry",
        "Billing_Country": "Billing Country",
        "Employees": "Employees",
        "Phone": "Phone",
        "Website": "Website",
        "Created_Time": "Created Time",
    },
    "contact": {
        "Last_Name": "Last Name",
        "First_Name": "First Name",
        "Owner": "Contact Owner",
        "Account_Name": "Account Id",
        "Email": "Email",
        "Phone": "Phone",
        "Title": "Title",
        "Created_Time": "Created Time",
    },
    "lead": {
        "Last_Name": "Last Name",
        "First_Name": "First Name",
        "Owner": "Lead Owner",
        "Company": "Company",
        "Email": "Email",
        "Phone": "Phone",
        "Designation": "Title",
        "Lead_Source": "Lead Source",
        "Industry": "Industry",
        "Country": "Country",
        "No_of_Employees": "No. of Employees",
        "Created_Time": "Created Time",
        "Modified_Time": "Modified Time",
    },
    "deal": {
        "Deal_Name": "Deal Name",
        "Owner": "Deal Owner",
        "Stage": "Stage",
        "Amount": "Amount",
        "Currency": "Currency",
        "Lead_Source": "Lead Source",
        "Closing_Date": "Closing Date",
        "Probability": "Probability (%)",
        "Account_Name": "Account Id",
        "Contact_Name": "Contact Id",
        "Reason_For_Loss__s": "Reason For Loss",
        "Created_Time": "Created Time",
        "Modified_Time": "Modified Time",
    },
}
"""By kind: their fields, and the columns that the import knows them by."""
_ROWS: Final = 200


class Zoho:
    """Zoho CRM."""

    preset: ClassVar[str] = "zoho"
    pulls: ClassVar[frozenset[str]] = frozenset(_MODULES)
    pushes: ClassVar[frozenset[str]] = frozenset({"lead", "deal", "account"})
    at_once: ClassVar[int] = 100
    names: ClassVar[Mapping[str, str]] = {
        "score": "Crm_Score",
        "probability": "Crm_Probability",
        "grade": "Crm_Grade",
        "trend": "Crm_Trend",
        "reasons": "Crm_Reasons",
        "scored_at": "Crm_Scored_At",
        "model_version": "Crm_Model",
    }

    def __init__(self, connection: Connection, caller: Caller) -> None:
        self._caller = caller
        self._names = names_of(connection, self.names)
        self._key = connection.key_field or "Crm_Key"

    @staticmethod
    def login(_connection: Connection, /) -> Login:
        """Renew an access token, shown under Zoho's own scheme; the answer says which domain to call."""
        return Login(scheme="Zoho-oauthtoken", base_key="api_domain")

    def pull(self, kind: str, mark: Row) -> Iterator[Page]:
        """Yield what has changed since a mark."""
        headers = {"If-Modified-Since": str(mark["at"])} if mark else {}
        token: str | None = None
        while True:
            answer = self._caller.get(f"{_API}/{_MODULES[kind]}?{_asked(kind, token)}", headers)
            rows = answer["data"] if answer else []
            if rows:
                yield Page(files=self._files(kind, rows), mark={"at": rows[-1]["Modified_Time"]})
            info = answer["info"] if answer else {}
            token = info.get("next_page_token")
            if not info.get("more_records") or token is None:
                return

    def _files(self, kind: str, rows: Sequence[Row]) -> dict[str, Sequence[Row]]:
        files: dict[str, Sequence[Row]] = {_MODULES[kind]: [_cells(kind, row) for row in rows]}
        if kind == "deal":
            files["Stage History"] = [each for row in rows for each in self._history(str(row["id"]))]
        return files

    def _history(self, deal: str) -> list[Row]:
        """Return which stages a deal went through, and when."""
        asked = urlencode({"fields": "Stage,Modified_Time", "per_page": _ROWS})
        answer = self._caller.get(f"{_API}/Deals/{deal}/Stage_History?{asked}")
        rows = answer["data"] if answer else []
        found = [
            {"Deal Id": deal, "Stage": row["Stage"], "Modified Time": row["Modified_Time"]} for row in rows
        ]
        return sorted(found, key=lambda row: str(row["Modified Time"]))

    def push(self, kind: str, news: Sequence[News]) -> list[Outcome]:
        """Tell of some records; the answers come in the order of what was sent."""
        known = [each for each in news if each.external_id is not None]
        born = [each for each in news if each.external_id is None]
        path = f"{_API}/{_MODULES[kind]}"
        outcomes: list[Outcome] = []
        if known:
            data = [{"id": each.external_id, **each.shown(self._names)} for each in known]
            outcomes += self._send("PUT", path, known, {"data": data, "trigger": []})
        if born:
            data = [{self._key: each.key, **_facts(kind, each), **each.shown(self._names)} for each in born]
            body = {"data": data, "duplicate_check_fields": [self._key], "trigger": []}
            outcomes += self._send("POST", f"{path}/upsert", born, body)
        return outcomes

    def _send(self, method: str, path: str, news: Sequence[News], body: Row) -> list[Outcome]:
        answer = self._caller.send(method, path, body)
        results = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(results, list) or len(results) != len(news):
            raise ConnectorError(f"{method} {path}: expected {len(news)} results, got another answer")
        return [_outcome(each, result) for each, result in zip(news, results, strict=True)]


def _outcome(each: News, result: Row) -> Outcome:
    if result.get("status") == "success":
        given = result.get("details", {}).get("id")
        return Outcome(record_id=each.record_id, external_id=None if given is None else str(given))
    return Outcome(record_id=each.record_id, error=f"{result.get('code')}: {result.get('message')}")


def _asked(kind: str, token: str | None) -> str:
    asked = {
        "fields": ",".join((*_FIELDS[kind], "Modified_Time")),
        "sort_by": "Modified_Time",
        "sort_order": "asc",
        "per_page": str(_ROWS),
    }
    return urlencode(asked if token is None else {**asked, "page_token": token})


def _cells(kind: str, row: Row) -> dict[str, Any]:
    """Return a record's cells; of a record it points at, the id."""
    cells: dict[str, Any] = {"Record Id": row["id"]}
    for name, column in _FIELDS[kind].items():
        held = row.get(name)
        cells[column] = held.get("id") if isinstance(held, dict) else held
    return cells


def _facts(kind: str, each: News) -> dict[str, Any]:
    facts = each.facts
    name = facts["name"] or facts.get("company") or each.key
    match kind:
        case "lead":
            return {
                "Last_Name": name[:80],
                "Company": facts["company"] or name,
                "Email": facts["email"],
                "Phone": facts["phone"],
            }
        case "deal":
            return {"Deal_Name": name[:120], "Stage": "Qualification", "Amount": facts["amount"]}
        case _:
            return {"Account_Name": name[:200]}
