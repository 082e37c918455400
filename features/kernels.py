"""The loops that features are made of, compiled by numba; `features.compiled` hands them out.

Every loop takes questions beside runs of events: question i sees the positions `start[i]` to `stop[i]` of the
event arrays, which are in order (by key, as they happened, as written). All numbers are int64, so that no
order of summing changes a bit. The loops hold no lock of the interpreter: blocks of questions run in threads.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from features.compiled import compiled

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

DAY = 86_400_000_000
HOUR = DAY // 24
"""As `crm_core.clock.DAY`; what a compiled loop reads has to stand in its own module."""
NO_INSTANT = np.iinfo(np.int64).min
"""As `crm_core.arrays.NO_INSTANT`."""
NEVER = np.iinfo(np.int64).max
"""As `features.windows.NEVER`."""
COUNT, TOTAL, MEAN, DAYS_SINCE_LAST, DAYS_SINCE_FIRST, LAST, FIRST, DISTINCT, MEDIAN_GAP = range(9)
"""As `features.asks.Measure`."""
_MOVES = 4096
"""Steps that putting the entries of one key in order may take at once, beside four an entry."""
_DENSE = 4
"""Keys are counted into places as long as there are at most so many places an entry."""


_compiled = compiled()


# ------------------------------------------------------------------------------------------ which events


@_compiled
def runs(sorted_keys: Ints, keys: Ints) -> tuple[Ints, Ints, int]:
    """Return where the run of each of `keys` starts and stops in `sorted_keys`, and the longest's length."""
    start, stop = np.empty(keys.size, np.int64), np.empty(keys.size, np.int64)
    longest, first, last = 0, 0, 0
    for i in range(keys.size):
        key = keys[i]
        if i == 0 or key != keys[i - 1]:
            # Keys mostly come in order, so the search begins where the last one ended.
            low = last if i > 0 and key > keys[i - 1] else 0
            first = _reach(sorted_keys, key, low)
            last = _reach(sorted_keys, key + 1, first)
            longest = max(longest, last - first)
        start[i] = first
        stop[i] = last
    return start, stop, longest


@_compiled
def _reach(values: Ints, limit: int, low: int) -> int:
    """Return the first position from `low` on with a value that is at least `limit`, in steps that double."""
    step, high = 1, low
    while high < values.size and values[high] < limit:
        low = high + 1
        high += step
        step *= 2
    high = min(high, values.size)
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < limit:
            low = middle + 1
        else:
            high = middle
    return low


@_compiled
def positions(sorted_ids: Ints, ids: Ints) -> Ints:
    """Return where each of `ids` stands in `sorted_ids` (each once), -1 for what does not."""
    result = np.empty(ids.size, np.int64)
    low = 0
    for i in range(ids.size):
        if i > 0 and ids[i] < ids[i - 1]:
            low = 0
        low = _reach(sorted_ids, ids[i], low)
        result[i] = low if low < sorted_ids.size and sorted_ids[low] == ids[i] else -1
    return result


@_compiled
def is_ascending(ids: Ints) -> bool:
    """Tell whether each is above the one before it."""
    return bool((ids[1:] > ids[:-1]).all())


@_compiled
def born(row: Ints, occurred: Ints, recorded: Ints, as_of: Ints) -> tuple[Flags, Ints, Ints, Flags, bool]:
    """Return of the records in `row` (-1: none): found, when they came to exist, from when they were known.

    Then: whether each was known at its instant, and whether all were. NO_INSTANT for no record.
    """
    found, known = np.zeros(row.size, np.bool_), np.zeros(row.size, np.bool_)
    happened = np.full(row.size, NO_INSTANT, np.int64)
    since = np.full(row.size, NO_INSTANT, np.int64)
    several = 0
    for i in range(row.size):
        at = row[i]
        if at >= 0:
            found[i] = True
            happened[i] = occurred[at]
            since[i] = max(occurred[at], recorded[at])
            known[i] = since[i] <= as_of[i]
            several += known[i]
    return found, happened, since, known, several == row.size


@_compiled
def held_since(changed: Ints, newest: Ints, born: Ints, known: Flags) -> Ints:
    """Return since when a field held what it held: its newest change, or (-1) since the record exists.

    NO_INSTANT for a record that was not known.
    """
    result = np.full(newest.size, NO_INSTANT, np.int64)
    for i in range(newest.size):
        if known[i]:
            result[i] = changed[newest[i]] if newest[i] >= 0 else born[i]
    return result


@_compiled
def days_between(since: Ints, until: Ints) -> Floats:
    """Return the days from one instant to another; NaN where one is NO_INSTANT."""
    result = np.full(since.size, np.nan)
    for i in range(since.size):
        if since[i] != NO_INSTANT and until[i] != NO_INSTANT:
            result[i] = (until[i] - since[i]) / DAY
    return result


@_compiled
def scaled(values: Ints, scale: float) -> Floats:
    """Return whole numbers over a scale; NaN for NO_INSTANT."""
    result = np.full(values.size, np.nan)
    for i in range(values.size):
        if values[i] != NO_INSTANT:
            result[i] = values[i] / scale
    return result


@_compiled
def changes(record: Ints, occurred: Ints, recorded: Ints) -> tuple[Ints, Ints, Ints, bool]:
    """Return of changes by record: the first written of its record, and from when to when each is seen.

    Then: whether they are in order as they happened too, those of one instant as they were learned.
    """
    first, since = np.empty(record.size, np.int64), np.empty(record.size, np.int64)
    until = np.full(record.size, NEVER, np.int64)
    for i in range(record.size):
        first[i] = first[i - 1] if i > 0 and record[i] == record[i - 1] else i
        since[i] = max(occurred[i], recorded[i])
    return first, since, until, is_in_order(record, occurred, recorded, since, until)


@_compiled
def unique(ids: Ints) -> Ints:
    """Return the ids, ascending, each once, without NO_INSTANT."""
    in_order = True
    for i in range(1, ids.size):
        in_order &= ids[i] >= ids[i - 1]
    ordered = ids if in_order else np.sort(ids)
    result = np.empty(ids.size, np.int64)
    size = 0
    for i in range(ids.size):
        if ordered[i] != NO_INSTANT and (i == 0 or ordered[i] != ordered[i - 1]):
            result[size] = ordered[i]
            size += 1
    return result[:size].copy()


@_compiled
def is_in_order(key: Ints, occurred: Ints, record: Ints, start: Ints, stop: Ints) -> bool:
    """Tell whether all events concern somebody, were ever visible and are in order already."""
    for i in range(key.size):
        if key[i] == NO_INSTANT or start[i] >= stop[i]:
            return False
        if i > 0 and not _follows(i, i - 1, key, occurred, record, start):
            return False
    return True


@_compiled
def _follows(this: int, that: int, key: Ints, occurred: Ints, record: Ints, start: Ints) -> bool:
    if key[this] != key[that]:
        return bool(key[this] > key[that])
    if occurred[this] != occurred[that]:
        return bool(occurred[this] > occurred[that])
    if record[this] != record[that]:
        return bool(record[this] > record[that])
    return bool(start[this] >= start[that])


# ------------------------------------------------------------------------------------------ events by key


@_compiled
def group(keys: Ints) -> tuple[Ints, Ints, npt.NDArray[np.int32]]:
    """Return (unique keys, where the entries of each begin, entries by key), in their order for each key.

    NO_INSTANT is nobody: such entries are left out. At most 2**31 entries.
    """
    low, high, held = NO_INSTANT, NO_INSTANT, 0
    for key in keys:
        if key != NO_INSTANT:
            low = key if held == 0 else min(low, key)
            high = max(high, key)
            held += 1
    if held == 0:
        return np.empty(0, np.int64), np.zeros(1, np.int64), np.empty(0, np.int32)
    # Far ends may lie so far apart that their distance does not fit into an integer.
    if float(high) - float(low) > _DENSE * held + 1024.0:
        return _group_sparse(keys, held)
    return _group_dense(keys, low, high, held)


@_compiled
def _group_dense(keys: Ints, low: int, high: int, held: int) -> tuple[Ints, Ints, npt.NDArray[np.int32]]:
    place = np.zeros(high - low + 2, np.int32)
    for key in keys:
        if key != NO_INSTANT:
            place[key - low + 1] += 1
    several = 0
    for i in range(1, place.size):
        several += place[i] > 0
        place[i] += place[i - 1]
    unique, begin = np.empty(several, np.int64), np.empty(several + 1, np.int64)
    several = 0
    for i in range(place.size - 1):
        if place[i + 1] > place[i]:
            unique[several] = low + i
            begin[several] = place[i]
            several += 1
    begin[several] = held
    order = np.empty(held, np.int32)
    for i in range(keys.size):
        if keys[i] != NO_INSTANT:
            order[place[keys[i] - low]] = i
            place[keys[i] - low] += 1
    return unique, begin, order


@_compiled
def _group_sparse(keys: Ints, held: int) -> tuple[Ints, Ints, npt.NDArray[np.int32]]:
    order = np.empty(held, np.int32)
    # NO_INSTANT sorts before every key.
    order[:] = np.argsort(keys, kind="mergesort")[keys.size - held :]
    unique, begin = np.empty(held, np.int64), np.empty(held + 1, np.int64)
    several = 0
    for i in range(held):
        if i == 0 or keys[order[i]] != keys[order[i - 1]]:
            unique[several] = keys[order[i]]
            begin[several] = i
            several += 1
    begin[several] = held
    return unique[:several].copy(), begin[: several + 1].copy(), order


@_compiled
def is_log(occurred: Ints, record: Ints) -> bool:
    """Tell whether events stand as they happened, each once, so that those of one key are in order too."""
    for i in range(1, occurred.size):
        if occurred[i] < occurred[i - 1] or record[i] <= record[i - 1]:
            return False
    return True


@_compiled
def settle(order: npt.NDArray[np.int32], begin: Ints, occurred: Ints, record: Ints, start: Ints) -> Ints:
    """Put the entries of each key in order (as they happened, as written); return the groups left to others.

    Entries mostly come in order or nearly so; a group that is long and far from it is left as it was.
    """
    left = np.empty(begin.size - 1, np.int64)
    several = 0
    for run in range(begin.size - 1):
        moves = 0
        for i in range(begin[run] + 1, begin[run + 1]):
            entry, at = order[i], i
            while at > begin[run] and not _later(entry, order[at - 1], occurred, record, start):
                order[at] = order[at - 1]
                at -= 1
                moves += 1
            order[at] = entry
            if moves > _MOVES + 4 * (begin[run + 1] - begin[run]):
                left[several] = run
                several += 1
                break
    return left[:several].copy()


@_compiled
def _later(this: int, that: int, occurred: Ints, record: Ints, start: Ints) -> bool:
    if occurred[this] != occurred[that]:
        return bool(occurred[this] > occurred[that])
    if record[this] != record[that]:
        return bool(record[this] > record[that])
    return bool(start[this] >= start[that])


@_compiled
def events_of(
    unique: Ints,
    begin: Ints,
    order: npt.NDArray[np.int32],
    keys: Ints,
    record: Ints,
    occurred: Ints,
    known_at: Ints,
    gone_at: Ints,
) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints]:
    """Return (place, key, record, occurred, start, stop) of every event of `keys` (ascending, each once).

    `unique`, `begin` and `order` are what `group` returned. Nothing that was never visible is among them; a
    `gone_at` of no length, or NO_INSTANT in it, is never.
    """
    low, size = 0, 0
    found = np.empty(keys.size, np.int64)
    for i in range(keys.size):
        low = _reach(unique, keys[i], low)
        found[i] = low if low < unique.size and unique[low] == keys[i] else -1
        if found[i] >= 0:
            size += begin[low + 1] - begin[low]
    place, key, records = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int64)
    happened, start, stop = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int64)
    at = 0
    for i in range(keys.size):
        run = found[i]
        if run < 0:
            continue
        for j in range(begin[run], begin[run + 1]):
            row = np.int64(order[j])
            seen = max(occurred[row], known_at[row])
            gone = NEVER if gone_at.size == 0 or gone_at[row] == NO_INSTANT else gone_at[row]
            if seen < gone:
                place[at] = row
                key[at] = keys[i]
                records[at] = record[row]
                happened[at] = occurred[row]
                start[at] = seen
                stop[at] = gone
                at += 1
    return place[:at], key[:at], records[:at], happened[:at], start[:at], stop[:at]


@_compiled
def take(
    rows: Ints, key: Ints, record: Ints, occurred: Ints, start: Ints, stop: Ints
) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """Return the given rows of the five arrays."""
    size = rows.size
    keys, records, happened = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int64)
    since, until = np.empty(size, np.int64), np.empty(size, np.int64)
    for i in range(size):
        row = rows[i]
        keys[i] = key[row]
        records[i] = record[row]
        happened[i] = occurred[row]
        since[i] = start[row]
        until[i] = stop[row]
    return keys, records, happened, since, until


# ------------------------------------------------------------------------------------------ answers


@_compiled
def count(
    start: Ints, stop: Ints, as_of: Ints, occurred: Ints, since: Ints, until: Ints, lookback: int, few: int
) -> Ints:
    """Return how many events each window holds; `lookback` below 0: all. 0 for a run longer than `few`."""
    result = np.zeros(as_of.size, np.int64)
    for i in range(as_of.size):
        if stop[i] - start[i] > few:
            continue
        when = as_of[i]
        limit = when - lookback if lookback >= 0 else NO_INSTANT
        found = 0
        for j in range(start[i], stop[i]):
            # No branch: with few events, a wrong guess costs more than all the comparisons.
            inside = (occurred[j] > limit) & (since[j] <= when) & (when < until[j])
            found += inside
        result[i] = found
    return result


@_compiled
def count_after(
    start: Ints, stop: Ints, as_of: Ints, occurred: Ints, since: Ints, until: Ints, after: Ints
) -> Ints:
    """Return how many visible events of each question happened after an instant of its own."""
    result = np.zeros(as_of.size, np.int64)
    for i in range(as_of.size):
        when, limit = as_of[i], after[i]
        for j in range(stop[i] - 1, start[i] - 1, -1):
            if occurred[j] <= limit:
                break
            result[i] += (since[j] <= when) & (when < until[j])
    return result


@_compiled
def total(
    start: Ints,
    stop: Ints,
    as_of: Ints,
    occurred: Ints,
    since: Ints,
    until: Ints,
    weight: Ints,
    lookback: int,
    few: int,
) -> Ints:
    """Return the sum of `weight` over the events of each window, as `count` counts them."""
    result = np.zeros(as_of.size, np.int64)
    for i in range(as_of.size):
        if stop[i] - start[i] > few:
            continue
        when = as_of[i]
        limit = when - lookback if lookback >= 0 else NO_INSTANT
        found = 0
        for j in range(start[i], stop[i]):
            # No branch: with few events, a wrong guess costs more than all the comparisons.
            inside = (occurred[j] > limit) & (since[j] <= when) & (when < until[j])
            found += inside * weight[j]
        result[i] = found
    return result


@_compiled
def newest(
    start: Ints, stop: Ints, as_of: Ints, occurred: Ints, since: Ints, until: Ints, lookback: int, few: int
) -> Ints:
    """Return the last visible event of each window, -1 for none and for a run longer than `few`."""
    result = np.full(as_of.size, -1, np.int64)
    for i in range(as_of.size):
        if stop[i] - start[i] > few:
            continue
        when = as_of[i]
        for j in range(stop[i] - 1, start[i] - 1, -1):
            if lookback >= 0 and occurred[j] <= when - lookback:
                break
            if since[j] <= when < until[j]:
                result[i] = j
                break
    return result


@_compiled
def oldest(start: Ints, stop: Ints, as_of: Ints, since: Ints, until: Ints, few: int) -> Ints:
    """Return the first visible event of each question, -1 for none and for a run longer than `few`."""
    result = np.full(as_of.size, -1, np.int64)
    for i in range(as_of.size):
        if stop[i] - start[i] > few:
            continue
        when = as_of[i]
        for j in range(start[i], stop[i]):
            if since[j] <= when < until[j]:
                result[i] = j
                break
    return result


@_compiled
def held(
    first: int,
    last: int,
    start: Ints,
    stop: Ints,
    as_of: Ints,
    occurred: Ints,
    since: Ints,
    until: Ints,
    lookback: int,
) -> tuple[Ints, Ints]:
    """Return (question, event) for every event in the windows of the questions from `first` to `last`."""
    size = 0
    for i in range(first, last):
        when = as_of[i]
        for j in range(start[i], stop[i]):
            inside = lookback < 0 or occurred[j] > when - lookback
            size += inside and since[j] <= when < until[j]
    question, event = np.empty(size, np.int64), np.empty(size, np.int64)
    at = 0
    for i in range(first, last):
        when = as_of[i]
        for j in range(start[i], stop[i]):
            inside = lookback < 0 or occurred[j] > when - lookback
            if inside and since[j] <= when < until[j]:
                question[at] = i
                event[at] = j
                at += 1
    return question, event


@_compiled
def steps(
    first: int,
    last: int,
    start: Ints,
    stop: Ints,
    as_of: Ints,
    occurred: Ints,
    since: Ints,
    until: Ints,
    lookback: int,
) -> tuple[Ints, Ints, Ints]:
    """Return (question, event, event known before or -1) of what `held` holds."""
    question, event = held(first, last, start, stop, as_of, occurred, since, until, lookback)
    before = np.full(event.size, -1, np.int64)
    for at in range(event.size):
        when = as_of[question[at]]
        j = event[at] - 1
        while j >= start[question[at]] and not since[j] <= when < until[j]:
            j -= 1
        if j >= start[question[at]]:
            before[at] = j
    return question, event, before


@_compiled
def tally(count: Floats, question: Ints, counts: Flags) -> None:
    """Add one to the question of each that counts."""
    for at in range(question.size):
        count[question[at]] += counts[at]


@_compiled
def median_gap(
    start: Ints, stop: Ints, as_of: Ints, occurred: Ints, since: Ints, until: Ints, lookback: int
) -> Floats:
    """Return the median of the days between successive days with an event; NaN below two such days."""
    result = np.full(as_of.size, np.nan)
    longest = 0
    for i in range(as_of.size):
        longest = max(longest, stop[i] - start[i])
    gaps = np.empty(longest, np.int64)
    for i in range(as_of.size):
        when, size, before = as_of[i], 0, NO_INSTANT
        for j in range(start[i], stop[i]):
            inside = lookback < 0 or occurred[j] > when - lookback
            if inside and since[j] <= when < until[j]:
                day = occurred[j] // DAY
                if before not in (NO_INSTANT, day):
                    gaps[size] = day - before
                    size += 1
                before = day
        if size > 0:
            sort = np.sort(gaps[:size])
            result[i] = (sort[(size - 1) // 2] + sort[size // 2]) / 2
    return result


@_compiled
def largest(start: Ints, stop: Ints, as_of: Ints, since: Ints, until: Ints, values: Ints) -> Ints:
    """Return the largest of the values of visible events; NO_INSTANT for none."""
    result = np.full(as_of.size, NO_INSTANT, np.int64)
    for i in range(as_of.size):
        when = as_of[i]
        for j in range(start[i], stop[i]):
            if since[j] <= when < until[j]:
                result[i] = max(result[i], values[j])
    return result


@_compiled
def distinct(
    start: Ints,
    stop: Ints,
    as_of: Ints,
    occurred: Ints,
    since: Ints,
    until: Ints,
    lookback: int,
    values: Ints,
) -> Ints:
    """Return how many different values the events of each window have; NO_INSTANT is none."""
    result = np.zeros(as_of.size, np.int64)
    longest = 0
    for i in range(as_of.size):
        longest = max(longest, stop[i] - start[i])
    held = np.empty(longest, np.int64)
    for i in range(as_of.size):
        when, size = as_of[i], 0
        for j in range(start[i], stop[i]):
            inside = lookback < 0 or occurred[j] > when - lookback
            if inside and since[j] <= when < until[j] and values[j] != NO_INSTANT:
                held[size] = values[j]
                size += 1
        ordered = np.sort(held[:size])
        for j in range(size):
            result[i] += j == 0 or ordered[j] != ordered[j - 1]
    return result


@_compiled
def panel(
    start: Ints,
    stop: Ints,
    as_of: Ints,
    occurred: Ints,
    since: Ints,
    until: Ints,
    kinds: Ints,
    columns: npt.NDArray[np.int64],
    bit: Ints,
    measure: Ints,
    length: Ints,
    column: Ints,
    scale: Floats,
    few: int,
) -> tuple[Floats, Ints, Ints]:
    """Return (numbers, events, longest run) of every ask; see `features.asks.Panel`.

    `events[a, i]` is the last or first event where that is asked, and -1 for none. What is asked of a kind
    with a run longer than `few` is left to others, unless its loop is as good with long runs.
    """
    numbers = np.empty((bit.size, as_of.size))
    events = np.empty((bit.size, as_of.size), np.int64)
    longest = np.zeros(bit.size, np.int64)
    begin, end = np.empty(as_of.size, np.int64), np.empty(as_of.size, np.int64)
    rows, before = np.empty(occurred.size, np.int64), np.empty(occurred.size + 1, np.int64)
    when, values = np.empty(occurred.size, np.int64), np.empty(occurred.size, np.int64)
    seen, gone = np.empty(occurred.size, np.int64), np.empty(occurred.size, np.int64)
    size, long = 0, 0
    for a in range(bit.size):
        if a == 0 or bit[a] != bit[a - 1]:
            size = 0
            for j in range(occurred.size):
                before[j] = size
                rows[size] = j
                when[size] = occurred[j]
                seen[size] = since[j]
                gone[size] = until[j]
                size += kinds.size == 0 or (kinds[j] & bit[a]) != 0
            before[occurred.size] = size
            long = 0
            for i in range(as_of.size):
                begin[i] = before[start[i]]
                end[i] = before[stop[i]]
                long = max(long, end[i] - begin[i])
        longest[a] = long
        what, back = measure[a], length[a]
        if what in (TOTAL, MEAN, DISTINCT):
            for j in range(size):
                values[j] = columns[column[a], rows[j]]
        if what == MEDIAN_GAP:
            numbers[a] = median_gap(begin, end, as_of, when, seen, gone, back)
        elif what == DISTINCT:
            numbers[a] = distinct(begin, end, as_of, when, seen, gone, back, values)
        elif long > few:
            continue
        elif what == COUNT:
            numbers[a] = count(begin, end, as_of, when, seen, gone, back, few)
        elif what in (TOTAL, MEAN):
            _sums(numbers[a], begin, end, as_of, when, seen, gone, values, back, scale[a], what)
        else:
            first = what in (FIRST, DAYS_SINCE_FIRST)
            if first:
                found = oldest(begin, end, as_of, seen, gone, few)
            else:
                found = newest(begin, end, as_of, when, seen, gone, back, few)
            for i in range(as_of.size):
                at = found[i]
                if what in (LAST, FIRST):
                    events[a, i] = rows[at] if at >= 0 else -1
                else:
                    numbers[a, i] = (as_of[i] - when[at]) / DAY if at >= 0 else np.nan
    return numbers, events, longest


@_compiled
def _sums(
    result: Floats,
    start: Ints,
    stop: Ints,
    as_of: Ints,
    occurred: Ints,
    since: Ints,
    until: Ints,
    values: Ints,
    lookback: int,
    scale: float,
    what: int,
) -> None:
    """Write the sums of values over scale, or their means (NaN for none); NO_INSTANT is no value."""
    for i in range(as_of.size):
        when = as_of[i]
        limit = when - lookback if lookback >= 0 else NO_INSTANT
        total, given = 0, 0
        for j in range(start[i], stop[i]):
            inside = (
                (occurred[j] > limit) & (since[j] <= when) & (when < until[j]) & (values[j] != NO_INSTANT)
            )
            total += inside * values[j]
            given += inside
        if what == MEAN:
            result[i] = total / scale / given if given > 0 else np.nan
        else:
            result[i] = total / scale


@_compiled
def hours_from(born: Ints, occurred: Ints, event: Ints) -> Floats:
    """Return the hours from an instant of each question to its event; NaN for none (-1)."""
    result = np.full(event.size, np.nan)
    for i in range(event.size):
        if event[i] >= 0:
            result[i] = (occurred[event[i]] - born[i]) / HOUR
    return result


@_compiled
def payments(
    start: Ints,
    stop: Ints,
    as_of: Ints,
    occurred: Ints,
    since: Ints,
    until: Ints,
    due: Ints,
    paid: Ints,
    lookback: int,
) -> tuple[Ints, Ints, Ints]:
    """Return of the payments in each window how many are overdue, by how much due ones are late, how many."""
    overdue, late = np.zeros(as_of.size, np.int64), np.zeros(as_of.size, np.int64)
    count = np.zeros(as_of.size, np.int64)
    for i in range(as_of.size):
        when = as_of[i]
        for j in range(start[i], stop[i]):
            inside = lookback < 0 or occurred[j] > when - lookback
            # What has no day to be due on is never late.
            if inside and since[j] <= when < until[j] and due[j] != NO_INSTANT and due[j] + DAY <= when:
                is_open = paid[j] == NO_INSTANT or paid[j] > when
                overdue[i] += is_open
                late[i] += max((when if is_open else paid[j]) - (due[j] + DAY), 0)
                count[i] += 1
    return overdue, late, count


@_compiled
def running(
    start: Ints,
    stop: Ints,
    as_of: Ints,
    since: Ints,
    until: Ints,
    stands: Flags,
    begins: Ints,
    ends: Ints,
    value: Ints,
) -> Ints:
    """Return the value of the events that stand and run at each question."""
    total = np.zeros(as_of.size, np.int64)
    for i in range(as_of.size):
        when = as_of[i]
        for j in range(start[i], stop[i]):
            runs_now = stands[j] and since[j] <= when < until[j] and begins[j] <= when < ends[j]
            if runs_now and value[j] != NO_INSTANT:
                total[i] += value[j]
    return total


# ------------------------------------------------------------------------------------------ others


@_compiled
def stepped(key: Ints, time: Ints, running: Ints, keys: Ints, as_of: Ints) -> Ints:
    """Return what each of `keys` has come to by an instant: see `features.population.Steps`."""
    result = np.empty(keys.size, np.int64)
    first, last = 0, 0
    for i in range(keys.size):
        if i == 0 or keys[i] != keys[i - 1]:
            first = _reach(key, keys[i], 0)
            last = _reach(key, keys[i] + 1, first)
        low, high = first, last
        while low < high:
            middle = (low + high) >> 1
            if time[middle] <= as_of[i]:
                low = middle + 1
            else:
                high = middle
        result[i] = running[low] - running[first]
    return result


@_compiled
def rate(
    record: Ints,
    group: Ints,
    start: Ints,
    stop: Ints,
    won_at: Ints,
    ids: Ints,
    code: Ints,
    as_of: Ints,
    counts: tuple[Ints, Ints, Ints, Ints],
    strength: int,
) -> Floats:
    """Return the rates among others: `counts` (asked and won in the group and in all) less a record's own.

    Whole numbers above and below, and one division: the same bits in any batch. NaN below `strength` others.
    """
    result = np.full(ids.size, np.nan)
    for i in range(ids.size):
        asked, won, all_asked, all_won = counts[0][i], counts[1][i], counts[2][i], counts[3][i]
        row = _reach(record, ids[i], 0)
        while row < record.size and record[row] == ids[i]:
            if start[row] <= as_of[i] < stop[row]:
                alike, has = group[row] == code[i], won_at[row] <= as_of[i]
                all_asked -= 1
                all_won -= has
                asked -= alike
                won -= alike and has
            row += 1
        if all_asked >= strength:
            result[i] = (won * all_asked + strength * all_won) / ((asked + strength) * all_asked)
    return result


def warm() -> None:
    """Compile every loop, or load what was compiled before, so that no question has to wait for it."""
    ints, limits = np.array([1, 2], np.int64), np.array([3, 3], np.int64)
    start, stop, _ = runs(ints, ints)
    positions(ints, unique(ints))
    is_in_order(ints, ints, ints, ints, limits)
    keys, begin, order = group(ints)
    group(np.array([1, 1 << 60], np.int64))
    is_log(ints, ints)
    settle(order, begin, ints, ints, ints)
    place, *_ = events_of(keys, begin, order, ints, ints, ints, ints, limits)
    take(place, ints, ints, ints, ints, ints)
    window = (start, stop, ints, ints, ints, limits)
    count(*window, 1, 9)
    count_after(*window, ints)
    total(*window, ints, 1, 9)
    newest(*window, 1, 9)
    oldest(start, stop, ints, ints, limits, 9)
    held(0, 2, *window, 1)
    median_gap(*window, 1)
    largest(start, stop, ints, ints, limits, ints)
    distinct(*window, 1, ints)
    numbers = np.ones(2)
    panel(*window, ints, ints.reshape(1, 2), ints, ints, ints, np.zeros(2, np.int64), numbers, 9)
    hours_from(ints, ints, place)
    payments(*window, ints, ints, 1)
    running(start, stop, ints, ints, limits, ints > 1, ints, limits, ints)
    stepped(ints, ints, np.zeros(3, np.int64), ints, ints)
    rate(ints, ints, ints, limits, ints, ints, ints, ints, (ints, ints, ints, ints), 1)
    held_since(ints, start, ints, ints > 1)
    is_ascending(ints)
    born(ints - 1, ints, ints, ints)
    days_between(ints, ints)
    scaled(ints, 1.0)
    changes(ints, ints, ints)
    steps(0, 2, *window, 1)
    tally(numbers, start, ints > 1)
