"""The operations that every record type has; `test_access` tries them all as everybody."""

from __future__ import annotations

from serving.api.records import LOGGED_ON
from serving.api.records_schemas import COLLECTIONS

PATHS = {name: each.path.replace("<string:type>", "{type}") for name, each in COLLECTIONS.items()}
"""Where the records of each type are."""


def operations_of(record_type: str) -> set[str]:
    """Return the operations of one record type, as `METHOD /path`."""
    path = PATHS[record_type]
    found = {f"GET /{path}", f"POST /{path}", f"PUT /{path}/by-external-id/{{external_id}}"}
    found |= {f"{method} /{path}/{{id}}" for method in ("GET", "PATCH", "DELETE")}
    found.add(f"GET /{path}/{{id}}/timeline")
    if record_type in LOGGED_ON:
        found |= {f"{method} /{path}/{{id}}/activities" for method in ("GET", "POST")}
    return found


OF_RECORDS = {operation for record_type in PATHS for operation in operations_of(record_type)}

OF_RECORDS |= {
    "POST /batch",
    "GET /changes",
    "POST /leads/{id}/convert",
    "POST /leads/{id}/disqualify",
    "POST /leads/{id}/reopen",
    "POST /deals/{id}/close",
    "POST /deals/{id}/reopen",
}
