"""Shapley values of trees, and their sums, in compiled loops.

What a leaf gives to a column on its path is its value times a sum over subsets of the path's d columns with
weights s! (d - 1 - s)! / d!, each the integral over [0, 1] of t^s (1 - t)^(d - 1 - s). The sum is therefore
the integral of a polynomial of degree d - 1: of the product, over the other columns, of t [the row goes this
way] + (1 - t) [share of training rows that go this way]. Gauss-Legendre with ceil(d / 2) nodes gives it
exactly. At each node, products are carried down a tree and sums of leaves carried up, so that every split is
met twice and not once for each leaf below it; blocks of rows go through together. Nothing is divided by a
number that may be small: a column that is split on again replaces its factor by multiplications alone.

The rule is LightGBM's `pred_contrib`: path-dependent, shares by count. A row's numbers are the same to the
bit alone, in any batch and with any number of threads. Importing this module imports numba, so
`models.estimators` does it when trees are first asked.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from joblib import cpu_count

from features.compiled import compiled
from models.forest import IN_SET, MOST_LEAVES, NAN_LEFT, NAN_RIGHT, ZERO_LEFT, Forest, Words, read_forest
from models.hazard import Floats

_WIDTH = 256
"""Rows that go through the trees together: their numbers at all nodes stay in the processor's own memory."""
_ALONE = 4
"""Up to so many rows are explained one by one."""
_WORTH_A_THREAD = 2_000_000
"""Splits times rows below which another thread costs more than it saves."""
_ONE_LEAF = (
    "num_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=0\ntree_sizes=1\n"
    "\nTree=0\nnum_leaves=1\nleaf_value=0\n\nend of trees\n"
)
_ZERO = 1e-35
"""What LightGBM takes for zero."""


_compiled = compiled(division="numpy")

_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_LOWEST = np.zeros(64, dtype=np.int64)
for _bit in range(64):
    _LOWEST[((0x03F79D71B4CB0A89 << _bit) & (2**64 - 1)) >> 58] = _bit


# Loops are given numbers and one array: handing on a whole forest costs more than what they do.

# ------------------------------------------------------------------------------------------ which way


@_compiled
def _goes_left(kind: int, limit: float, words: Words, first: int, last: int, value: float) -> bool:
    if kind == NAN_RIGHT:
        return bool(value <= limit)
    if kind == NAN_LEFT:
        return not value > limit
    if kind == IN_SET:
        if not -1.0 < value < 2147483648.0:
            return False
        category = np.int64(value)
        word = first + (category >> 5)
        return bool(word < last and ((words[word] >> np.uint32(category & 31)) & np.uint32(1)) == 1)
    if np.isnan(value) or -_ZERO <= value <= _ZERO:
        return bool(kind == ZERO_LEFT)
    return bool(value <= limit)


@_compiled
def _send(
    kind: int,
    limit: float,
    words: Words,
    first: int,
    last: int,
    work: Floats,
    column: int,
    way: int,
    width: int,
) -> None:
    """Write at `way` 1 for rows that go left, 0 for the others."""
    if kind == NAN_LEFT:
        for r in range(width):
            work[way, r] = 0.0 if work[column, r] > limit else 1.0
    elif kind == NAN_RIGHT:
        for r in range(width):
            work[way, r] = 1.0 if work[column, r] <= limit else 0.0
    elif kind == IN_SET:
        beyond = 32.0 * (last - first)  # no set is without words
        for r in range(width):
            value = work[column, r]
            is_told = -1.0 < value < beyond
            category = np.uint64(np.int64(value if is_told else 0.0))
            bits = words[np.uint64(first) + (category >> np.uint64(5))] >> np.uint32(category & np.uint64(31))
            work[way, r] = np.float64(bits & np.uint32(1)) if is_told else 0.0
    else:
        for r in range(width):
            work[way, r] = 1.0 if _goes_left(kind, limit, words, first, last, work[column, r]) else 0.0


# ------------------------------------------------------------------------------------------ factors

# A split on a column that the path has not met multiplies by `t [goes this way] + (1 - t) share`. One on a
# column met above replaces that factor by its own: the quotient of the two, of which there are only three.


@_compiled
def _again(t: float, share: float, above: float) -> tuple[float, float, float]:
    """Return a side's factor for a row that left above, and what going this or the other way adds to it."""
    before = t + (1.0 - t) * above
    gone = share / above
    return gone, (t + (1.0 - t) * share) / before - gone, (1.0 - t) * share / before - gone


@_compiled
def _given(t: float, share: float, above: float) -> tuple[float, float]:
    """Return what the column gains at a node by going left, and right, beyond what it gained above."""
    before = t + (1.0 - t) * above
    left = (1.0 - share) - (1.0 - above) * ((t + (1.0 - t) * share) / before)
    right = -share - (1.0 - above) * ((1.0 - t) * share / before)
    return left / before, right / before


# ------------------------------------------------------------------------------------------ blocks of rows


@_compiled
def _fill(work: Floats, slot: int, value: float, width: int) -> None:
    for r in range(width):
        work[slot, r] = value


@_compiled
def _down_first(
    t: float, left: float, right: float, work: Floats, way: int, at: int, to: int, other: int, width: int
) -> None:
    """Carry the products at a node of the integral on to both sides of a split."""
    if_left, if_right = (1.0 - t) * left, (1.0 - t) * right
    for r in range(width):
        product = work[at, r]
        work[to, r] = product * (if_left + t * work[way, r])
        work[other, r] = product * (if_right + t * work[way + 1, r])


@_compiled
def _down_again(
    t: float,
    left: float,
    right: float,
    above: float,
    work: Floats,
    way: int,
    at: int,
    to: int,
    other: int,
    width: int,
) -> None:
    """Do the same at a split on a column met above."""
    left_gone, left_this, left_other = _again(t, left, above)
    right_gone, right_this, right_other = _again(t, right, above)
    for r in range(width):
        product, goes_left, goes_right = work[at, r], work[way, r], work[way + 1, r]
        work[to, r] = product * (left_gone + goes_left * left_this + goes_right * left_other)
        work[other, r] = product * (right_gone + goes_right * right_this + goes_left * right_other)


@_compiled
def _up_first(
    t: float,
    left: float,
    right: float,
    work: Floats,
    way: int,
    at: int,
    below: int,
    other: int,
    to: int,
    gain: int,
    width: int,
) -> None:
    """Join the sums of both sides at a node of the integral, and add up what the split's column gains."""
    if_left, if_right = (1.0 - t) * left, (1.0 - t) * right
    for r in range(width):
        x, y = work[below, r], work[other, r]
        work[gain, r] += work[at, r] * (x - y)
        work[to, r] = (if_left + t * work[way, r]) * x + (if_right + t * work[way + 1, r]) * y


@_compiled
def _up_again(
    t: float,
    left: float,
    right: float,
    above: float,
    work: Floats,
    way: int,
    at: int,
    below: int,
    other: int,
    to: int,
    gain: int,
    width: int,
) -> None:
    """Do the same at a split on a column met above."""
    left_gone, left_this, left_other = _again(t, left, above)
    right_gone, right_this, right_other = _again(t, right, above)
    by_left, by_right = _given(t, left, above)
    for r in range(width):
        x, y = work[below, r], work[other, r]
        goes_left, goes_right = work[way, r], work[way + 1, r]
        work[gain, r] += work[at, r] * (x - y) * (goes_left * by_left + goes_right * by_right)
        work[to, r] = (left_gone + goes_left * left_this + goes_right * left_other) * x + (
            right_gone + goes_right * right_this + goes_left * right_other
        ) * y


@_compiled
def _explain(forest: Forest, matrix: Floats, parts: Floats, width: int) -> None:
    """Write what each column gives to each row, block by block."""
    column, kind, limit, words = forest.column, forest.kind, forest.threshold, forest.words
    first_word, last_word = forest.words_from, forest.words_to
    lefts, rights, depths, sides = forest.left, forest.right, forest.depth, forest.side
    aboves, above_sides = forest.above, forest.above_side
    share_above, share_left, share_right = forest.share_above, forest.share_left, forest.share_right
    steps, step_from, leaf, node, weight = (
        forest.steps,
        forest.step_from,
        forest.leaf,
        forest.node,
        forest.weight,
    )
    used, most, levels = len(forest.used), node.shape[1], forest.levels
    ways = 2 * used
    downs = ways + 2 * levels
    ups = downs + 2 * most * (levels + 1)
    gain = ups + 2 * most * (levels + 1)
    work = np.zeros((gain + 1, width))
    for start in range(0, len(matrix), width):
        rows = min(width, len(matrix) - start)
        for r in range(rows):
            for u in range(used):
                work[u, r] = matrix[start + r, forest.used[u]]
        work[used:ways] = 0.0
        for tree in range(len(forest.points)):
            points = forest.points[tree]
            for p in range(points):
                _fill(work, downs + p, weight[points, p], width)
            for step in range(step_from[tree], step_from[tree + 1]):
                leaving = steps[step] < 0
                split = ~steps[step] if leaving else steps[step]
                depth, is_first = depths[split], aboves[split] < 0
                left, right, above = share_left[split], share_right[split], share_above[split]
                way = ways + 2 * depth
                at = downs + most * (2 * depth + sides[split])
                below = ups + most * 2 * (depth + 1)
                if not leaving:
                    _send(
                        kind[split],
                        limit[split],
                        words,
                        first_word[split],
                        last_word[split],
                        work,
                        column[split],
                        way,
                        width,
                    )
                    before = ways + 2 * aboves[split] + above_sides[split]
                    for r in range(width):
                        come = 1.0 if is_first else work[before, r]
                        goes_left = come * work[way, r]
                        work[way, r] = goes_left
                        work[way + 1, r] = come - goes_left
                    for p in range(points):
                        if lefts[split] < 0:
                            _fill(work, below + p, leaf[~lefts[split]], width)
                        if rights[split] < 0:
                            _fill(work, below + most + p, leaf[~rights[split]], width)
                    if lefts[split] < 0 and rights[split] < 0:
                        continue
                    to = downs + most * 2 * (depth + 1)
                    for p in range(points):
                        t = node[points, p]
                        if is_first:
                            _down_first(t, left, right, work, way, at + p, to + p, to + most + p, width)
                        else:
                            _down_again(
                                t, left, right, above, work, way, at + p, to + p, to + most + p, width
                            )
                else:
                    to = ups + most * (2 * depth + sides[split])
                    total = used + column[split]
                    _fill(work, gain, 0.0, width)
                    for p in range(points):
                        t = node[points, p]
                        if is_first:
                            _up_first(
                                t,
                                left,
                                right,
                                work,
                                way,
                                at + p,
                                below + p,
                                below + most + p,
                                to + p,
                                gain,
                                width,
                            )
                        else:
                            _up_again(
                                t,
                                left,
                                right,
                                above,
                                work,
                                way,
                                at + p,
                                below + p,
                                below + most + p,
                                to + p,
                                gain,
                                width,
                            )
                    if is_first:
                        for r in range(width):
                            work[total, r] += (work[way, r] - left) * work[gain, r]
                    else:
                        for r in range(width):
                            work[total, r] += work[gain, r]
        for r in range(rows):
            for u in range(used):
                parts[start + r, forest.used[u]] = work[used + u, r]


# ------------------------------------------------------------------------------------------ one row


@_compiled
def _factors(
    t: float, is_first: bool, left: float, right: float, above: float, goes_left: float, goes_right: float
) -> tuple[float, float]:
    """Return the factors of both sides at a node of the integral, as blocks of rows have them."""
    if is_first:
        return (1.0 - t) * left + t * goes_left, (1.0 - t) * right + t * goes_right
    left_gone, left_this, left_other = _again(t, left, above)
    right_gone, right_this, right_other = _again(t, right, above)
    return (
        left_gone + goes_left * left_this + goes_right * left_other,
        right_gone + goes_right * right_this + goes_left * right_other,
    )


@_compiled
def _explain_alone(forest: Forest, matrix: Floats, parts: Floats) -> None:
    """Write what `_explain` writes, to the bit, for a few rows: here the integral's nodes go together."""
    column, kind, limit, words = forest.column, forest.kind, forest.threshold, forest.words
    first_word, last_word = forest.words_from, forest.words_to
    lefts, rights, depths, sides = forest.left, forest.right, forest.depth, forest.side
    aboves, above_sides = forest.above, forest.above_side
    share_above, share_left, share_right = forest.share_above, forest.share_left, forest.share_right
    steps, step_from, leaf = forest.steps, forest.step_from, forest.leaf
    most, levels = forest.node.shape[1], forest.levels
    ways, down, up = np.zeros((levels, 2)), np.zeros((2 * levels + 2, most)), np.zeros((2 * levels + 4, most))
    for row in range(len(matrix)):
        for tree in range(len(forest.points)):
            points = forest.points[tree]
            node = forest.node[points]
            for p in range(points):
                down[0, p] = forest.weight[points, p]
            for step in range(step_from[tree], step_from[tree + 1]):
                leaving = steps[step] < 0
                split = ~steps[step] if leaving else steps[step]
                depth, is_first = depths[split], aboves[split] < 0
                left, right, above = share_left[split], share_right[split], share_above[split]
                at, below = 2 * depth + sides[split], 2 * (depth + 1)
                at_column = forest.used[column[split]]
                if not leaving:
                    come = 1.0 if is_first else ways[aboves[split], above_sides[split]]
                    value = matrix[row, at_column]
                    if _goes_left(
                        kind[split], limit[split], words, first_word[split], last_word[split], value
                    ):
                        ways[depth, 0], ways[depth, 1] = come, 0.0
                    else:
                        ways[depth, 0], ways[depth, 1] = 0.0, come
                    if lefts[split] < 0:
                        for p in range(points):
                            up[below, p] = leaf[~lefts[split]]
                    if rights[split] < 0:
                        for p in range(points):
                            up[below + 1, p] = leaf[~rights[split]]
                    if lefts[split] < 0 and rights[split] < 0:
                        continue
                    goes_left, goes_right = ways[depth, 0], ways[depth, 1]
                    for p in range(points):
                        by_left, by_right = _factors(
                            node[p], is_first, left, right, above, goes_left, goes_right
                        )
                        down[below, p], down[below + 1, p] = down[at, p] * by_left, down[at, p] * by_right
                    continue
                goes_left, goes_right = ways[depth, 0], ways[depth, 1]
                gain = 0.0
                for p in range(points):
                    x, y = up[below, p], up[below + 1, p]
                    by_left, by_right = _factors(node[p], is_first, left, right, above, goes_left, goes_right)
                    up[at, p] = by_left * x + by_right * y
                    if is_first:
                        gain += down[at, p] * (x - y)
                    else:
                        if_left, if_right = _given(node[p], left, above)
                        gain += down[at, p] * (x - y) * (goes_left * if_left + goes_right * if_right)
                parts[row, at_column] += (goes_left - left) * gain if is_first else gain


# ------------------------------------------------------------------------------------------ sums


@_compiled
def _add_up(forest: Forest, matrix: Floats, sums: Floats, width: int) -> None:
    """Write the sums of the leaves reached, tree after tree as LightGBM adds them.

    Of each tree, every split takes from the rows that it sends right the leaves that lie left; the first leaf
    that a row is left with is its own.
    """
    column, kind, limit, words = forest.column, forest.kind, forest.threshold, forest.words
    first_word, last_word, keep = forest.words_from, forest.words_to, forest.keep
    split_from, leaf_from, leaf = forest.split_from, forest.leaf_from, forest.leaf
    used, everything = len(forest.used), ~np.uint64(0)
    way, total = used, used + 1
    work, possible = np.zeros((used + 2, width)), np.zeros((1, width), dtype=np.uint64)
    for start in range(0, len(matrix), width):
        rows = min(width, len(matrix) - start)
        for r in range(rows):
            work[total, r] = 0.0
            for u in range(used):
                work[u, r] = matrix[start + r, forest.used[u]]
        for tree in range(len(forest.points)):
            for r in range(rows):
                possible[0, r] = everything
            for split in range(split_from[tree], split_from[tree + 1]):
                at, most, left = column[split], limit[split], keep[split]
                if kind[split] == NAN_LEFT:
                    for r in range(rows):
                        possible[0, r] &= left if work[at, r] > most else everything
                elif kind[split] == NAN_RIGHT:
                    for r in range(rows):
                        possible[0, r] &= everything if work[at, r] <= most else left
                else:
                    _send(kind[split], most, words, first_word[split], last_word[split], work, at, way, rows)
                    for r in range(rows):
                        possible[0, r] &= everything if work[way, r] == 1.0 else left
            for r in range(rows):
                lowest = possible[0, r] & (~possible[0, r] + np.uint64(1))
                place = _LOWEST[np.int64((lowest * _DE_BRUIJN) >> np.uint64(58))]
                work[total, r] += leaf[leaf_from[tree] + place]
        for r in range(rows):
            sums[start + r] = work[total, r]


# ------------------------------------------------------------------------------------------ all rows


def shapley_values(forest: Forest, matrix: Floats) -> Floats:
    """Return what each column adds to a row's sum of leaves, beyond the forest's average.

    Parameters
    ----------
    forest
        Trees, see `models.forest`.
    matrix
        float64[n, columns of the forest]; NaN is missing.

    Returns
    -------
    float64[n, columns], in the unit of the leaves (log-odds). A row's values and the forest's `average` add
    up to the sum of its leaves. Equal to LightGBM's `pred_contrib`. Raises ValueError for other columns.
    """
    rows = _rows(forest, matrix)
    parts = np.zeros(rows.shape)
    if len(rows) <= _ALONE:
        _explain_alone(forest, rows, parts)
    else:
        width = min(_WIDTH, len(rows))
        _in_blocks(lambda some: _explain(forest, rows[some], parts[some], width), len(rows), forest)
    return parts


def sums_of_leaves(forest: Forest, matrix: Floats) -> Floats:
    """Return the sum of the leaves each row reaches, equal to the bit to LightGBM's raw score: float64[n].

    `matrix` is float64[n, columns of the forest]; NaN is missing. Raises ValueError for other columns,
    or for a tree with more than MOST_LEAVES leaves.
    """
    if forest.most_leaves > MOST_LEAVES:
        msg = f"expected trees of up to {MOST_LEAVES} leaves, got one with {forest.most_leaves}"
        raise ValueError(msg)
    rows, sums = _rows(forest, matrix), np.zeros(len(matrix))
    _in_blocks(lambda some: _add_up(forest, rows[some], sums[some], _WIDTH), len(rows), forest)
    return sums


def warm() -> None:
    """Compile every loop, or load what was compiled before; it takes seconds once a checkout and machine."""
    forest = read_forest(_ONE_LEAF)
    for rows in (1, _ALONE + 1):
        shapley_values(forest, np.zeros((rows, 1)))
    sums_of_leaves(forest, np.zeros((1, 1)))


def _rows(forest: Forest, matrix: Floats) -> Floats:
    """Return the matrix as the loops walk along it, which look at no bounds."""
    if matrix.ndim != 2 or matrix.shape[1] != forest.columns:
        msg = f"expected {forest.columns} columns as the trees have, got a matrix of shape {matrix.shape}"
        raise ValueError(msg)
    return np.ascontiguousarray(matrix, dtype=np.float64)


def _in_blocks(work: Callable[[slice], None], rows: int, forest: Forest) -> None:
    """Do the work for all rows, in as many threads as pay; none of them is left afterwards.

    Threads that wait for work would be copied by no fork and waited for by the child forever.
    """
    threads = min(cpu_count(), 1 + rows * len(forest.column) // _WORTH_A_THREAD, 1 + rows // _WIDTH)
    if threads == 1:
        work(slice(0, rows))
        return
    share = -(-rows // (threads * _WIDTH)) * _WIDTH
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [slice(start, start + share) for start in range(0, rows, share)]))
