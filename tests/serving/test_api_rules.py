"""Every operation follows the same rules, or stands below with the reason why not.

Lists turn pages, what can be edited has a tag that edits name, what writes takes an Idempotency-Key, what
creates says where. That answers keep what is promised here is looked at in `test_access` and
`test_conformance`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
from flask import Flask
from flask_openapi.openapi import OpenAPI

from crm_core.tokens import Scope

Operation = dict[str, Any]

WHOLE: Final[Mapping[str, str]] = {
    "GET /accounts/{id}/profile": "a glance: the newest few of each kind; their own lists have the rest",
    "GET /accounts/{id}/money": "one entry by currency",
    "GET /deals/{id}/money": "one entry by currency",
    "GET /deals/{id}/checklist": "what a stage asks for, which has a limit",
    "GET /quotes/{id}/totals": "a sum, and what each line of it comes to",
    "GET /contracts/{id}/payment-plan": "a plan that sums to what it is worth; its parts have a limit",
    "GET /orders/{id}/payment-plan": "as of contracts",
    "GET /forecast": "a figure by period, of which there are four",
    "GET /funnel": "one entry by step",
    "GET /reports/run": "a table with as many rows as it says, and `more`",
    "GET /reports/{id}": "as above",
    "GET /reports/retention": "a table by quarter",
    "GET /marketing/attribution": "rows that add up to the whole",
    "GET /marketing/lead-quality": "as above",
    "GET /alerts/{id}": "one alert; what was done about it belongs to it",
    "GET /service": "what administrators have set up, a handful of queues",
    "GET /working-time": "what administrators have set up: a week, and days that differ",
    "GET /pipelines": "they come with the program, as do their stages",
    "GET /pipelines/{pipeline}/stages/{stage}": "one stage; what it asks for has a limit",
    "GET /models": "one entry by task, which come with the program",
    "GET /models/{task}/versions/{version}": "one card",
    "GET /predictions/{id}": "one prediction; what people say of it is listed by GET /feedback, too",
    "GET /rescoring": "the workers that run now, and the newest sweeps",
    "GET /{type}/{id}/what-would-change": "the few hints that are worth it",
    "GET /{type}/{id}/suggestions": "the few that are sure",
    "GET /{type}/{id}/score-now": "one score with its reasons",
    "GET /tickets/{id}/suggestions": "the few articles that are most alike",
    "GET /unusual-changes": "the few that are",
    "GET /webhooks/event-types": "the kinds of events that the program and declared types have",
    "GET /mail-templates/places": "one entry by what a mail may name",
    "GET /mail-sequences/{id}": "one sequence; its steps have a limit",
    "GET /record-types/{type}/fields/{name}": "one field; its choices have a limit",
}
"""Reads that hold a list and turn no pages, with what bounds it."""

UNTAGGED: Final[Mapping[str, str]] = {
    "PUT /targets": "names by its body what it sets; versions stand in the list, and If-Match takes those",
    "PUT /service/targets": "names by its body what it sets; GET /service has the tag",
    "PUT /reports/{id}/mails": "says when a report goes to some people; who is not named is left alone",
    "PUT /working-time/days/{day}": "says all there is of a day; it makes, sets and takes away one alike",
}
"""Edits whose own address cannot be read for a tag."""

BY_KEY: Final = "/by-external-id/{external_id}"
"""The end of addresses of records that are read by their ids, with their tags."""

UNCONDITIONAL: Final = frozenset({"PUT /reports/{id}/mails", "PUT /working-time/days/{day}"})
"""Those of them that take no If-Match: what they write does not rest on what was there."""

ACTS: Final[Mapping[str, str]] = {
    "POST /batch": "does many writes; each row says what it made, and where",
    "POST /leads/{id}/convert": "makes up to three records, and sent again none",
    "POST /leads/{id}/disqualify": "changes a lead",
    "POST /leads/{id}/reopen": "changes a lead",
    "POST /deals/{id}/stage": "changes a deal",
    "POST /deals/{id}/close": "changes a deal",
    "POST /deals/{id}/reopen": "changes a deal",
    "POST /deals/{id}/checklist": "ticks something off",
    "POST /{type}/{id}/merge": "makes two records one",
    "POST /{type}/{id}/distinct": "notes that two records are two",
    "POST /{type}/{id}/scoring-opt-out": "changes whether somebody is scored",
    "POST /users/{id}/leave": "hands over what somebody had",
    "POST /quotes/{id}/send": "changes a quote",
    "POST /quotes/{id}/accept": "changes a quote, and may make two records, which it names",
    "POST /quotes/{id}/reject": "changes a quote",
    "POST /approvals/{id}/decide": "changes an approval",
    "POST /contracts/{id}/end": "changes a contract",
    "POST /contracts/{id}/receive": "changes the payments of a contract",
    "POST /orders/{id}/receive": "changes the payments of an order",
    "POST /payments/{id}/receive": "changes a payment",
    "POST /targets/{id}/split": "makes and changes many targets, which it gives",
    "POST /tickets/{id}/assign": "changes a ticket",
    "POST /tickets/{id}/merge": "makes two tickets one",
    "POST /articles/{id}/restore": "changes an article",
    "POST /articles/{id}/helpful": "counts a word about an article; nothing is to be read of it alone",
    "POST /alerts/{id}/acknowledge": "changes an alert",
    "POST /alerts/{id}/snooze": "changes an alert",
    "POST /alerts/{id}/assign": "changes an alert",
    "POST /alerts/{id}/reopen": "changes an alert",
    "POST /marketing/campaigns/{id}/members": "makes many members, and says how many",
    "POST /forms/submissions/{id}/decide": "changes a submission",
    "POST /record-types/{type}/retire": "changes a record type",
    "POST /record-types/{type}/restore": "changes a record type",
    "POST /record-types/{type}/fields/{name}/retire": "changes a field",
    "POST /record-types/{type}/fields/{name}/restore": "changes a field",
    "POST /pipelines/{pipeline}/stages/{stage}/reset": "changes a stage",
    "POST /models/{task}/promote": "changes what serves",
    "POST /models/{task}/rollback": "changes what serves",
    "POST /predictions/{id}/recompute": "asks; nothing is stored",
    "POST /leads/{id}/score": "asks; the answer stands on the record and in its history",
    "POST /deals/{id}/score": "as above",
    "POST /customers/{id}/score": "as above",
    "POST /{type}/scores": "asks about many",
    "POST /leads/score-hypothetical": "asks; nothing is stored",
    "POST /deals/score-hypothetical": "as above",
    "POST /customers/score-hypothetical": "as above",
    "POST /people/find": "asks; a person's data stands in no address",
    "POST /people/export": "as above",
    "POST /people/erase": "takes away",
    "POST /notifications/read": "notes what was read",
    "POST /jobs/{id}/revive": "changes a job",
    "POST /webhooks/{id}/rotate-secret": "changes a webhook",
    "POST /webhooks/{id}/test": "has something sent, which is on its way: 202",
    "POST /webhooks/{id}/deliveries/{delivery_id}/redeliver": "as above",
    "POST /automation/rules/{id}/on": "changes a rule",
    "POST /automation/rules/{id}/off": "changes a rule",
    "POST /automation/rules/dry-run": "asks; nothing is stored",
    "POST /intake/mail": "brings what may be filed, lie in the tray, or be here already",
    "POST /intake/calls": "as above",
    "POST /intake/chats": "as above",
    "POST /intake/calendar": "as above",
    "POST /intake/items/{id}/assign": "puts what is in the tray on a record",
    "POST /intake/items/{id}/drop": "takes something from the tray",
    "POST /mail-sequences/{id}/start": "begins with somebody, or finds that they began before",
    "POST /mail-sequences/{id}/runs/{run_id}/stop": "changes a run",
}
"""What is posted and makes nothing with a place of its own."""

KEYLESS: Final = frozenset({Scope.SCORE, Scope.PEOPLE})
"""What scores, or handles a person's data, does no harm when it is sent again."""


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    from docs import generate

    return generate.openapi()


@pytest.fixture
def operations(spec: dict[str, Any]) -> dict[str, Operation]:
    return {
        f"{method.upper()} {path.removeprefix('/api/v1')}": operation
        for path, item in spec["paths"].items()
        for method, operation in item.items()
        if path.startswith("/api/v1")
    }


def parameters(operation: Operation) -> set[str]:
    return {each["name"] for each in operation.get("parameters", ())}


def answered(spec: dict[str, Any], operation: Operation, status: str = "200") -> dict[str, Any]:
    """Return the schema that an operation answers with, looked up."""
    given = operation["responses"].get(status, {}).get("content", {}).get("application/json", {})
    return resolved(spec, given.get("schema", {}))


def resolved(spec: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    named = schema.get("$ref", "").rpartition("/")[2]
    return spec["components"]["schemas"][named] if named else schema


def lists_of(spec: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    """Yield the names of what holds objects, or all that there is, many times over."""
    for name, field in schema.get("properties", {}).items():
        for each in (field, *field.get("anyOf", ())):
            held = resolved(spec, each.get("items", {}))
            if each.get("type") == "array" and (name == "items" or "properties" in held):
                yield name


def headers_of(operation: Operation, status: str) -> set[str]:
    return set(operation["responses"].get(status, {}).get("headers", {}))


def test_whatever_holds_a_list_turns_its_pages(
    spec: dict[str, Any], operations: dict[str, Operation]
) -> None:
    reads = {name: each for name, each in operations.items() if name.startswith("GET ")}
    lists = {name: each for name, each in reads.items() if list(lists_of(spec, answered(spec, each)))}
    assert len(lists) > 90
    turned = {name for name, each in lists.items() if turns_pages(spec, each)}
    assert turned == lists.keys() - WHOLE.keys(), "each list turns pages, or stands in WHOLE"
    assert WHOLE.keys() <= lists.keys()


def turns_pages(spec: dict[str, Any], operation: Operation) -> bool:
    taken, given = parameters(operation), answered(spec, operation)
    return (
        "limit" in taken
        and bool({"cursor", "after"} & taken)
        and "next_cursor" in given["properties"]
        and "Link" in headers_of(operation, "200")
    )


def edits(operations: dict[str, Operation]) -> dict[str, Operation]:
    """Return what changes something, or ends what can be changed."""
    changed = {name.split(" ")[1] for name in operations if name.startswith(("PUT ", "PATCH "))}
    return {
        name: each
        for name, each in operations.items()
        if name.startswith(("PUT ", "PATCH "))
        or (name.startswith("DELETE ") and name.split(" ")[1] in changed)
    }


def test_whatever_can_be_edited_has_a_tag_and_edits_name_it(operations: dict[str, Operation]) -> None:
    found = edits(operations)
    assert len(found) > 70
    for name, each in found.items():
        if name not in UNCONDITIONAL:
            assert "If-Match" in parameters(each), name
            assert "412" in each["responses"], name
            assert "428" not in each["responses"], name
        if name not in UNTAGGED and not name.endswith(BY_KEY):
            read = operations[f"GET {name.split(' ')[1]}"]
            assert "If-None-Match" in parameters(read), name
            assert "ETag" in headers_of(read, "200"), name
            assert "304" in read["responses"], name
    assert found.keys() >= UNTAGGED.keys() >= UNCONDITIONAL


def test_no_edit_says_its_version_in_its_body(spec: dict[str, Any], operations: dict[str, Operation]) -> None:
    for name, each in edits(operations).items():
        sent = each.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        assert "version" not in resolved(spec, sent).get("properties", {}), name


def test_whatever_writes_can_be_sent_again(operations: dict[str, Operation]) -> None:
    writes = {name: each for name, each in operations.items() if not name.startswith("GET ")}
    for name, each in writes.items():
        ((scope,),) = (either["key"] for either in each["security"])
        assert ("Idempotency-Key" in parameters(each)) == (scope not in KEYLESS), name


def test_whatever_creates_says_where(operations: dict[str, Operation]) -> None:
    posts = {name for name in operations if name.startswith("POST ")}
    made = {name for name, each in operations.items() if "201" in each["responses"]}
    assert posts - made == ACTS.keys(), "what is posted creates, or stands in ACTS"
    assert [name for name in made if "Location" not in headers_of(operations[name], "201")] == []


def test_every_problem_is_described(operations: dict[str, Operation]) -> None:
    for name, each in operations.items():
        for status, given in each["responses"].items():
            if status >= "400":
                assert list(given["content"]) == ["application/problem+json"], (name, status)


def test_the_rules_read_the_document_that_is_served(app: Flask, spec: dict[str, Any]) -> None:
    assert isinstance(app, OpenAPI)
    assert app.api_doc["paths"].keys() == spec["paths"].keys()
