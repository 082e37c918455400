"""The store's fixtures on both databases, for tests whose outcome a database has a say in.

Import all of it: `from tests.serving.both_databases import *`.
"""

from __future__ import annotations

from tests.crm_core.conftest import database, store

__all__ = ["database", "store"]
