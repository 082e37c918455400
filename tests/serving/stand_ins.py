"""Stand-ins for other CRM systems on this machine: they check what they are sent by their documentation.

What does not fit is answered as the system would, and kept in `faults`.
"""

from __future__ import annotations

import json
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Json = Any
Reply = tuple[int, Json]


@dataclass(kw_only=True)
class StandIn(ABC):
    """A system: its objects by kind and id, who may come in, and what went wrong."""

    objects: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    token: str = "token-1"
    logins: list[dict[str, str]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)
    """Of ids: why they are refused."""
    busy: int = 0
    """How many of the next requests are told to come back later."""
    scheme: str = "Bearer"
    url: str = ""
    instead: Callable[[str], tuple[int, bytes] | None] = lambda _path: None
    """What is answered to a path, in place of what it should be."""

    def check(self, holds: object, what: str) -> None:
        if not holds:
            self.faults.append(what)
            raise ValueError(what)

    def answer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes, str]:
        """Return status, body and its type."""
        if "oauth" in path:
            return self._log_in(method, headers, body)
        if headers.get("Authorization") != f"{self.scheme} {self.token}":
            return 401, b'{"message": "unauthorized"}', "application/json"
        if self.busy:
            self.busy -= 1
            return 429, b'{"message": "slow down"}', "application/json"
        self.asked.append((method, path.split("?", maxsplit=1)[0]))
        if (given := self.instead(path)) is not None:
            return *given, "application/json"
        try:
            return self.handle(method, path, headers, body)
        except ValueError as error:
            return 400, json.dumps({"message": str(error)}).encode(), "application/json"

    def _log_in(self, method: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes, str]:
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        self.logins.append(form)
        good = (
            method == "POST"
            and headers["Content-Type"] == "application/x-www-form-urlencoded"
            and form.get("client_secret") == "secret"
        )
        given = {"access_token": self.token, "instance_url": self.url, "api_domain": self.url}
        return (200 if good else 400), json.dumps(given if good else {"error": "invalid_client"}).encode(), ""

    def handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes, str]:
        """Answer with JSON unless a system does otherwise."""
        if body:
            self.check(headers.get("Content-Type", "").startswith("application/json"), "the content type")
        status, given = self.reply(method, path, headers, json.loads(body) if body else None)
        return status, b"" if given is None else json.dumps(given).encode(), "application/json"

    @abstractmethod
    def reply(self, method: str, path: str, headers: Mapping[str, str], body: Json) -> Reply:
        """Return status and JSON, as the system documents them."""


class SalesforceStandIn(StandIn):
    """Queries in SOQL, and collections of records."""

    def reply(self, method: str, path: str, headers: Mapping[str, str], body: Json) -> Reply:
        split = urlsplit(path)
        if split.path == "/services/data/v61.0/query":
            return 200, self._query(parse_qs(split.query)["q"][0])
        self.check(method == "PATCH", "collections are updated by PATCH")
        self.check(set(body) == {"allOrNone", "records"}, "allOrNone and records")
        self.check(1 <= len(body["records"]) <= 200, "at most 200 records")
        parts = split.path.removeprefix("/services/data/v61.0/composite/sobjects").strip("/").split("/")
        return 200, [self._one(parts, record) for record in body["records"]]

    def _query(self, soql: str) -> Json:
        found = re.fullmatch(
            r"SELECT (?P<fields>[\w, ]+) FROM (?P<kind>\w+)(?: WHERE (?P<where>.+?))? "
            r"ORDER BY (?P<order>[\w, ]+?)(?: LIMIT (?P<limit>\d+))?",
            soql,
        )
        self.check(found, f"a query that is understood: {soql}")
        assert found is not None
        rows = list(self.objects.get(found["kind"], {}).values())
        where = found["where"] or ""
        if changed := re.fullmatch(
            r"SystemModstamp > (\S+) OR \(SystemModstamp = (\S+) AND Id > '(\w+)'\)", where
        ):
            self.check(
                re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", changed[1]), "a literal instant"
            )
            since = (_at(changed[1]), changed[3])
            rows = [row for row in rows if (_at(row["SystemModstamp"]), row["Id"]) > since]
        elif listed := re.fullmatch(r"OpportunityId IN \((.+)\)", where):
            ids = {each.strip(" '") for each in listed[1].split(",")}
            self.check(len(ids) <= 200, "at most 200 ids")
            rows = [row for row in rows if row["OpportunityId"] in ids]
        else:
            self.check(not where, f"a condition that is understood: {where}")
        order = found["order"].split(", ")
        rows = sorted(rows, key=lambda row: [row[name] for name in order])[: int(found["limit"] or 2000)]
        names = found["fields"].split(", ")
        records = [
            {"attributes": {"type": found["kind"]}, **{name: row.get(name) for name in names}} for row in rows
        ]
        return {"totalSize": len(records), "done": True, "records": records}

    def _one(self, parts: list[str], record: dict[str, Any]) -> Json:
        kind = record["attributes"]["type"]
        values = {name: value for name, value in record.items() if name not in {"attributes", "id"}}
        held = self.objects.setdefault(kind, {})
        if parts != [""]:
            self.check(parts[0] == kind and "id" not in record, "an upsert names type and field in its path")
            key = values[parts[1]]
            found = next((row for row in held.values() if row.get(parts[1]) == key), None)
            created = found is None
            if found is None:
                identifier = f"00Qnew{len(held)}"
                held[identifier] = {"Id": identifier, **values}
                return {"id": identifier, "success": True, "errors": [], "created": True}
            found.update(values)
            return {"id": found["Id"], "success": True, "errors": [], "created": created}
        identifier = record["id"]
        if identifier in self.refuse or identifier not in held:
            message = self.refuse.get(identifier, "no such record")
            return {"success": False, "errors": [{"statusCode": "FIELD_INTEGRITY", "message": message}]}
        held[identifier].update(values)
        return {"id": identifier, "success": True, "errors": []}


@dataclass(kw_only=True)
class HubSpotStandIn(StandIn):
    """Searches with sorting and paging, and batches."""

    most: int = 10_000

    def reply(self, method: str, path: str, headers: Mapping[str, str], body: Json) -> Reply:
        self.check(method == "POST", "searches and batches are sent by POST")
        found = re.fullmatch(r"/crm/v3/objects/(\w+)/(search|batch/(?:read|update|upsert))", path)
        self.check(found, f"a path that there is: {path}")
        assert found is not None
        held = self.objects.setdefault(found[1], {})
        if found[2] == "search":
            return 200, self._search(held, body)
        self.check(1 <= len(body["inputs"]) <= 100, "at most 100 inputs")
        if found[2] == "batch/read":
            return 200, {
                "status": "COMPLETE",
                "results": [self._history(held, each) for each in body["inputs"]],
            }
        return self._write(held, found[2], body["inputs"])

    def _search(self, held: Mapping[str, dict[str, Any]], body: Json) -> Json:
        self.check(body["limit"] <= 200, "at most 200 results")
        (sort,) = body["sorts"]
        by = sort["propertyName"]
        rows = sorted(held.values(), key=lambda row: _at(row["properties"][by]))
        for group in body.get("filterGroups", ()):
            ((condition,)) = group["filters"]
            self.check(condition["operator"] == "GTE", "an operator that is understood")
            since = int(condition["value"])
            rows = [row for row in rows if _at(row["properties"][by]).timestamp() * 1000 >= since]
        start = int(body.get("after", 0))
        self.check(start + body["limit"] <= self.most, "no more results than a search gives")
        page = rows[start : start + body["limit"]]
        names = body["properties"]
        results = [
            {"id": row["id"], "properties": {name: row["properties"].get(name) for name in names}}
            for row in page
        ]
        more = start + len(page) < len(rows)
        paging = {"paging": {"next": {"after": str(start + len(page))}}} if more else {}
        return {"total": len(rows), "results": results, **paging}

    def _history(self, held: Mapping[str, dict[str, Any]], each: Json) -> Json:
        row = held[each["id"]]
        return {"id": row["id"], "propertiesWithHistory": {"dealstage": row["history"]}}

    def _write(self, held: dict[str, dict[str, Any]], how: str, inputs: Json) -> Reply:
        results, errors = [], []
        for each in inputs:
            for name, value in each["properties"].items():
                self.check(isinstance(value, str), f"properties are texts: {name}")
            if how == "batch/upsert":
                key = each["idProperty"]
                found = next((r for r in held.values() if r["properties"].get(key) == each["id"]), None)
                if found is None:
                    found = held[f"new{len(held)}"] = {"id": f"new{len(held)}", "properties": {}}
            else:
                found = held.get(each["id"])
            if found is None or each["id"] in self.refuse:
                said = self.refuse.get(each["id"], "no such object")
                errors.append({"category": "OBJECT", "message": said, "context": {"ids": [each["id"]]}})
                continue
            found["properties"].update(each["properties"])
            results.append({"id": found["id"], "properties": found["properties"]})
        told = {"status": "COMPLETE", "results": results}
        return (207, {**told, "numErrors": len(errors), "errors": errors}) if errors else (200, told)


class ZohoStandIn(StandIn):
    """Lists that are read since an instant, updates and upserts."""

    def reply(self, method: str, path: str, headers: Mapping[str, str], body: Json) -> Reply:
        split = urlsplit(path)
        parts = split.path.removeprefix("/crm/v8/").split("/")
        held = self.objects.setdefault(parts[0], {})
        if method == "GET" and len(parts) == 3:
            self.check(parts[2] == "Stage_History", "a related list that there is")
            rows = held[parts[1]].get("history", [])
            return (200, {"data": rows, "info": {"more_records": False}}) if rows else (204, None)
        if method == "GET":
            return self._list(held, {name: v[0] for name, v in parse_qs(split.query).items()}, headers)
        self.check(1 <= len(body["data"]) <= 100, "at most 100 records")
        if parts[1:] == ["upsert"]:
            self.check(method == "POST", "an upsert is sent by POST")
            (key,) = body["duplicate_check_fields"]
            return 200, {"data": [self._upsert(held, key, record) for record in body["data"]]}
        self.check(method == "PUT", "an update is sent by PUT")
        return 200, {"data": [self._update(held, record) for record in body["data"]]}

    def _list(self, held: Mapping[str, dict[str, Any]], asked: Json, headers: Mapping[str, str]) -> Reply:
        self.check(int(asked["per_page"]) <= 200, "at most 200 records a page")
        self.check(asked["sort_by"] in asked["fields"].split(","), "what is sorted by is asked for")
        rows = sorted(held.values(), key=lambda row: _at(row[asked["sort_by"]]))
        if since := headers.get("If-Modified-Since"):
            rows = [row for row in rows if _at(row["Modified_Time"]) >= _at(since)]
            if not rows:
                return 304, None
        start = int(asked.get("page_token", 0))
        page = rows[start : start + 2]
        more = start + len(page) < len(rows)
        names = ["id", *asked["fields"].split(",")]
        data = [{name: row.get(name) for name in names} for row in page]
        info = {"more_records": more, "next_page_token": str(start + len(page)) if more else None}
        return (200, {"data": data, "info": info}) if data else (204, None)

    def _upsert(self, held: dict[str, dict[str, Any]], key: str, record: dict[str, Any]) -> Json:
        found = next((row for row in held.values() if row.get(key) == record[key]), None)
        if found is None:
            found = held[f"9{len(held)}"] = {"id": f"9{len(held)}"}
        found.update(record)
        return {"code": "SUCCESS", "status": "success", "action": "insert", "details": {"id": found["id"]}}

    def _update(self, held: Mapping[str, dict[str, Any]], record: dict[str, Any]) -> Json:
        if record["id"] in self.refuse or record["id"] not in held:
            said = self.refuse.get(record["id"], "no such record")
            return {"code": "INVALID_DATA", "status": "error", "message": said, "details": {}}
        held[record["id"]].update(record)
        return {"code": "SUCCESS", "status": "success", "details": {"id": record["id"]}}


_GRADES = {None, 0, 1, 2, 3}


@dataclass(kw_only=True)
class DynamicsStandIn(StandIn):
    """Pages with links to the next, and batches of requests in multipart/mixed."""

    page: int = 2

    def handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes, str]:
        if path == "/api/data/v9.2/$batch":
            return self._batch(headers, body)
        return super().handle(method, path, headers, body)

    def reply(self, method: str, path: str, headers: Mapping[str, str], body: Json) -> Reply:
        self.check(method == "GET", "sets are read by GET")
        self.check("odata.maxpagesize" in headers.get("Prefer", ""), "a size of pages")
        split = urlsplit(path)
        asked = {name: v[0] for name, v in parse_qs(split.query).items()}
        self.check(asked["$orderby"] == "modifiedon asc", "the order of changes")
        kind = split.path.removeprefix("/api/data/v9.2/")
        rows = sorted(self.objects.get(kind, {}).values(), key=lambda row: _at(row["modifiedon"]))
        if condition := asked.get("$filter"):
            found = re.fullmatch(r"modifiedon ge (\S+)", condition)
            self.check(found, f"a filter that is understood: {condition}")
            assert found is not None
            rows = [row for row in rows if _at(row["modifiedon"]) >= _at(found[1])]
        start = int(asked.get("$skiptoken", 0))
        page = rows[start : start + self.page]
        names = asked["$select"].split(",")
        given: Json = {"value": [{name: row.get(name) for name in names} for row in page]}
        if start + len(page) < len(rows):
            here = path.split("&$skiptoken", maxsplit=1)[0]
            given["@odata.nextLink"] = f"{self.url}{here}&$skiptoken={start + len(page)}"
        return 200, given

    def _batch(self, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes, str]:
        self.check("odata.continue-on-error" in headers.get("Prefer", ""), "each request stands for itself")
        message = BytesParser().parsebytes(
            b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body
        )
        self.check(message.get_content_type() == "multipart/mixed", "multipart/mixed")
        answers = []
        parts: Any = message.get_payload()
        for part in parts:
            self.check(part.get_content_type() == "application/http", "parts of application/http")
            head, _, sent = part.get_payload(decode=True).partition(b"\r\n\r\n")
            line = head.split(b"\r\n")[0].decode().split(" ")
            self.check(line[0] == "PATCH" and line[2] == "HTTP/1.1", "requests as HTTP has them")
            answers.append(self._patch(line[1], json.loads(sent)))
        joined = b"".join(
            b"--answers\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
            + (
                f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n\r\n"
                f"{json.dumps({'error': {'code': '0x1', 'message': said}}) if said else ''}\r\n"
            ).encode()
            for status, said in answers
        )
        return 200, joined + b"--answers--\r\n", "multipart/mixed; boundary=answers"

    def _patch(self, path: str, sent: dict[str, Any]) -> tuple[int, str]:
        found = re.fullmatch(r"/api/data/v9\.2/(\w+)\(([0-9a-f-]{36})\)", unquote(path))
        self.check(found, f"a path that there is: {path}")
        assert found is not None
        if found[2] in self.refuse:
            return 400, self.refuse[found[2]]
        if found[1] == "msdyn_predictivescores":
            self.check(sent["msdyn_entitytype"] in {"lead", "opportunity", "account"}, "an entity type")
            self.check(len(sent["msdyn_entityid"]) <= 256, "an entity id")
            self.check(sent["msdyn_grade"] in _GRADES, "a grade")
            self.check(sent["msdyn_scoretrend"] in {0, 1, 2, 3}, "a trend")
            self.check(sent["msdyn_score"] is None or isinstance(sent["msdyn_score"], int), "a score")
        bind = sent.pop("msdyn_PredictiveScoreId@odata.bind", None)
        if bind is not None:
            points = re.fullmatch(r"/msdyn_predictivescores\(([0-9a-f-]{36})\)", bind)
            self.check(
                points and points[1] in self.objects["msdyn_predictivescores"], "a score that there is"
            )
            sent["score"] = bind
        self.objects.setdefault(found[1], {}).setdefault(found[2], {}).update(sent)
        return 204, ""


@contextmanager
def served(stand_in: StandIn) -> Iterator[StandIn]:
    """Serve a stand-in on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, given, kind = stand_in.answer(self.command, self.path, dict(self.headers.items()), body)
            self.send_response(status)
            self.send_header("Content-Type", kind or "application/json")
            self.send_header("Content-Length", str(len(given)))
            self.end_headers()
            self.wfile.write(given)

        do_GET = do_POST = do_PATCH = do_PUT = handle_any  # noqa: N815  as the library names them

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as the library has it
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield stand_in
        finally:
            server.shutdown()


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)
