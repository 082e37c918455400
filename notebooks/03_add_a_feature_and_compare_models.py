# %% [markdown]
# # Does a new feature pay?
#
# A feature is one line. Whether it belongs into the set is a question to the data: fit with and without it on
# what was known at a day in the past, and judge both on the questions asked later. A difference smaller than
# its noise is none, and then the plainer model stays.
#
# The decisions behind it: [how a model is chosen](../docs/models.md#how-a-model-is-chosen) and
# [adding a feature](../docs/features.md#adding-one).
#
# It reads the home folder that `CRM_HOME` names, as `make demo` fills it, and registers nothing.

# %%
from dataclasses import replace

import pandas as pd

from crm_core.clock import DAY, instant, micros
from crm_core.store import Store
from features.deal import MEETINGS
from features.feature_set import feature_set_for
from features.measures import EventTrend
from models.building import build_bundle, gather
from models.evaluation import compare_losses, loss_of
from models.fitting import Recipe, Rung
from models.questions import answers, ask, first_instant
from models.tasks import get_task
from serving.settings import Settings

store = Store(Settings().home_folder.database_url)
task = get_task("win_probability")
now = micros(store.clock.now())

# %% [markdown]
# ## One line declares it
#
# Are meetings picking up? The name, the unit, the sentence in two languages and the fields that it reads
# follow from the declaration; nothing else has to be written, in training or in serving.

# %%
before = feature_set_for(store, task.name)
trend = EventTrend(of=MEETINGS, lookback="30d")
after = replace(before, features=(*before.features, trend))
print(trend.name, "|", trend.unit, "|", trend.source_fields)
print([trend.say(value) for value in (2.0, 0.0, -1.0)], trend.say(2.0, "zh"))

# %% [markdown]
# ## Learn up to a day, judge after it
#
# Nine months ago is the origin: what is learned was known then, labels included. Judged are questions asked
# since whose 90 days are over by now. The recipe is the same for both, so that only the feature differs.

# %%
HORIZON = 90
origin = now - 270 * DAY
recipe = Recipe(rung=Rung.LOGISTIC, penalty=30.0)
past = ask(store, task, after, task.ask, start=first_instant(store, task), until=instant(origin))
later = ask(store, task, after, task.ask_to_judge, start=instant(origin), until=instant(now))
answer = answers(store, later, HORIZON)
judged = later.take(answer.over)
happened = answer.happened[answer.over]
print(f"learned from {len(past)} questions, judged on {len(judged)}, of which {happened.sum()} were won")

# %%
losses = {}
for name, chosen in (("without", before), ("with", after)):
    lesson = replace(past, frame=past.frame[list(chosen.names)])
    bundle = build_bundle(gather(lesson, store, chosen, origin), recipe=recipe).bundle
    losses[name] = loss_of(bundle.predict(judged.frame).within[HORIZON], happened)
pd.Series({name: loss.mean() for name, loss in losses.items()}, name="log loss").round(4).to_frame()

# %% [markdown]
# ## Is the difference more than noise?
#
# The interval comes from drawing accounts again: twelve questions about one deal are not twelve answers.

# %%
gain = compare_losses(losses["without"], losses["with"], judged.account)
print(f"gain in log loss {gain.value:+.4f}, 95 % between {gain.low:+.4f} and {gain.high:+.4f}")
worth = gain.low > 0 and gain.value > 0.003 * losses["without"].mean()
print("keep it" if worth else "leave it out: no better than noise, or by too little to matter")
