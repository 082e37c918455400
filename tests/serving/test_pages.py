"""The pages, as a browser without scripts sees them."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient

from crm_core.store import Store
from tests.factories import make_activity, make_lead
from tests.serving.conftest import PASSWORD, Cast, HandMadeModel


def csrf_of(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def log_in(client: FlaskClient, name: str, password: str = PASSWORD, language: str = "en") -> None:
    form = client.get("/login", headers={"Accept-Language": language}).text
    sent = {"csrf_token": csrf_of(form), "email": f"{name.lower()}@example.com", "password": password}
    answer = client.post("/login", data=sent)
    assert answer.status_code == 302, answer.text


@pytest.mark.parametrize("path", ["/leads", "/deals", "/customers"])
@pytest.mark.parametrize("name", ["Ana", "Mara", "Dana", "Adam"])
def test_lists_without_records_say_what_to_do(client: FlaskClient, cast: Cast, name: str, path: str) -> None:
    log_in(client, name)
    answer = client.get(path)
    assert answer.status_code == 200
    assert "crm import MAPPING --from FOLDER" in answer.text
