"""How many clips of each type to take: a linear program, rounded, with the bound that no rounding can beat.

Clips that are in the same cells and of the same group are of one type, and the program counts types, not clips: a
million clips make a few hundred variables. What is wanted of the cells is met in this order: the budget and what a cell
must have at least (as few clips short as can be), then the targets (L1), then the value of what is taken. Solved as
linear programs by HiGHS (Huangfu and Hall 2018), then as small integer programs around their solution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MAX_FREE = 5_000  # types that may all move by one in rounding; of more only those that are fractional
TIERS = 8
_NODES = 500  # not seconds: the same input has the same answer on any machine
_SLACK, _ROUNDING = 1e-6, 1e-4  # clips; by less than the latter HiGHS is off
_EXACT, _NEAR = 1e-9, 1e-3  # a plan of the least gap is proven to be one, that of most value to a thousandth


@dataclass(frozen=True)
class Cell:
    """What is wanted of a set of clips: `target` as near as can be, `at_least` and `at_most` in any case."""

    name: str
    target: int | None = None
    at_least: int = 0
    at_most: int | None = None

    @property
    def wanted(self) -> int:
        """How many clips it takes for the cell not to be short."""
        return max(self.target or 0, self.at_least)


@dataclass(frozen=True)
class Problem:
    """`members` (n, cells) bool says which of n candidates is in which cell; `value` (n,) which is better; of one of
    `groups` (n,) integers at most `per_group` are taken; `budget` in all, exactly if `fill`.

    With `tiers` the value decides also within a type: it is for callers that take the best of a type first.
    """

    members: Bools
    cells: Sequence[Cell]
    value: Floats
    budget: int
    groups: Ints | None = None
    per_group: int | None = None
    fill: bool = True
    tiers: bool = True


class Plan(NamedTuple):
    """`type_of` (n,) and how many to take of each type; the clips of `counts` (cells,) that makes, L1 `gap` to the
    targets and the `bound` of the linear program; `short` clips of the hard demands lack, at best `short_bound`. Bounds
    are rounded up, for clips are whole."""

    type_of: Ints
    take: Ints
    counts: Ints
    gap: float
    bound: float
    short: int
    short_bound: float


def solve(problem: Problem) -> Plan:
    """The plan. Raises ValueError where shapes do not fit."""
    _check(problem)
    if not len(problem.members):
        return _nothing(problem)
    types = _types(problem)
    model = _Model(problem, types)
    relaxed = model.optimum(None)
    low, high = _around(relaxed.take, types.sizes)
    rounded = model.optimum((low, high))
    take = np.round(rounded.take).astype(np.int64)
    counts = types.members.T.astype(np.int64) @ take
    return Plan(
        types.of, take, counts, _gap(problem, counts), relaxed.gap, _short(problem, counts, take), relaxed.short
    )


def _nothing(problem: Problem) -> Plan:
    """The plan without a candidate."""
    none, counts = np.zeros(0, np.int64), np.zeros(len(problem.cells), np.int64)
    gap, short = _gap(problem, counts), _short(problem, counts, none)
    return Plan(none, none, counts, gap, gap, short, float(short))


class _Types(NamedTuple):
    """Type of each candidate (n,), and per type its cells (t, cells), group (t,), size and mean value (t,)."""

    of: Ints
    members: Bools
    group: Ints
    sizes: Ints
    value: Floats


class _Optimum(NamedTuple):
    take: Floats
    short: float
    gap: float


def _check(problem: Problem) -> None:
    n, cells = problem.members.shape
    if cells != len(problem.cells) or problem.value.shape != (n,) or problem.budget < 0:
        raise ValueError(f"members {problem.members.shape} for {len(problem.cells)} cells, value {problem.value.shape}")
    if problem.groups is not None and problem.groups.shape != (n,):
        raise ValueError(f"groups {problem.groups.shape} for {n} candidates")


def _types(problem: Problem) -> _Types:
    """Candidates with the same cells, group and (with tiers) about the same value."""
    n = len(problem.members)
    group = np.zeros(n, np.int64) if problem.groups is None or problem.per_group is None else problem.groups
    packed = np.packbits(problem.members, axis=1) if problem.members.shape[1] else np.zeros((n, 0), np.uint8)
    signature = np.column_stack([packed, group.astype(">i8").view(np.uint8).reshape(n, 8)])
    _, of = np.unique(signature, axis=0, return_inverse=True)
    of = of.reshape(n).astype(np.int64)
    if problem.tiers:
        of = _tiered(of, problem.value)
    _, first, of, sizes = np.unique(of, return_index=True, return_inverse=True, return_counts=True)
    value = np.bincount(of, problem.value, len(first)) / np.maximum(sizes, 1)
    return _Types(of.astype(np.int64), problem.members[first], group[first], sizes.astype(np.int64), value)


def _tiered(of: Ints, value: Floats) -> Ints:
    """Each type cut into at most TIERS parts of about equal size, by value."""
    order = np.lexsort((-value, of))
    starts = np.searchsorted(of[order], np.arange(of.max(initial=-1) + 1))
    sizes = np.bincount(of)
    place = np.empty(len(of), np.int64)
    place[order] = np.arange(len(of)) - np.repeat(starts, sizes)
    return of * TIERS + place * np.minimum(TIERS, sizes[of]) // sizes[of]


class _Model:
    """Variables: take per type; clips short per hard demand; clips over and under per target."""

    def __init__(self, problem: Problem, types: _Types) -> None:
        from scipy.sparse import csr_array, eye_array, hstack, vstack

        self._types = types
        t = len(types.sizes)
        columns, everything = types.members.astype(np.float64), (np.ones(t), float(problem.budget))
        hard = [everything] if problem.fill else []
        hard += [(columns[:, i], float(cell.at_least)) for i, cell in enumerate(problem.cells) if cell.at_least]
        soft = [(columns[:, i], float(cell.target)) for i, cell in enumerate(problem.cells) if cell.target is not None]
        caps = [
            (columns[:, i], float(cell.at_most)) for i, cell in enumerate(problem.cells) if cell.at_most is not None
        ]
        caps += [everything, *_group_caps(problem, types)]
        self._sizes = t, len(hard), len(soft)
        h, s = len(hard), len(soft)
        blocks = []
        if h:
            blocks.append(hstack([csr_array(np.array([row for row, _ in hard])), eye_array(h), csr_array((h, 2 * s))]))
        if s:
            rows = csr_array(np.array([row for row, _ in soft]))
            blocks.append(hstack([rows, csr_array((s, h)), -eye_array(s), eye_array(s)]))
        rows = csr_array(np.array([row for row, _ in caps]))
        blocks.append(hstack([rows, csr_array((len(caps), h + 2 * s))]))
        self._matrix = vstack(blocks).tocsr()
        bounds = [limit for _, limit in hard], [target for _, target in soft], [limit for _, limit in caps]
        self._low = np.array([*bounds[0], *bounds[1], *([-np.inf] * len(caps))])
        self._high = np.array([*([np.inf] * h), *bounds[1], *bounds[2]])
        self._upper = np.concatenate([types.sizes.astype(np.float64), np.full(h + 2 * s, np.inf)])

    def optimum(self, box: tuple[Floats, Floats] | None) -> _Optimum:
        """Shortest, then nearest to the targets, then of most value. The first two are rounded up to whole clips; in a
        `box` what is taken is whole, too."""
        t, h, s = self._sizes
        short, gap, value = (np.zeros(t + h + 2 * s) for _ in range(3))
        short[t : t + h], gap[t + h :], value[:t] = 1.0, 1.0, -self._types.value
        slack = _SLACK if box is None else 0.5  # what is counted in clips is whole
        limits: list[tuple[Floats, float]] = []
        best = []
        for goal, there in ((short, h), (gap, s)):
            least = max(float(goal @ self._minimum(goal, limits, box, _EXACT)), 0.0) if there else 0.0
            best.append(max(0.0, float(np.ceil(least - _ROUNDING))) if box is None else float(round(least)))
            limits.append((goal, best[-1] + slack))
        found = self._minimum(value, limits, box, _NEAR)
        return _Optimum(found[:t], *best)

    def _minimum(
        self, goal: Floats, limits: list[tuple[Floats, float]], box: tuple[Floats, Floats] | None, within: float
    ) -> Floats:
        """The point of the least `goal` where the goals of `limits` stay below theirs."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        t = self._sizes[0]
        low, high = np.zeros(len(goal)), self._upper.copy()
        if box is not None:
            low[:t], high[:t] = box
        rows = [LinearConstraint(self._matrix, self._low, self._high)]
        rows += [LinearConstraint(row[None], -np.inf, most) for row, most in limits]
        whole = np.zeros(len(goal))
        whole[:t] = box is not None
        told = ""
        for presolve in (True, False):  # HiGHS 1.12 fails on some degenerate programs with one of them, not with both
            options: dict[str, Any] = {"presolve": presolve, "node_limit": _NODES, "mip_rel_gap": within}
            done = milp(goal, integrality=whole, bounds=Bounds(low, high), constraints=rows, options=options)
            if done.x is not None:
                solution: Floats = done.x
                return solution
            told = done.message
        raise RuntimeError(f"HiGHS found no plan: {told}")


def _group_caps(problem: Problem, types: _Types) -> list[tuple[Floats, float]]:
    """The limits of the groups that have more clips than they may give."""
    if problem.groups is None or problem.per_group is None:
        return []
    held = np.bincount(types.group, types.sizes)
    full = np.flatnonzero(held > problem.per_group)
    return [((types.group == each).astype(np.float64), float(problem.per_group)) for each in full]


def _around(take: Floats, sizes: Ints) -> tuple[Floats, Floats]:
    """Where rounding may go: one clip to either side."""
    low, high = np.floor(take + _SLACK), np.ceil(take - _SLACK)
    if len(take) <= MAX_FREE:
        return np.maximum(low - 1, 0), np.minimum(high + 1, sizes)
    return low, high


def _gap(problem: Problem, counts: Ints) -> float:
    targets = [(count, cell.target) for count, cell in zip(counts, problem.cells, strict=True)]
    return float(sum(abs(int(count) - target) for count, target in targets if target is not None))


def _short(problem: Problem, counts: Ints, take: Ints) -> int:
    lacking = sum(max(cell.at_least - int(count), 0) for count, cell in zip(counts, problem.cells, strict=True))
    return lacking + (max(problem.budget - int(take.sum()), 0) if problem.fill else 0)
