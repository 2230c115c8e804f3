"""Random problems for the planner: axes of labels with targets, quotas, groups."""

from __future__ import annotations

import numpy as np

from miner.selection.axes import apportion
from miner.selection.program import Cell, Problem


def random_problem(seed: int, most: int = 3000) -> Problem:
    """A problem of up to `most` candidates along 2 to 4 axes (the last one with several values a clip), with quotas on
    some cells and limits of groups in half of the cases."""
    rng = np.random.default_rng([11, seed])
    n = int(rng.integers(most // 10, most))
    budget = int(rng.integers(max(n // 50, 5), n // 2))
    cells, members = [], []
    for _ in range(int(rng.integers(1, 4))):
        k = int(rng.integers(2, 7))
        labels = rng.choice(k, n, p=rng.dirichlet(np.ones(k)))
        wanted = apportion(rng.dirichlet(np.ones(k)) * budget)
        cells += [Cell(f"axis {len(cells)}: {value}", int(wanted[value])) for value in range(k)]
        members += [labels == value for value in range(k)]
    shows = rng.random((n, int(rng.integers(2, 7)))) < rng.random() * 0.4
    for value in range(shows.shape[1]):
        held = int(shows[:, value].sum())
        quota = int(rng.integers(0, min(held, budget // 4) + 1)) if rng.random() < 0.3 else 0
        cells.append(Cell(f"class: {value}", int(rng.integers(0, budget // 2 + 1)), quota))
        members.append(shows[:, value])
    groups = rng.integers(0, max(n // 30, 2), n) if seed % 2 else None
    per_group = max(int(3 * budget / max(n // 30, 2)), 2) if seed % 2 else None
    return Problem(np.column_stack(members), cells, rng.random(n), budget, groups, per_group, tiers=seed % 3 == 0)
