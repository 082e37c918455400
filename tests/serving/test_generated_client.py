"""A client that a public generator makes from the document talks to the service."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from flask import Flask
from flask_openapi.openapi import OpenAPI

from crm_core.store import Store
from tests.serving.conftest import Cast

NAME = "crm_client"


@pytest.fixture
def generated(app: Flask, tmp_path: Path) -> Iterator[list[Any]]:
    """Make the client below a folder that Python imports from; give what the generator found wrong."""
    generator = pytest.importorskip("openapi_python_client")
    from openapi_python_client.config import Config, ConfigFile, MetaType

    assert isinstance(app, OpenAPI)
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(app.api_doc))
    config = Config.from_sources(
        ConfigFile(post_hooks=[]),
        MetaType.NONE,
        document,
        "utf-8",
        overwrite=False,
        output_path=tmp_path / NAME,
    )
    found = generator.generate(config=config)
    sys.path.insert(0, str(tmp_path))
    yield list(found)
    sys.path.remove(str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == NAME]:
        del sys.modules[name]


def load(name: str) -> ModuleType:
    return importlib.import_module(f"{NAME}.{name}")


def test_a_generated_client_writes_and_reads(
    generated: list[Any], app: Flask, store: Store, cast: Cast
) -> None:
    assert generated == [], "nothing is left out"
    client = load("client").AuthenticatedClient(
        base_url="http://crm",
        token=cast.keys["Ana"],
        httpx_args={"transport": httpx.WSGITransport(app=app)},
    )
    models = load("models")
    body = models.LeadIn(company="Fangda", occurred_at=store.clock.now())
    made = load("api.leads.create_lead").sync(client=client, body=body)
    assert (made.company, made.owner_id, made.status.value) == ("Fangda", cast["Ana"].id, "open")
    changed = load("api.leads.update_lead").sync(
        made.id, client=client, body=models.LeadPatch(phone="1"), if_match=f'"{made.version}-0"'
    )
    assert (changed.phone, changed.version) == ("1", made.version + 1)
    (listed,) = load("api.leads.list_leads").sync(client=client, order="-recorded_at").items
    assert listed == changed
    stale = load("api.leads.update_lead").sync(
        made.id, client=client, body=models.LeadPatch(phone="2"), if_match=f'"{made.version}-0"'
    )
    assert isinstance(stale, models.Problem)
    assert stale.status == 412
