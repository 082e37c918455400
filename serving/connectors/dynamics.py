"""Dynamics 365 Sales by the Dataverse Web API: pages in the order of changes, and batches of requests.

Scores are rows of the table that Dynamics itself keeps scores in, `msdyn_predictivescores`, one for each
record, under a key that we derive from the record's: writing one again overwrites it. Leads and opportunities
point at theirs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from email.parser import BytesParser
from typing import Any, ClassVar, Final
from urllib.parse import quote

from crm_core.connections import Outcome
from crm_core.errors import ConnectorError
from serving.connectors.calls import Caller, Login
from serving.connectors.connections import Connection
from serving.connectors.system import News, Page, Row, instant_text, made_id

_API: Final = "/api/data/v9.2"
_SETS: Final = {"account": "accounts", "contact": "contacts", "lead": "leads", "deal": "opportunities"}
_TABLES: Final = {"account": "account", "lead": "lead", "deal": "opportunity"}
_POINTS_AT_SCORE: Final = frozenset({"lead", "deal"})
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "account": (
        *("accountid", "name", "createdon", "modifiedon", "address1_country", "telephone1"),
        *("websiteurl", "numberofemployees"),
    ),
    "contact": (
        *("contactid", "firstname", "lastname", "fullname", "createdon", "modifiedon", "emailaddress1"),
        *("telephone1", "jobtitle", "_parentcustomerid_value"),
    ),
    "lead": (
        *("leadid", "firstname", "lastname", "fullname", "subject", "companyname", "createdon", "modifiedon"),
        *("address1_country", "emailaddress1", "telephone1", "jobtitle", "leadsourcecode"),
    ),
    "deal": (
        *("opportunityid", "name", "createdon", "modifiedon", "estimatedclosedate", "estimatedvalue"),
        *("closeprobability", "statecode", "actualclosedate", "stepname", "_parentaccountid_value"),
    ),
}
_GRADES: Final = {"A": 0, "B": 1, "C": 2, "D": 3}
_TRENDS: Final = {"up": 0, "flat": 1, "down": 2}
_NOT_ENOUGH: Final = 3
_LONGEST_REASONS: Final = 10_000
_BOUNDARY: Final = "batch_crm"


class Dynamics:
    """Dynamics 365 Sales."""

    preset: ClassVar[str] = "dynamics"
    pulls: ClassVar[frozenset[str]] = frozenset(_SETS)
    pushes: ClassVar[frozenset[str]] = frozenset(_TABLES)
    at_once: ClassVar[int] = 100
    names: ClassVar[Mapping[str, str]] = {
        "score": "msdyn_score",
        "grade": "msdyn_grade",
        "trend": "msdyn_scoretrend",
        "reasons": "msdyn_scorereasons",
        "scored_at": "msdyn_scoredon",
    }

    def __init__(self, connection: Connection, caller: Caller) -> None:
        self._caller = caller
        self._own = {name: field for name, field in connection.fields.items() if field}

    @staticmethod
    def login(connection: Connection, /) -> Login:
        """Log in as a registered application, for this organisation."""
        scope = f"{connection.url.rstrip('/')}/.default"
        return Login(form={"grant_type": "client_credentials", "scope": scope})

    def pull(self, kind: str, mark: Row) -> Iterator[Page]:
        """Yield what has changed since a mark."""
        path: str | None = f"{_API}/{_SETS[kind]}?{_asked(kind, mark)}"
        while path is not None:
            answer = self._caller.get(path, {"Prefer": "odata.maxpagesize=500", "OData-Version": "4.0"})
            rows = answer["value"]
            if rows:
                cells = [{name: row.get(name) for name in _FIELDS[kind]} for row in rows]
                yield Page(files={_SETS[kind]: cells}, mark={"at": rows[-1]["modifiedon"]})
            path = answer.get("@odata.nextLink")

    def push(self, kind: str, news: Sequence[News]) -> list[Outcome]:
        """Tell of some records, in one batch in which each request stands for itself."""
        requests = [(each, *request) for each in news for request in self._requests(kind, each)]
        body = b"".join(
            _part(number, method, path, sent) for number, (_, method, path, sent) in enumerate(requests)
        )
        answer = self._caller.call(
            "POST",
            f"{_API}/$batch",
            headers={
                "Content-Type": f"multipart/mixed; boundary={_BOUNDARY}",
                "OData-Version": "4.0",
                "Prefer": "odata.continue-on-error",
            },
            body=body + f"--{_BOUNDARY}--\r\n".encode(),
        )
        said = _read_batch(answer.headers.get("content-type", ""), answer.body)
        if len(said) != len(requests):
            raise ConnectorError(f"$batch: expected {len(requests)} answers, got {len(said)}")
        return [_outcome(each, requests, said) for each in news]

    def _requests(self, kind: str, each: News) -> Iterator[tuple[str, str, Row]]:
        record = _record_id(each)
        score = made_id(f"score:{_TABLES[kind]}:{record}")
        if each.external_id is None:
            yield "PATCH", f"/{_SETS[kind]}({record})", _facts(kind, each)
        yield "PATCH", f"/msdyn_predictivescores({score})", _score(kind, record, each)
        shown: dict[str, Any] = each.shown(self._own)
        if kind in _POINTS_AT_SCORE:
            shown["msdyn_PredictiveScoreId@odata.bind"] = f"/msdyn_predictivescores({score})"
        if shown:
            yield "PATCH", f"/{_SETS[kind]}({record})", shown


def _record_id(each: News) -> str:
    return each.external_id or made_id(each.key)


def _score(kind: str, record: str, each: News) -> dict[str, Any]:
    trend = _TRENDS.get(each.trend or "", _NOT_ENOUGH)
    return {
        "msdyn_name": f"{_TABLES[kind]} {record}",
        "msdyn_entityid": record,
        "msdyn_entitytype": _TABLES[kind],
        "msdyn_score": each.score,
        "msdyn_grade": _GRADES.get(each.grade or ""),
        "msdyn_scoretrend": trend,
        "msdyn_scorereasons": each.reasons[:_LONGEST_REASONS] or None,
        "msdyn_scoredon": None if each.scored_at is None else instant_text(each.scored_at),
    }


def _facts(kind: str, each: News) -> dict[str, Any]:
    facts = each.facts
    name = facts["name"] or facts.get("company") or each.key
    match kind:
        case "lead":
            return {
                "subject": name[:300],
                "lastname": name[:50],
                "companyname": facts["company"],
                "emailaddress1": facts["email"],
                "telephone1": facts["phone"],
            }
        case "deal":
            return {
                "name": name[:300],
                "estimatedvalue": facts["amount"],
                "estimatedclosedate": facts["closes_on"],
            }
        case _:
            return {"name": name[:160]}


def _outcome(
    each: News,
    requests: Sequence[tuple[News, str, str, Row]],
    said: Sequence[tuple[int, str]],
) -> Outcome:
    """Return what became of a record: all that was asked about it must have been done."""
    own = [said[number] for number, (other, *_) in enumerate(requests) if other is each]
    bad = next((text for status, text in own if status >= 300), None)
    if bad is not None:
        return Outcome(record_id=each.record_id, error=bad)
    return Outcome(record_id=each.record_id, external_id=_record_id(each))


def _asked(kind: str, mark: Row) -> str:
    asked = f"$select={','.join(_FIELDS[kind])}&$orderby={quote('modifiedon asc')}"
    return f"{asked}&$filter={quote('modifiedon ge ' + str(mark['at']))}" if mark else asked


def _part(number: int, method: str, path: str, sent: Row) -> bytes:
    head = (
        f"--{_BOUNDARY}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
        f"Content-ID: {number}\r\n\r\n{method} {_API}{path} HTTP/1.1\r\n"
        "Content-Type: application/json; type=entry\r\n\r\n"
    )
    return head.encode() + json.dumps(sent, ensure_ascii=False, allow_nan=False).encode() + b"\r\n"


def _read_batch(content_type: str, body: bytes) -> list[tuple[int, str]]:
    """Return status and error of each answer in a batch, in the order of what was asked."""
    message = BytesParser().parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    if not message.is_multipart():
        raise ConnectorError("$batch: the answer is not multipart/mixed")
    return [_read_part(part.get_payload(decode=True)) for part in message.walk() if not part.is_multipart()]


def _read_part(payload: object) -> tuple[int, str]:
    text = payload.decode(errors="replace") if isinstance(payload, bytes) else ""
    first, _, rest = text.lstrip().partition("\n")
    words = first.split()
    if len(words) < 2 or not words[1].isdigit():
        raise ConnectorError("$batch: an answer in it has no status")
    held = rest[rest.find("{") :] if "{" in rest else ""
    try:
        said = json.loads(held)["error"]
        return int(words[1]), f"{said.get('code')}: {said.get('message')}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return int(words[1]), f"refused with {words[1]}"
