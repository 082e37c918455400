"""What axe finds on a page that keeps somebody out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import axe_playwright_python
from playwright.sync_api import Page

AXE: Final = next(Path(axe_playwright_python.__file__).parent.glob("axe*.js"))

_NEVER_SERIOUS: Final = (
    *("aria-allowed-role", "aria-deprecated-role", "empty-table-header", "focus-order-semantics"),
    *("form-field-multiple-labels", "heading-order", "hidden-content", "html-xml-lang-mismatch"),
    *("image-redundant-alt", "landmark-banner-is-top-level", "landmark-contentinfo-is-top-level"),
    *("landmark-main-is-top-level", "landmark-no-duplicate-banner", "landmark-no-duplicate-contentinfo"),
    *("landmark-no-duplicate-main", "landmark-one-main", "landmark-unique", "meta-viewport-large"),
    *("no-autoplay-audio", "page-has-heading-one", "presentation-role-conflict", "region", "skip-link"),
    *("server-side-image-map", "table-duplicate-name"),
)
"""Rules of which all that they find is minor or moderate: finding it takes half of axe's time."""

OPTIONS: Final[dict[str, Any]] = {
    "resultTypes": ["violations"],
    "preload": False,  # no rule that is on reads style sheets
    "rules": {rule: {"enabled": False} for rule in _NEVER_SERIOUS},
}

SERIOUS: Final = """([about, options]) => axe.run(about ?? document, options).then(found => found.violations
    .filter(each => ["serious", "critical"].includes(each.impact))
    .map(each => `axe ${each.id}: ` + each.nodes.slice(0, 3)
        .map(node => `${node.target.join(" ")} ${node.html.slice(0, 200)}`).join(" | ")))"""


def serious(page: Page) -> list[str]:
    """Return what axe finds serious or worse on a page as it is shown."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[str] = page.evaluate(SERIOUS, [None, OPTIONS])
    return found
