"""HubSpot by its CRM API, version 3: searches in the order of changes, and batches of up to 100 inputs.

Scores go to properties of deals and companies. Records that came from there are updated by their id; those
born here are upserted by a property with unique values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

from crm_core.connections import Outcome
from crm_core.errors import ConnectorError
from serving.connectors.calls import Caller, Login
from serving.connectors.connections import Connection
from serving.connectors.system import News, Page, Row, names_of

_OBJECTS: Final = {"account": "companies", "contact": "contacts", "deal": "deals"}
_CHANGED: Final = {
    "account": "hs_lastmodifieddate",
    "contact": "lastmodifieddate",
    "deal": "hs_lastmodifieddate",
}
_PROPERTIES: Final[Mapping[str, Mapping[str, str]]] = {
    "account": {
        "name": "Company name",
        "createdate": "Create Date",
        "industry": "Industry",
        "country": "Country/Region",
        "numberofemployees": "Number of Employees",
        "phone": "Phone Number",
        "website": "Website URL",
    },
    "contact": {
        "email": "Email",
        "firstname": "First Name",
        "lastname": "Last Name",
        "createdate": "Create Date",
        "phone": "Phone Number",
        "jobtitle": "Job Title",
        "associatedcompanyid": "Primary company",
    },
    "deal": {
        "dealname": "Deal Name",
        "dealstage": "Deal Stage",
        "createdate": "Create Date",
        "closedate": "Close Date",
        "amount": "Amount",
        "deal_currency_code": "Currency",
        "hs_deal_stage_probability": "Deal probability",
        "closed_lost_reason": "Closed Lost Reason",
    },
}
"""By kind: their properties, and the columns that the import knows them by."""
_ROWS: Final = 200
_SEARCHED: Final = 10_000
"""So many results, and no more, are given of one search."""
_INPUTS: Final = 100


class HubSpot:
    """HubSpot."""

    preset: ClassVar[str] = "hubspot"
    pulls: ClassVar[frozenset[str]] = frozenset(_OBJECTS)
    pushes: ClassVar[frozenset[str]] = frozenset({"deal", "account"})
    at_once: ClassVar[int] = _INPUTS
    names: ClassVar[Mapping[str, str]] = {
        "score": "crm_score",
        "probability": "crm_probability",
        "grade": "crm_grade",
        "trend": "crm_trend",
        "reasons": "crm_reasons",
        "scored_at": "crm_scored_at",
        "model_version": "crm_model",
    }

    def __init__(self, connection: Connection, caller: Caller) -> None:
        self._caller = caller
        self._names = names_of(connection, self.names)
        self._key = connection.key_field or "crm_key"

    @staticmethod
    def login(_connection: Connection, /) -> Login:
        """Log in with the token of a private app, or renew that of a public one."""
        return Login()

    def pull(self, kind: str, mark: Row) -> Iterator[Page]:
        """Yield what has changed since a mark; a search that is too long goes on as a new one."""
        after: str | None = None
        since = mark
        while True:
            answer = self._caller.send(
                "POST", f"/crm/v3/objects/{_OBJECTS[kind]}/search", _search(kind, since, after)
            )
            rows = answer["results"]
            if rows:
                mark = {"at": _milliseconds(rows[-1]["properties"][_CHANGED[kind]])}
                yield Page(files=self._files(kind, rows), mark=mark)
            after = answer.get("paging", {}).get("next", {}).get("after")
            if after is None:
                return
            if int(after) + _ROWS > _SEARCHED:
                if mark == since:
                    raise ConnectorError(f"more than {_SEARCHED} {_OBJECTS[kind]} changed in one millisecond")
                since, after = mark, None

    def _files(self, kind: str, rows: Sequence[Row]) -> dict[str, Sequence[Row]]:
        files: dict[str, Sequence[Row]] = {_OBJECTS[kind]: [_cells(kind, row) for row in rows]}
        if kind == "deal":
            files["history"] = self._history([str(row["id"]) for row in rows])
        return files

    def _history(self, ids: Sequence[str]) -> list[Row]:
        """Return which stages deals went through, and when."""
        found: list[Row] = []
        for start in range(0, len(ids), _INPUTS):
            inputs = [{"id": each} for each in ids[start : start + _INPUTS]]
            asked = {"propertiesWithHistory": ["dealstage"], "properties": [], "inputs": inputs}
            answer = self._caller.send("POST", "/crm/v3/objects/deals/batch/read", asked)
            for deal in answer["results"]:
                found += [
                    {
                        "Record ID": deal["id"],
                        "Property name": "dealstage",
                        "Property value": version["value"],
                        "Change date": version["timestamp"],
                    }
                    for version in reversed(deal["propertiesWithHistory"]["dealstage"])
                ]
        return found

    def push(self, kind: str, news: Sequence[News]) -> list[Outcome]:
        """Tell of some records."""
        known = [each for each in news if each.external_id is not None]
        born = [each for each in news if each.external_id is None]
        path = f"/crm/v3/objects/{_OBJECTS[kind]}/batch"
        outcomes: list[Outcome] = []
        if known:
            inputs = [{"id": each.external_id, "properties": self._told(each)} for each in known]
            outcomes += self._send(f"{path}/update", known, inputs)
        if born:
            inputs = [
                {
                    "id": each.key,
                    "idProperty": self._key,
                    "properties": {self._key: each.key, **_facts(kind, each), **self._told(each)},
                }
                for each in born
            ]
            outcomes += self._send(f"{path}/upsert", born, inputs)
        return outcomes

    def _told(self, each: News) -> dict[str, str]:
        """Return properties, which are texts; an empty one takes a value away."""
        shown = each.shown(self._names)
        return {name: "" if value is None else str(value) for name, value in shown.items()}

    def _send(self, path: str, news: Sequence[News], inputs: Sequence[Row]) -> list[Outcome]:
        answer = self._caller.send("POST", path, {"inputs": inputs})
        done = {str(result["id"]): result for result in answer.get("results", ())}
        keyed = {result.get("properties", {}).get(self._key): result for result in done.values()}
        refused = _refused(answer.get("errors", ()))
        outcomes = []
        for each in news:
            result = done.get(each.external_id or "") or keyed.get(each.key)
            error = (
                None if result else refused.get(each.external_id or each.key, refused.get("", "not updated"))
            )
            given = str(result["id"]) if result else None
            outcomes.append(Outcome(record_id=each.record_id, error=error, external_id=given))
        return outcomes


def _refused(errors: Sequence[Row]) -> dict[str, str]:
    """Return what was said of each id; under no id what was said of all."""
    found: dict[str, str] = {}
    for error in errors:
        said = f"{error.get('category')}: {error.get('message')}"
        for each in error.get("context", {}).get("ids", [""]):
            found[str(each)] = said
    return found


def _search(kind: str, since: Row, after: str | None) -> dict[str, Any]:
    changed = _CHANGED[kind]
    asked: dict[str, Any] = {
        "sorts": [{"propertyName": changed, "direction": "ASCENDING"}],
        "properties": [*_PROPERTIES[kind], changed],
        "limit": _ROWS,
    }
    if since:
        condition = {"propertyName": changed, "operator": "GTE", "value": str(since["at"])}
        asked["filterGroups"] = [{"filters": [condition]}]
    return asked if after is None else {**asked, "after": after}


def _milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _cells(kind: str, row: Row) -> dict[str, Any]:
    held = row["properties"]
    return {"Record ID": row["id"], **{column: held.get(name) for name, column in _PROPERTIES[kind].items()}}


def _facts(kind: str, each: News) -> dict[str, str]:
    name = each.facts["name"] or each.key
    if kind == "account":
        return {"name": name}
    amount = each.facts["amount"]
    return {"dealname": name} | ({} if amount is None else {"amount": str(amount)})
