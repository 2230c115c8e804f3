"""From a specification to the clips of a training set: candidates, cells, a plan of how many of which, then clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miner.errors import MinerError, UnknownName
from miner.query.columns import CLIP_COLUMNS
from miner.schema import SELECTIONS
from miner.selection.axes import Axes, Bools, Demand, demands
from miner.selection.pick import Picked, by_value, diverse, load, lots
from miner.selection.pool import Pool
from miner.selection.program import Plan, Problem, solve
from miner.selection.spec import Spec
from miner.snapshot import Snapshot

_SAID = 4
_LEAST_WEIGHT = 0.01  # a clip of no value still counts when nothing else is far


class Infeasible(MinerError):
    """The candidates cannot make the set; `shortage` has a row for each cell that is short."""

    def __init__(self, message: str, hint: str, shortage: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, shortage)
        self.shortage = shortage


@dataclass(frozen=True)
class Selection:
    """Clips chosen from a snapshot: `rows` have the columns of `selections` but the version, by rank.

    `report` says what was wanted of each cell and what there is, the L1 `gap` to the targets and its `bound`, with the
    strategy k_center the `cover`, and in `notes` what the guard cannot tell.
    """

    snapshot: Snapshot
    rows: pa.Table
    spec: dict[str, Any]
    report: dict[str, Any]
    seed: int | None = None
    digest: str = ""

    @property
    def shortage(self) -> list[dict[str, Any]]:
        """The cells that have fewer clips than wanted, those that must have them first, then by deficit."""
        short = [cell for cell in self.report["cells"] if cell["deficit"]]
        return sorted(short, key=lambda cell: (not cell["required"], -cell["deficit"], cell["cell"]))

    def check(self) -> None:
        """Raise Infeasible, naming each short cell, where budget or quotas are not met."""
        if any(cell["required"] for cell in self.shortage):
            lines = [f"  {_short(cell)}" for cell in self.shortage]
            raise Infeasible(
                "\n".join(["the lake cannot make this set; short are", *lines]),
                "Lower the budget or the quotas, or collect what is short: miner select LAKE SPEC --shortage lists it.",
                self.shortage,
            )


class _Steps(NamedTuple):
    """Names of the steps that leave clips out, and who is left after each (n,)."""

    names: list[str]
    left: list[Bools]


def build(snapshot: Snapshot, spec: Spec) -> Selection:
    """Choose clips of a snapshot as a spec says; the same snapshot and spec give the same bytes.

    Raises NotFound (no facts, vectors, scores, an unknown clip), UsageError and UnknownName (an axis, a filter).
    """
    pool = Pool(snapshot, spec)
    steps = _Steps(*map(list, zip(*pool.steps(), strict=True)))
    axes = Axes(pool.facts, spec.axes, pool.matches)
    wanted = demands(spec, axes, pool.matches, pool.matching)
    rows = np.flatnonzero(steps.left[-1])
    value = pool.value[rows]
    problem = Problem(
        members=np.column_stack([each.members[rows] for each in wanted])
        if wanted
        else np.zeros((len(rows), 0), np.bool_),
        cells=[each.cell for each in wanted],
        value=value,
        budget=spec.budget,
        groups=_groups(spec, pool.facts)[rows] if spec.limit else None,
        per_group=spec.limit.at_most if spec.limit else None,
        fill=spec.fill,
        tiers=spec.diversity is None,
    )
    plan = solve(problem)
    picked = _picked(pool, rows, value, plan)
    chosen = rows[picked.rows]
    report = _report(spec, wanted, plan, steps, len(chosen)) | {"cover": _cover(picked, value), "notes": pool.notes}
    table = _rows(pool, wanted, chosen, picked.gains)
    return Selection(snapshot, table, spec.to_dict(), report, spec.seed, spec.digest)


def _picked(pool: Pool, rows: NDArray[np.int64], value: NDArray[np.float64], plan: Plan) -> Picked:
    """The clips of the plan, as places among the candidates."""
    wanted = pool.spec.diversity
    if wanted is None:
        return by_value(plan, value, lots(pool.facts["clip_id"].take(rows), pool.spec.seed))
    start = pool.vectors[pool.named([wanted.start])] if wanted.start else pool.vectors[:0]
    weights = np.maximum(value, _LEAST_WEIGHT) if value.any() else None
    return diverse(load(wanted.strategy), plan, pool.vectors[rows], start, weights, pool.spec.seed)


def _cover(picked: Picked, value: NDArray[np.float64]) -> dict[str, float | int | bool] | None:
    """How far a candidate is at most from one taken of its kind, in radians (`weighted`: times its value), and what no
    other choice of as many of that kind gets below: the worst of the `kinds` that cells and limits tell apart.

    None where the strategy does not tell, or all candidates are taken.
    """
    if not picked.covers:
        return None
    radius, bound = max(picked.covers)
    return {
        "radius": round(radius, 6),
        "lower_bound": round(bound, 6),
        "kinds": len(picked.covers),
        "weighted": bool(value.any()),
    }


def _groups(spec: Spec, facts: pa.Table) -> NDArray[np.int64]:
    """A number per value of the limit's column; a clip without a value is a group of its own."""
    assert spec.limit is not None
    if spec.limit.by not in CLIP_COLUMNS or spec.limit.by not in facts.column_names:
        raise UnknownName.of("column", spec.limit.by, CLIP_COLUMNS)
    codes = facts[spec.limit.by].combine_chunks().dictionary_encode()
    numbers = codes.indices.to_numpy(zero_copy_only=False).astype(np.float64)
    alone = np.isnan(numbers)
    numbers[alone] = len(codes.dictionary) + np.arange(int(alone.sum()))
    groups: NDArray[np.int64] = numbers.astype(np.int64)
    return groups


def _rows(pool: Pool, wanted: Sequence[Demand], chosen: NDArray[np.int64], gains: NDArray[np.float64]) -> pa.Table:
    """Rows of `selections`, by rank from 1."""
    names = [each.cell.name for each in wanted]
    members = [each.members[chosen] for each in wanted]
    strategy = pool.spec.diversity.strategy if pool.spec.diversity else "value"
    reasons = []
    for place, row in enumerate(chosen):
        own = [name for name, mask in zip(names, members, strict=True) if mask[place]]
        said = own[:_SAID] + ([f"{len(own) - _SAID} more cells"] if len(own) > _SAID else [])
        if pool.spec.scarcity is not None:
            said.append(f"scarcity {pool.scarcity[row]:.3f}")
        if pool.spec.like is not None:
            said.append(f"{pool.likeness[row]:.3f} like a named clip")
        reasons.append("; ".join(said) or "of the candidates")
    return pa.table(
        {
            "clip_id": pool.facts["clip_id"].take(chosen).combine_chunks(),
            "rank": pa.array(np.arange(1, len(chosen) + 1), pa.int32()),
            "strategy": pa.array([strategy] * len(chosen), pa.string()),
            "reason": pa.array(reasons, pa.string()),
            "gain": pa.array(gains, pa.float64()),
        },
        schema=pa.schema([SELECTIONS.field(name) for name in ("clip_id", "rank", "strategy", "reason", "gain")]),
    )


def _report(spec: Spec, wanted: Sequence[Demand], plan: Plan, steps: _Steps, chosen: int) -> dict[str, Any]:
    left = [int(mask.sum()) for mask in steps.left]
    targets = sum(each.cell.target or 0 for each in wanted)
    cells = [_cell(each, int(count), steps) for each, count in zip(wanted, plan.counts, strict=True)]
    if spec.fill:
        everything = np.ones(len(steps.left[0]), np.bool_)
        supply = int((everything & steps.left[-1]).sum())
        whole = {"cell": "all clips", "kind": "budget", "wanted": spec.budget, "chosen": chosen, "supply": supply}
        cells.append({**whole, "deficit": max(spec.budget - chosen, 0), "required": True, "left_out": {}, "hint": ""})
    return {
        "budget": spec.budget,
        "chosen": chosen,
        "candidates": dict(zip(steps.names, left, strict=True)),
        "gap": plan.gap,
        "bound": plan.bound,
        "gap_share": plan.gap / targets if targets else 0.0,
        "bound_share": plan.bound / targets if targets else 0.0,
        "cells": cells,
    }


def _cell(demand: Demand, count: int, steps: _Steps) -> dict[str, Any]:
    """One cell: what is wanted and chosen, how many candidates it has, and what left out how many of its clips."""
    held = [int((mask & demand.members).sum()) for mask in steps.left]
    lost = {name: held[i] - held[i + 1] for i, name in enumerate(steps.names[1:]) if held[i] > held[i + 1]}
    return {
        "cell": demand.cell.name,
        "kind": demand.kind,
        "wanted": demand.cell.wanted,
        "chosen": count,
        "supply": held[-1],
        "deficit": max(demand.cell.wanted - count, 0),
        "required": demand.cell.at_least > 0,
        "left_out": lost,
        "hint": demand.hint,
    }


def _short(cell: dict[str, Any]) -> str:
    """A short cell in words: `weather: fog: 12 of 40, 28 short; 12 candidates (guard left out 3)`."""
    lost = ", ".join(f"{name} left out {count}" for name, count in cell["left_out"].items())
    why = f"{cell['supply']:,} candidates" + (f" ({lost})" if lost else "")
    if cell["supply"] >= cell["wanted"]:
        why += ", other limits stand against them"
    hint = f"; {cell['hint']}" if cell["hint"] else ""
    return f"{cell['cell']}: {cell['chosen']:,} of {cell['wanted']:,}, {cell['deficit']:,} short; {why}{hint}"


def shortage_lines(shortage: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each short cell."""
    return [_short(cell) for cell in shortage]
