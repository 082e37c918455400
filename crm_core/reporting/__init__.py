"""Reports: declared measures by declared dimensions, filtered, of a period, and as of any instant.

- `catalogue`: what can be measured, and by what.
- `facts`: records as they were known at an instant, as arrays.
- `counting`: from facts to a table, with intervals.
- `asking`: the question, its checks, and its answer within the rights of a reader.
- `retention`: what became of customers, by the quarter in which they first bought.
- `keeping`: reports that people keep, share and have sent to them.

Time rule: a report "as of" an instant counts what was recorded and had happened by then, with the values that
fields held as known then (`crm_core.history`), so that a figure of the past stays what it was. What an import
says was known earlier is believed. Rights are those of now: who may not see a record, or a field, is told
nothing of it, whatever the instant. Amounts are summed by currency and never added across.
"""
