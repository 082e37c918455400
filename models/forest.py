"""LightGBM's trees read from their text into plain arrays, every number and every branch checked.

What is read here is what compiled loops walk along (`models.contributions`): no index leaves its array, every
branch is reached once, every share is a share. A text that LightGBM itself might stumble over is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.hazard import Floats, Ints

Words = npt.NDArray[np.uint32]
Masks = npt.NDArray[np.uint64]

NAN_RIGHT, NAN_LEFT, ZERO_RIGHT, ZERO_LEFT, IN_SET = range(5)
"""Where a split sends what is missing: NaN, or NaN and zero; or that it asks for membership in a set."""

MOST_LEAVES = 64
"""Leaves of a tree up to which `Forest.keep` tells them apart."""

_ALL = 2**64 - 1
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_IS_ZERO, _MISSING_IS_NAN = 1, 2


class Forest(NamedTuple):
    """Trees as arrays, one entry a split (s in all), a tree's splits from its root down, left before right.

    `used` are the matrix columns that are read; `column` int64[s] is a place in `used`. `left` and `right`
    hold the split below, or ~leaf. `depth` is 0 at a root, `side` which child of its parent the split is.
    A column may be split on again further down: `above` is the depth of the nearest split above on the same
    column, -1 for none, and `above_side` the side of it that leads here. Of the training rows, weighed along
    the splits on this column alone, `share_above` reach the split, `share_left` and `share_right` its sides.
    `words[words_from:words_to]` are the bits of a set of categories. `keep` uint64[s] has a bit for each leaf
    of the tree that going right leaves possible.

    Of t trees: `steps` is the walk from `step_from[tree]` to `step_from[tree + 1]`, a split when it is
    entered and ~split when it is left; `split_from` and `leaf_from` int64[t + 1] where its splits and leaves
    stand, leaves from left to right. `points` int64[t] is how many nodes the integral over [0, 1] takes;
    `node[p]` and `weight[p]` are those of the Gauss-Legendre rule with p nodes.
    """

    used: Ints
    column: Ints
    kind: Ints
    threshold: Floats
    words_from: Ints
    words_to: Ints
    words: Words
    left: Ints
    right: Ints
    depth: Ints
    side: Ints
    above: Ints
    above_side: Ints
    share_above: Floats
    share_left: Floats
    share_right: Floats
    keep: Masks
    steps: Ints
    step_from: Ints
    split_from: Ints
    leaf: Floats
    leaf_from: Ints
    points: Ints
    node: Floats
    weight: Floats
    levels: int
    most_leaves: int
    columns: int
    average: float


@dataclass(frozen=True, kw_only=True)
class _Tree:
    """A tree of the text; a child is a split, or ~leaf."""

    column: Sequence[int]
    decision: Sequence[int]
    threshold: Sequence[float]
    children: Sequence[tuple[int, int]]
    split_count: Sequence[int]
    leaf_count: Sequence[int]
    leaf: Sequence[float]
    set_from: Sequence[int]
    words: Sequence[int]

    def count(self, child: int) -> int:
        """Return how many training rows reached a child."""
        return self.split_count[child] if child >= 0 else self.leaf_count[~child]

    @property
    def average(self) -> float:
        """Return what the tree says of the training rows on average."""
        if len(self.leaf) == 1:
            return self.leaf[0]
        rows = self.split_count[0]
        return sum(count / rows * value for count, value in zip(self.leaf_count, self.leaf, strict=True))


class _Above(NamedTuple):
    """The nearest split on a column on the way down to where one is."""

    depth: int
    side: int
    share: float


_NOWHERE = _Above(-1, 0, 1.0)
_Way = dict[int, _Above]


class _Visit(NamedTuple):
    """A split or leaf that is to be visited, below which split of ours, and the way there."""

    child: int
    depth: int
    side: int
    parent: int
    way: _Way


@dataclass
class _Growing:
    """The arrays of a forest while trees are added."""

    column: list[int] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    word_range: list[tuple[int, int]] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    children: list[list[int]] = field(default_factory=list)
    place: list[tuple[int, int]] = field(default_factory=list)
    above: list[_Above] = field(default_factory=list)
    shares: list[tuple[float, float]] = field(default_factory=list)
    keep: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    leaf: list[float] = field(default_factory=list)
    points: list[int] = field(default_factory=list)
    ends: list[tuple[int, int, int]] = field(default_factory=lambda: [(0, 0, 0)])

    def add(self, tree: _Tree) -> None:
        """Add a tree, walking it from the root down, left before right."""
        first_leaf, words_from = len(self.leaf), len(self.words)
        self.words += tree.words
        seen: set[int] = set()
        distinct = 1
        to_visit: list[_Visit | int] = [_Visit(0 if tree.column else ~0, 0, 0, -1, {})]
        while to_visit:
            visit = to_visit.pop()
            if isinstance(visit, int):
                self.steps.append(visit)
                continue
            _expect(visit.child not in seen, "a tree whose branches do not meet")
            seen.add(visit.child)
            self._hang(visit, len(self.leaf) - first_leaf)
            if visit.child < 0:
                self.leaf.append(tree.leaf[~visit.child])
                distinct = max(distinct, len(visit.way))
            else:
                to_visit += self._enter(tree, visit, words_from, len(self.leaf) - first_leaf)
        _expect(len(seen) == len(tree.column) + len(tree.leaf), "every branch of a tree to be reached")
        self.points.append((distinct + 1) // 2)
        self.ends.append((len(self.steps), len(self.column), len(self.leaf)))

    def _hang(self, visit: _Visit, leaves: int) -> None:
        """Tell the parent where its child is; as soon as the right one comes, what lies left is known."""
        if visit.parent < 0:
            return
        ours = ~len(self.leaf) if visit.child < 0 else len(self.column)
        self.children[visit.parent][visit.side] = ours
        if visit.side == 1:
            first = self.keep[visit.parent]
            self.keep[visit.parent] = _ALL & ~((1 << leaves) - (1 << first))

    def _enter(self, tree: _Tree, visit: _Visit, words_from: int, leaves: int) -> Iterator[_Visit | int]:
        """Note a split and yield what is to be visited after it, the last one first."""
        split, ours = visit.child, len(self.column)
        column, children, rows = tree.column[split], tree.children[split], tree.split_count[split]
        above = visit.way.get(column, _NOWHERE)
        shares = [above.share * (tree.count(child) / rows) for child in children]
        kind, words = _kind(tree, split)
        self.column.append(column)
        self.kind.append(kind)
        self.threshold.append(tree.threshold[split])
        self.word_range.append((words_from + words[0], words_from + words[1]))
        self.children.append([0, 0])
        self.place.append((visit.depth, visit.side))
        self.above.append(above)
        self.shares.append((shares[0], shares[1]))
        self.keep.append(leaves)
        self.steps.append(ours)
        yield ~ours
        for side in (1, 0):
            way = visit.way | {column: _Above(visit.depth, side, shares[side])}
            yield _Visit(children[side], visit.depth + 1, side, ours, way)

    def done(self, columns: int, average: float) -> Forest:
        """Return the forest."""
        used, column = np.unique(np.array(self.column, dtype=np.int64), return_inverse=True)
        most = max(self.points, default=1)
        node, weight = _rules(most)
        words, children, place = _pairs(self.word_range), _pairs(self.children), _pairs(self.place)
        shares = np.array(self.shares, dtype=np.float64).reshape(-1, 2)
        ends = np.array(self.ends, dtype=np.int64)
        return Forest(
            used=used,
            column=np.asarray(column, dtype=np.int64),
            kind=np.array(self.kind, dtype=np.int64),
            threshold=np.array(self.threshold, dtype=np.float64),
            words_from=words[0],
            words_to=words[1],
            words=np.array(self.words, dtype=np.uint32),
            left=children[0],
            right=children[1],
            depth=place[0],
            side=place[1],
            above=np.array([above.depth for above in self.above], dtype=np.int64),
            above_side=np.array([above.side for above in self.above], dtype=np.int64),
            share_above=np.array([above.share for above in self.above], dtype=np.float64),
            share_left=np.ascontiguousarray(shares[:, 0]),
            share_right=np.ascontiguousarray(shares[:, 1]),
            keep=np.array(self.keep, dtype=np.uint64),
            steps=np.array(self.steps, dtype=np.int64),
            step_from=np.ascontiguousarray(ends[:, 0]),
            split_from=np.ascontiguousarray(ends[:, 1]),
            leaf=np.array(self.leaf, dtype=np.float64),
            leaf_from=np.ascontiguousarray(ends[:, 2]),
            points=np.array(self.points, dtype=np.int64),
            node=node,
            weight=weight,
            levels=int(place[0].max(initial=0)) + 1,
            most_leaves=int(np.diff(ends[:, 2]).max(initial=1)),
            columns=columns,
            average=average,
        )


def read_forest(text: str) -> Forest:
    """Return the trees of a LightGBM model's text; raise ValueError or KeyError for one that is not whole.

    One tree a round is expected (a score, not classes), added up and not averaged, with constant leaves.
    """
    head, *sections = text.partition("\nend of trees")[0].split("\nTree=")
    said = _fields(head)
    _expect("\nend of trees" in text, "a text that has its end")
    _expect(said["num_class"] == said["num_tree_per_iteration"] == "1", "one tree a round")
    _expect("average_output" not in head.splitlines(), "trees that are added up")
    _expect(len(said["tree_sizes"].split()) == len(sections), "as many trees as were announced")
    columns = int(said["max_feature_idx"]) + 1
    growing, average = _Growing(), 0.0
    for number, section in enumerate(sections):
        _expect(section.partition("\n")[0] == str(number), "trees in their order")
        tree = _tree(_fields(section), columns)
        growing.add(tree)
        average += tree.average
    return growing.done(columns, average)


def _fields(section: str) -> dict[str, str]:
    lines = (line.partition("=") for line in section.splitlines())
    return {name: value for name, equals, value in lines if equals}


def _tree(said: dict[str, str], columns: int) -> _Tree:
    """Return a tree of which every number is what it has to be."""
    tree = _Tree(
        column=_integers(said.get("split_feature", "")),
        decision=_integers(said.get("decision_type", "")),
        threshold=_numbers(said.get("threshold", "")),
        children=list(
            zip(_integers(said.get("left_child", "")), _integers(said.get("right_child", "")), strict=True)
        ),
        split_count=_integers(said.get("internal_count", "")),
        leaf_count=_integers(said.get("leaf_count", "")),
        leaf=_numbers(said["leaf_value"]),
        set_from=_integers(said.get("cat_boundaries", "0")),
        words=_integers(said.get("cat_threshold", "")),
    )
    leaves = int(said["num_leaves"])
    _expect(said.get("is_linear", "0") == "0", "leaves with one value")
    _expect(len(tree.leaf) == leaves >= 1, "as many leaves as were announced")
    for part in (tree.column, tree.decision, tree.threshold, tree.children, tree.split_count):
        _expect(len(part) == leaves - 1, "one split fewer than leaves")
    _expect(all(map(math.isfinite, tree.leaf)), "finite leaves")
    _expect(not any(map(math.isnan, tree.threshold)), "thresholds that are numbers")
    _expect(all(0 <= column < columns for column in tree.column), "columns that exist")
    _expect(all(0 <= word < 2**32 for word in tree.words), "words of 32 bits")
    if leaves > 1:
        _check_counts(tree)
    return tree


def _check_counts(tree: _Tree) -> None:
    """Raise ValueError unless every child is there and the rows of two children are those of their split."""
    splits, leaves = len(tree.column), len(tree.leaf)
    _expect(len(tree.leaf_count) == leaves and min(tree.leaf_count) > 0, "rows in every leaf")
    for count, pair in zip(tree.split_count, tree.children, strict=True):
        _expect(all(-leaves <= child < splits for child in pair), "children that exist")
        _expect(tree.count(pair[0]) + tree.count(pair[1]) == count, "rows that add up")


def _kind(tree: _Tree, split: int) -> tuple[int, tuple[int, int]]:
    """Return how a split decides, and where its set of categories starts and ends among the tree's words."""
    decision, threshold = tree.decision[split], tree.threshold[split]
    missing, left = decision >> 2, bool(decision & _DEFAULT_LEFT)
    _expect(0 <= missing <= _MISSING_IS_NAN, "a known way to treat what is missing")
    if decision & _CATEGORICAL:
        _expect(0 <= threshold < len(tree.set_from) - 1, "a set that exists")
        start, stop = tree.set_from[int(threshold)], tree.set_from[int(threshold) + 1]
        _expect(0 <= start < stop <= len(tree.words), "a set within the words")
        return IN_SET, (start, stop)
    if missing == _MISSING_IS_ZERO:
        return (ZERO_LEFT if left else ZERO_RIGHT), (0, 0)
    if missing != _MISSING_IS_NAN:
        left = threshold >= 0  # none was missing in training: LightGBM takes NaN for zero
    return (NAN_LEFT if left else NAN_RIGHT), (0, 0)


def _rules(most: int) -> tuple[Floats, Floats]:
    """Return nodes and weights on [0, 1] of the Gauss-Legendre rules of up to `most` nodes, a rule a row."""
    node, weight = np.zeros((most + 1, most)), np.zeros((most + 1, most))
    for points in range(1, most + 1):
        at, weighs = np.polynomial.legendre.leggauss(points)
        node[points, :points], weight[points, :points] = (at + 1) / 2, weighs / 2
    return node, weight


def _pairs(values: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    array = np.array(values, dtype=np.int64).reshape(-1, 2)
    return np.ascontiguousarray(array[:, 0]), np.ascontiguousarray(array[:, 1])


def _integers(text: str) -> list[int]:
    return [int(item) for item in text.split()]


def _numbers(text: str) -> list[float]:
    return [float(item) for item in text.split()]


def _expect(holds: bool, what: str) -> None:  # noqa: FBT001  reads as a sentence
    if not holds:
        msg = f"expected {what} in the text of LightGBM's trees"
        raise ValueError(msg)
