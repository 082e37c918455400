# %% [markdown]
# # What is the outcome of a deal that is still open?
#
# "Won within 90 days" sounds simple until one meets deals that are open. Leaving them out gives a wrong win
# rate. This notebook defines the label, counts what is not known yet, and shows how far the short cut is off.
#
# The decision behind it: [a hazard, cut into intervals](../docs/models.md#a-hazard-cut-into-intervals), and
# [what bias the short cut has](../docs/results.md).
#
# It reads the home folder that `CRM_HOME` names, as `make demo` fills it, and writes nothing.

# %%
from datetime import timedelta

import numpy as np
import pandas as pd
from sqlalchemy import select

from crm_core.arrays import NO_INSTANT
from crm_core.clock import DAY, micros
from crm_core.records import Deal
from crm_core.store import Store
from features.cohort import deal_cohort
from features.labels import deal_labels
from models.hazard import expose
from serving.settings import Settings

HORIZON = 90
store = Store(Settings().home_folder.database_url)
now = store.clock.now()

# %% [markdown]
# ## Who is asked about, and when
#
# Open deals, every Monday and whenever their stage changed: only questions that somebody could have asked.
# Here, those of the last year.

# %%
asked = deal_cohort(store, start=now - timedelta(days=365), until=now)
labels = deal_labels(store, asked)
print(f"{len(asked)} questions about {len(np.unique(asked.ids))} deals")

# %% [markdown]
# ## Three answers, not two
#
# Won within the horizon; not won, although the horizon is over; **not known yet**, because it is not over.
# The third kind is neither dropped nor called lost.

# %%
end = asked.as_of + HORIZON * DAY
won = (labels.event_at != NO_INSTANT) & (labels.event_at <= end)
over = labels.known_until >= end
answer = np.select([won & over, over, won], ["won", "not won", "won, window open"], "not known yet")
pd.Series(answer, name="questions").value_counts().to_frame()

# %% [markdown]
# ## The short cut and its error
#
# Most tools learn from deals that are closed. Where wins come quickly and losses drag on, the recent deals
# that are closed are won more often than deals are. These were asked about in the last 120 days.

# %%
recent = asked.as_of > micros(now) - 120 * DAY
with store.reading() as session:
    status = dict(session.execute(select(Deal.id, Deal.status)).all())
state = np.array([status[record] for record in asked.ids.tolist()])
closed = recent & (state != "open")
short_cut = float((state[closed] == "won").mean())
print(f"won among those that are closed by now: {short_cut:.0%}")

# %% [markdown]
# ## The same deals, whole intervals only
#
# The days after a question are cut into intervals. One counts once it is over, whatever has happened; the
# chance of each follows from those who were still at risk, and the chances multiply up.

# %%
ENDS = (7, 14, 30, 60, 90)
seen = expose(
    as_of=asked.as_of,
    event_at=labels.event_at,
    known_until=labels.known_until,
    weight=np.ones(len(asked)),
    ends_days=ENDS,
).take(recent)
hazard = seen.event.sum(axis=0) / np.maximum(seen.at_risk.sum(axis=0), 1)
within = 1 - np.cumprod(1 - hazard)
table = pd.DataFrame({"at risk": seen.at_risk.sum(axis=0), "won": seen.event.sum(axis=0)}, index=ENDS)
table.assign(hazard=hazard.round(4), won_by_then=within.round(4)).rename_axis("days")

# %%
print(f"whole intervals: {within[-1]:.0%} within {HORIZON} days; closed deals only: {short_cut:.0%}")
assert 0 <= within[-1] <= 1
