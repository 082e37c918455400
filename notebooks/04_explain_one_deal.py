# %% [markdown]
# # Why does this deal have its score, and what goes with a higher one?
#
# One deal, the model that serves, and everything behind the number: reasons that add up to it, in words and
# in log-odds, and the score as if something had just been done. The first is arithmetic and exact. The second
# is what went together in the past, and proves nothing about what would help.
#
# The decisions behind it: [reasons](../docs/models.md#reasons) and
# [what would change it](../docs/models.md#what-would-change-it).
#
# It reads the home folder that `CRM_HOME` names, as `make demo` fills it, and writes nothing.

# %%
import math

import pandas as pd
from sqlalchemy import select

from crm_core.records import Deal
from crm_core.store import Store
from models.scoring import score_records
from models.what_if import NOTE, what_would_change
from serving.modelling import load_bundle_of
from serving.settings import Settings

home = Settings().home_folder
store = Store(home.database_url)
now = store.clock.now()
bundle = load_bundle_of(home, store, "win_probability")
print(bundle.version, "learned from", bundle.trained["outcomes"], "deals that were won")

# %% [markdown]
# ## One deal
#
# An open deal in the middle: neither sure nor hopeless.

# %%
with store.reading() as session:
    open_deals = list(session.scalars(select(Deal.id).where(Deal.status == "open").order_by(Deal.id)))
scored = [one for one in score_records(store, bundle, open_deals, now) if one.probability is not None]
scored.sort(key=lambda one: one.probability or 0.0)
deal = scored[len(scored) // 2]
probability = deal.probability or 0.0
print(f"deal {deal.record_id}: {probability:.1%} within {bundle.horizon_days} days, grade {deal.grade}")

# %% [markdown]
# ## Reasons
#
# Each group of features is one reason, told by its own value beside what is usual. `base` is the average.

# %%
columns = ["group", "en", "zh", "log_odds"]
pd.DataFrame(deal.reasons)[columns].round({"log_odds": 3}).head(10)

# %% [markdown]
# They add up to the probability, to within 1e-9: nothing is left out, and nothing is made up.

# %%
total = math.fsum(reason["log_odds"] for reason in deal.reasons)
shown = math.log(probability / (1 - probability))
print(f"sum of reasons {total:.12f}, log-odds of the score {shown:.12f}")
assert abs(total - shown) < 1e-9

# %% [markdown]
# ## What goes with a higher chance
#
# An event, or a value just set, is laid over what is known, and the same feature functions make the row that
# there would be. Nothing is written.

# %%
found = what_would_change(store, bundle, deal.record_id, now)
print(NOTE["en"])
pd.DataFrame(
    [
        {"action": hint.action, "with it": f"{hint.probability:.1%}", "says": hint.en, "but": hint.caution_en}
        for hint in found.hints
    ]
)
