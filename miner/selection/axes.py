"""Axes along which a set spreads (weather, place, class, ...), their cells, and how many clips each should have."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from miner.errors import UnknownName, UsageError
from miner.query.columns import CLIP_COLUMNS, TEXT
from miner.selection.program import Cell
from miner.selection.spec import Condition, Spec, Target

Bools = NDArray[np.bool_]
CLASS = "class"  # the axis of what objects a clip shows: it may have several values, or none
MAX_CELLS = 10_000
_WHOLE = 1e-9


@dataclass(frozen=True)
class Axis:
    """Values of clips along an axis: `members` (n, values) bool, of each value which clips have it."""

    name: str
    values: tuple[str, ...]
    members: Bools

    def of(self, value: str) -> Bools:
        """Which clips have the value; none for one that no clip has."""
        if value in self.values:
            return self.members[:, self.values.index(value)]
        return np.zeros(len(self.members), np.bool_)


@dataclass(frozen=True)
class Demand:
    """A cell of the program, the clips in it (n,) and what it is of: a target or a quota; `hint` on a likely slip."""

    cell: Cell
    members: Bools
    kind: str
    hint: str = ""


Matches = Callable[[Condition], Bools]


class Axes:
    """The axes of a table of `clip_facts` rows: columns of text, kinds of labels, classes of objects, and own ones."""

    def __init__(
        self,
        facts: pa.Table,
        own: Mapping[str, Mapping[str, Condition]] | None = None,
        matches: Matches | None = None,
    ) -> None:
        self._facts, self._own, self._matches = facts, own or {}, matches
        entries = facts["categories"].combine_chunks()
        self._row = pc.list_parent_indices(entries).to_numpy(zero_copy_only=False)
        self._names: list[str] = pc.list_flatten(entries).field("name").to_pylist()
        self._known: dict[str, Axis] = {}

    def names(self) -> list[str]:
        """All axes that there are, sorted."""
        labels = {name.partition(": ")[0] for name in self._names if ": " in name}
        columns = {name for name, kind in CLIP_COLUMNS.items() if kind == TEXT and name in self._facts.column_names}
        return sorted({*labels, *columns, *self._own, CLASS})

    def axis(self, name: str) -> Axis:
        """An axis by name. Raises UnknownName listing those that there are, UsageError for one of too many values."""
        if name not in self._known:
            self._known[name] = self._made(name)
        return self._known[name]

    def _made(self, name: str) -> Axis:
        if name in self._own:
            assert self._matches is not None, "axes of one's own are filters"
            masks = {value: self._matches(condition) for value, condition in self._own[name].items()}
            return Axis(name, tuple(masks), np.column_stack([*masks.values()]) if masks else self._nothing())
        if name not in self.names():
            raise UnknownName.of("axis", name, self.names())
        if name in self._facts.column_names:
            column = self._facts[name].combine_chunks()
            rows, values = np.arange(len(column)), column.to_pylist()
        elif name == CLASS:
            found = [(row, each) for row, each in zip(self._row, self._names, strict=True) if ": " not in each]
            rows, values = np.array([row for row, _ in found], np.int64), [each for _, each in found]
        else:
            prefix = f"{name}: "
            found = [(row, each) for row, each in zip(self._row, self._names, strict=True) if each.startswith(prefix)]
            rows = np.array([row for row, _ in found], np.int64)
            values = [each.removeprefix(prefix) for _, each in found]
        distinct = sorted({value for value in values if value is not None})
        if len(distinct) > MAX_CELLS:
            raise UsageError(f"axis {name!r} has {len(distinct):,} values, at most {MAX_CELLS:,} make cells")
        members = np.zeros((len(self._facts), len(distinct)), np.bool_)
        number = {value: place for place, value in enumerate(distinct)}
        known = [(row, number[value]) for row, value in zip(rows, values, strict=True) if value is not None]
        if known:
            members[tuple(np.array(known).T)] = True
        return Axis(name, tuple(distinct), members)

    def _nothing(self) -> Bools:
        return np.zeros((len(self._facts), 0), np.bool_)


def demands(spec: Spec, axes: Axes, matches: Matches, candidates: Bools) -> list[Demand]:
    """What a spec wants of which clips. `candidates` (n,) are the clips that match its `from`.

    Raises UsageError for shares that make no sense, UnknownName for axes.
    """
    found: list[Demand] = []
    _assert_room(len(spec.quotas), MAX_CELLS)
    for target in spec.targets:
        found += _of_target(spec, target, axes, candidates, MAX_CELLS - len(found) - len(spec.quotas))
    for quota in spec.quotas:
        if quota.at_most is not None and quota.at_least > quota.at_most:
            raise UsageError(f"quota {quota.label!r}: at_least {quota.at_least} > at_most {quota.at_most}")
        cell = Cell(quota.label, None, quota.at_least, quota.at_most)
        found.append(Demand(cell, matches(quota.where), "quota"))
    return found


def _of_target(spec: Spec, target: Target, axes: Axes, candidates: Bools, room: int) -> list[Demand]:
    """The cells of a target, at most `room`: more are refused before any is made."""
    along = [axes.axis(name) for name in target.over]
    if isinstance(target.shares, str):
        shares = _implied(target.shares, along, candidates, room)
    else:
        shares = dict(islice(_flat(target.shares, along, ()), max(room, 0) + 1))
    _assert_room(len(shares), room)
    said = ", ".join(target.over)
    total = sum(shares.values())
    single = all((axis.members.sum(axis=1) <= 1).all() for axis in along)
    if not shares and isinstance(target.shares, str):
        return []  # there is no candidate to follow
    if not shares or any(not 0 <= share <= 1 for share in shares.values()) or (single and total > 1 + 1e-6):
        raise UsageError(
            f"target over {said}: shares {_shown(shares)} add up to {total:g}", "Each is 0 to 1, all at most 1."
        )
    counts = apportion(np.array([*shares.values()]) * spec.budget) if single else _rounded(shares, spec.budget)
    return [
        Demand(Cell(_name(along, path), int(count)), _members(along, path), "target", _hint(along, path))
        for path, count in zip(shares, counts, strict=True)
    ]


def apportion(wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole numbers for `wanted` >= 0 that add up to its rounded sum: largest remainders (Hamilton), first of ties."""
    whole = np.floor(wanted + _WHOLE)
    left = round(float(wanted.sum())) - int(whole.sum())
    order = np.argsort(-(wanted - whole).round(9), kind="stable")
    whole[order[: max(left, 0)]] += 1
    return whole.astype(np.int64)


def _rounded(shares: Mapping[Any, float], budget: int) -> NDArray[np.int64]:
    return np.round(np.array([*shares.values()]) * budget).astype(np.int64)


def _implied(rule: str, along: Sequence[Axis], candidates: Bools, room: int) -> dict[tuple[str, ...], float]:
    """Shares of all combinations that candidates have: equal ones, or as many as there are."""
    there = dict(islice(_sizes(along, candidates), max(room, 0) + 1))
    total = max(int(candidates.sum()), 1)
    return {path: 1 / len(there) if rule == "uniform" else size / total for path, size in there.items()}


def _sizes(along: Sequence[Axis], members: Bools) -> Iterator[tuple[tuple[str, ...], int]]:
    """The combinations of values that some of `members` (n,) have, and how many have each."""
    if not along:
        yield (), int(members.sum())
        return
    for value in along[0].values:
        own = members & along[0].of(value)
        if own.any():
            yield from (((value, *rest), size) for rest, size in _sizes(along[1:], own))


def _assert_room(cells: int, room: int) -> None:
    if cells > room:
        raise UsageError(f"the spec makes more than {MAX_CELLS:,} cells", "Spread over fewer axes, or broader ones.")


def _flat(
    shares: Mapping[str, Any], along: Sequence[Axis], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], float]]:
    """Nested shares as paths; a path that ends early holds for all that is below."""
    for value, share in shares.items():
        here = (*path, str(value))
        if isinstance(share, Mapping):
            if len(here) == len(along):
                raise UsageError(
                    f"shares of {' / '.join(here)} go deeper than the axes: {', '.join(a.name for a in along)}"
                )
            yield from _flat(share, along, here)
        elif isinstance(share, bool) or not isinstance(share, int | float):
            raise UsageError(f"share of {' / '.join(here)} is {share!r}, expected a number from 0 to 1")
        else:
            yield here, float(share)


def _members(along: Sequence[Axis], path: Sequence[str]) -> Bools:
    members = np.ones(len(along[0].members), np.bool_)
    for axis, value in zip(along, path, strict=False):
        members &= axis.of(value)
    return members


def _name(along: Sequence[Axis], path: Sequence[str]) -> str:
    return ", ".join(f"{axis.name}: {value}" for axis, value in zip(along, path, strict=False))


def _hint(along: Sequence[Axis], path: Sequence[str]) -> str:
    """What may be meant by a value that no clip has."""
    for axis, value in zip(along, path, strict=False):
        if value not in axis.values:
            near = difflib.get_close_matches(value, axis.values, n=1)
            return f"no clip has {axis.name}: {value}" + (f"; did you mean {near[0]!r}?" if near else "")
    return ""


def _shown(shares: Mapping[tuple[str, ...], float]) -> str:
    return ", ".join(f"{'/'.join(path)} {share:g}" for path, share in list(shares.items())[:6])
