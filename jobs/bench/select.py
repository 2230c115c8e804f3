"""Choosing: the most varied, the most typical, and so many of each kind."""

from __future__ import annotations

import numpy as np

from jobs.bench.measure import Cases, per_second
from kernels.facility_location import facility_location
from kernels.k_center import k_center
from miner.selection.program import Cell, Problem, solve

_DIM, _SCENES = 512, 500


def cases(rows: int = 20_000) -> Cases:
    """Rows or clips a second of which some are chosen."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((_SCENES, _DIM), np.float32)
    vectors = centres[random.integers(0, _SCENES, rows)] + 0.5 * random.standard_normal((rows, _DIM), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    some, few = vectors[: rows // 4], max(rows // 100, 1)
    yield per_second(f"k-center, {few} of {rows:,}", "rows", rows, lambda: k_center(vectors, few))
    of = f"{few} of {len(some):,}"
    yield per_second(f"facility location, {of}", "rows", len(some), lambda: facility_location(some, few))
    problem = _problem(random, rows)
    yield per_second(f"training set, {problem.budget:,} of {rows:,}", "clips", rows, lambda: solve(problem))


def _problem(random: np.random.Generator, rows: int) -> Problem:
    """Shares along two axes of five and four labels."""
    columns, cells = [], []
    for count in (5, 4):
        labels = random.integers(0, count, rows)
        columns += [labels == value for value in range(count)]
        cells += [Cell(f"{count}: {value}", target=rows // 20 // count) for value in range(count)]
    return Problem(np.column_stack(columns), cells, random.random(rows), rows // 20)
