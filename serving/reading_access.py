"""How a BI tool gets to read the views, and nothing but read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crm_core.store import Store
from crm_core.views import grants, list_views

WARNING = "-- These views show what all roles together may see: prices, costs and personal data included."


def reading_access(store: Store, role: str) -> dict[str, Any]:
    """Return the lines to run or to read, for the database that there is, and the names of the views."""
    names = [view.name for view in list_views()]
    url = store.engine.url
    if store.engine.dialect.name == "sqlite":
        file = Path(url.database or "").resolve()
        lines = [WARNING, f"-- Open the file for reading only: {file.as_uri()}?mode=ro"]
        lines += [f"SELECT * FROM {name};" for name in names]  # noqa: S608  names of ours
    else:
        lines = [WARNING, *grants(role, url.database or "crm")]
    return {"database": store.engine.dialect.name, "views": names, "lines": lines}
