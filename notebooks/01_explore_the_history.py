# %% [markdown]
# # What did we know of a deal, and when did we learn it?
#
# A field as it stands today is not what was known on the day somebody had to decide. The store keeps both:
# when something happened (`occurred_at`) and when we learned of it (`recorded_at`). This notebook looks at
# one deal on two days, and at how late facts come in.
#
# The decision behind it: [one time rule, written once](../docs/design.md#time).
#
# It reads the home folder that `CRM_HOME` names, as `make demo` fills it, and writes nothing.

# %%
from datetime import timedelta

import pandas as pd
from sqlalchemy import func, select

from crm_core.changes import Change
from crm_core.clock import instant
from crm_core.records import Activity, Deal
from crm_core.store import Store
from features.cohort import Cohort
from features.explorer import explore
from features.feature_set import feature_set_for
from features.frame import build_frame
from serving.settings import Settings

store = Store(Settings().home_folder.database_url)
now = store.clock.now()
deals = feature_set_for(store, "win_probability")
print(f"{len(deals.features)} features of a deal, asked at {now:%Y-%m-%d}")

# %% [markdown]
# ## Every edit leaves a row
#
# The log is append-only and written in the transaction of the edit itself. What fields of deals change most?

# %%
with store.reading() as session:
    edits = session.execute(
        select(Change.field, func.count())
        .where(Change.record_type == "deal", Change.field.is_not(None))
        .group_by(Change.field)
        .order_by(func.count().desc())
    ).all()
pd.DataFrame(edits, columns=["field", "changes"]).head(8)

# %% [markdown]
# ## How late do facts come in?
#
# The days between a call or a meeting and the day it was entered. Whoever trains on `occurred_at` alone lets
# a model see what nobody had written down yet.

# %%
with store.reading() as session:
    rows = session.execute(select(Activity.occurred_at, Activity.recorded_at)).all()
late = pd.Series([(known - happened) / timedelta(days=1) for happened, known in rows], name="days late")
late.describe(percentiles=[0.5, 0.9, 0.99]).round(2)

# %% [markdown]
# ## One deal on two days
#
# A deal that was worked on for a while: the same feature functions, asked from two instants. This is all that
# training, batches and a single call ever do.

# %%
with store.reading() as session:
    busiest = session.execute(
        select(Activity.deal_id)
        .where(Activity.deal_id.is_not(None))
        .group_by(Activity.deal_id)
        .order_by(func.count().desc(), Activity.deal_id)
        .limit(1)
    ).scalar_one()
    deal = session.get_one(Deal, busiest)
    born, last = max(deal.occurred_at, deal.recorded_at), deal.closed_at or now
days = [born + (last - born) * share for share in (0.3, 0.9)]
asked = [build_frame(store, Cohort.single("deal", busiest, day), deals).iloc[0] for day in days]
names = ["stage", "stage_age_days", "amount", "meetings_count", "days_since_last_call", "calls_count_60d"]
pd.DataFrame(asked, index=[f"{day:%Y-%m-%d}" for day in days])[names].T

# %% [markdown]
# ## The rows behind one number
#
# Why has `meetings_count` this value on the second day? Rows that were known only later do not count, even
# where they had happened.

# %%
(meetings,) = explore(store, deals.select(["meetings_count"]), busiest, days[1])
print(meetings.feature.say(meetings.value))
pd.DataFrame(
    [
        {"happened": row.occurred_at, "known from": row.known_from, "counted": row.counted, **row.values}
        for row in meetings.rows
    ]
).tail(8)

# %% [markdown]
# ## Asking from the past changes nothing in the past
#
# Everything recorded after the question is out of its sight. So the row of that day is the same today as it
# will be next year, which is what lets a stored score be recomputed to the bit.

# %%
again = build_frame(store, Cohort.single("deal", busiest, days[0]), deals).iloc[0]
assert again.equals(asked[0])
print("the same row, to the bit, though it is asked on", f"{instant(int(now.timestamp() * 1e6)):%Y-%m-%d}")
