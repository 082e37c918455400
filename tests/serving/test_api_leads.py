"""Leads over HTTP."""

from __future__ import annotations

from flask.testing import FlaskClient

from tests.serving.conftest import Cast


def test_a_created_lead_is_read_back(client: FlaskClient, cast: Cast) -> None:
    sent = {"name": "Wang Fang", "company": "Fangda Valves", "source": "web_form", "employees": 40}
    created = client.post("/api/v1/leads", json=sent, headers=cast.header("Ana"))
    assert created.status_code == 201, created.text
    read = client.get(f"/api/v1/leads/{created.get_json()['id']}", headers=cast.header("Ana"))
    assert read.status_code == 200
    assert read.json == created.get_json()
    assert {name: read.get_json()[name] for name in sent} == sent
    assert read.get_json()["owner_id"] == cast["Ana"].id
    assert read.get_json()["prediction"] is None
