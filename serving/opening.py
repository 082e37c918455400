"""Opening the store of a home from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crm_core.errors import StoreNotInitialisedError
from serving.settings import Settings

if TYPE_CHECKING:
    from crm_core.store import Store


def open_store(settings: Settings) -> Store:
    """Return the store of a home that has one of the right version."""
    from crm_core import migrations
    from crm_core.store import Store
    from serving.logs import start_logging

    home = settings.home_folder
    if settings.database_url is None and not home.database.exists():
        raise StoreNotInitialisedError(f"there are no records in {home.folder}; run: crm init, or crm demo")
    migrations.check(home.database_url)
    start_logging(None, level="warning")  # on standard error; `crm serve` has a file
    return Store(home.database_url)
