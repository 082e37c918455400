"""Automation: rules that do something when something happened, or nothing did.

- `rules` says what a rule is: a trigger (`triggers`), conditions as lists and segments have them, and actions
  (`actions`), all of it plain JSON. `kept` holds rules, each of their versions, and what they did.
- `causes` works out, from the change log, predictions and alerts, what set a rule off; `due` does the same
  for what comes with time. A cause has a key; a rule acts once for one key, however often it is found.
- `acting` does the actions in the transaction that notes the run; `people` knows whom they reach.
- `following` is the one loop around all that, and `rehearsal` asks it about the past without doing anything.
"""
