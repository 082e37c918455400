"""What Alembic runs for each migration; the connection comes from `crm_core.migrations`."""

from __future__ import annotations

from alembic import context

from crm_core import (  # noqa: F401  their tables belong to Base
    access,
    alerts,
    approvals,
    articles,
    audiences,
    calendar_feeds,
    changes,
    checklists,
    connections,
    day_plans,
    duplicates,
    feedback,
    fields,
    forms,
    idempotency,
    jobs,
    kept_forecasts,
    logins,
    mail_templates,
    messages,
    notifications,
    numbering,
    operations,
    payments,
    predictions,
    promotions,
    rescoring,
    sales_settings,
    saved,
    search_index,
    sequences,
    service_desk,
    sessions,
    shadows,
    stage_settings,
    targets,
    ticket_clocks,
    tokens,
    uploads,
    webhooks,
    working_time,
)
from crm_core.automation import kept  # noqa: F401  as above
from crm_core.incoming import mailboxes, tray  # noqa: F401  as above
from crm_core.migrations import VERSION_TABLE
from crm_core.records import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
