"""Greedy DPP choice against determinants."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.candidates import Candidates
from kernels.dpp import dpp
from tests.kernels.test_neighbors import unit


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 14), st.integers(0, 16), st.booleans(), st.booleans())
def test_each_pick_enlarges_the_determinant_most(seed: int, n: int, k: int, weighted: bool, chosen: bool) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit(rng, max(n, 1), 4)[rng.integers(0, max(n, 1), n)] if seed % 2 else unit(rng, n, 4)
    asked = Candidates(
        weights=rng.random(n) + 0.2 if weighted else None,
        preselected=rng.choice(n, min(n, 2), replace=False) if chosen else None,
    )
    quality = asked.weighted(n).astype(float)
    kernel = (vectors.astype(float) @ vectors.astype(float).T) * np.outer(quality, quality) + 0.1 * np.eye(n)
    picked = dpp(vectors, k, asked, ridge=0.1)
    rows = asked.chosen.tolist()
    assert len(picked.rows) == min(k, n - len(rows))
    for row, gain in zip(picked.rows.tolist(), picked.gains.tolist(), strict=True):
        logdet = {r: np.linalg.slogdet(kernel[np.ix_([*rows, r], [*rows, r])])[1] for r in range(n) if r not in rows}
        now = np.linalg.slogdet(kernel[np.ix_(rows, rows)])[1] if rows else 0.0
        assert logdet[row] >= max(logdet.values()) - 1e-3 and gain == pytest.approx(logdet[row] - now, abs=1e-3)
        rows.append(row)


def test_blocks_pick_what_single_steps_pick_and_more_rows_than_dimensions() -> None:
    rng = np.random.default_rng(1)
    vectors = unit(rng, 5000, 12)
    picked = dpp(vectors, 60, ridge=0.01)
    wide = vectors.astype(float)
    variance, given = np.ones(5000) + 0.01, np.eye(12)
    for row, gain in zip(picked.rows.tolist(), picked.gains.tolist(), strict=True):
        assert gain == pytest.approx(np.log(variance.max()), abs=1e-3)
        b = given @ wide[row]
        given -= np.outer(b, b) / (0.01 + wide[row] @ b)
        variance = 0.01 + np.einsum("nd,de,ne->n", wide, given, wide)
        variance[picked.rows[: picked.rows.tolist().index(row) + 1]] = 0
    assert np.array_equal(picked.rows, dpp(vectors, 60, ridge=0.01).rows)


def test_copies_come_last_and_groups_hold() -> None:
    vectors = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    assert dpp(vectors, 5).rows.tolist() == [0, 3, 6, 9, 1]
    assert dpp(vectors, 9, Candidates(groups=np.arange(12) // 3, limit=2)).rows.tolist() == [0, 3, 6, 9, 1, 4, 7, 10]
    with pytest.raises(ValueError):
        dpp(vectors, 2, ridge=0)
