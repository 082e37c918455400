"""The pages of customers."""

from __future__ import annotations

from flask import Blueprint

from serving.web.record_views import add_views
from serving.web.records import CUSTOMERS

pages = Blueprint("customers_pages", __name__, url_prefix="/customers")
add_views(pages, CUSTOMERS)
