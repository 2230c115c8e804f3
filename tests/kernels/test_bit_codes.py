"""Lists of RaBitQ codes, read by the kernel and by NumPy."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kernels.bit_codes import CodeLists, best_coded, code_size

Floats = NDArray[np.float32]
LISTS = 3


class Coded:
    """Vectors (n, d) in lists, as FAISS codes them, under ids that are not their places."""

    def __init__(self, n: int, d: int, rng: np.random.Generator) -> None:
        self.vectors = rng.normal(size=(n, d)).astype(np.float32)
        self.centres = rng.normal(size=(LISTS, d)).astype(np.float32)
        self.ids = rng.permutation(4 * n)[:n]
        quantizer = faiss.IndexFlatL2(d)
        quantizer.add(self.centres)
        self.index: Any = faiss.IndexIVFRaBitQ(quantizer, d, LISTS, faiss.METRIC_INNER_PRODUCT)
        self.index.train(self.vectors)
        self.index.add_with_ids(self.vectors, self.ids)
        self.of = quantizer.search(self.vectors, 1)[1][:, 0]
        stored = self.index.invlists
        addresses = [[int(each(i) or 0) for i in range(LISTS)] for each in (stored.get_codes, stored.get_ids)]
        sizes = np.array([stored.list_size(i) for i in range(LISTS)])
        self.lists = CodeLists.of(*(np.array(each, np.uint64) for each in addresses), sizes, self.centres)

    def scores(self, query: Floats) -> Floats:
        """What the codes of all vectors say of a query (d,), in float64."""
        q, c = query.astype(np.float64), self.centres[self.of].astype(np.float64)
        along = (c @ q) / (c**2).sum(axis=1)
        rest = q - along[:, None] * c
        step = np.maximum(0.3352 * np.linalg.norm(rest, axis=1) / len(q) ** 0.5, 1e-30)[:, None]
        rounded = step * (np.clip(np.floor(rest / step + 8), 0, 15) - 7.5)
        off = (self.vectors - self.centres[self.of]).astype(np.float64)
        factor = (off**2).sum(axis=1) / np.abs(off).sum(axis=1)
        signed = 2 * (rounded * (off > 0)).sum(axis=1) - rest.sum(axis=1)
        return c @ q + along * (c * off).sum(axis=1) + factor * signed


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 90),
    st.sampled_from([3, 8, 64, 65, 130, 384]),
    st.integers(1, 100),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_finds_what_numpy_finds(n: int, d: int, count: int, masked: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    coded = Coded(n, d, rng)
    queries = rng.normal(size=(3, d)).astype(np.float32)
    queries[2] = coded.centres[0]  # in that list nothing is left to round
    chosen = np.array([rng.permutation(LISTS)[:2] for _ in queries])
    marked = rng.random(4 * n) < 0.6
    bits = [np.packbits(marked, bitorder="little")] if masked else []
    centre_scores = np.take_along_axis(queries @ coded.centres.T, chosen, axis=1)
    found = best_coded(coded.lists, queries, chosen, centre_scores, count, *bits)
    assert found.shape == (3, count)
    for query, lists, got in zip(queries, chosen, found, strict=True):
        may = np.isin(coded.of, lists) & (marked[coded.ids] if masked else True)
        scores = dict(zip(coded.ids[may].tolist(), coded.scores(query)[may].tolist(), strict=True))
        kept = got[got >= 0].tolist()
        assert len(kept) == len({*kept}) == min(count, len(scores)) and (got[len(kept) :] == -1).all()
        best = sorted(scores.values(), reverse=True)[: len(kept)]
        # Where float32 rounds a number to the level beside, a score moves by twice a step times the factor.
        beside = 0.7 * np.linalg.norm(query) * np.linalg.norm(coded.vectors, axis=1).max() / d**0.5
        np.testing.assert_allclose([scores[each] for each in kept], best, atol=beside / d**0.5 + 1e-5)


def test_equal_scores_and_ids_beyond_the_mask() -> None:
    coded = Coded(40, 64, np.random.default_rng(0))
    coded.vectors[:] = coded.vectors[0]
    coded.index.reset()
    coded.index.add_with_ids(coded.vectors, np.arange(40))
    number = int(coded.index.quantizer.search(coded.vectors[:1], 1)[1][0, 0])
    stored = coded.index.invlists
    addresses = (np.array([int(each(number) or 0)], np.uint64) for each in (stored.get_codes, stored.get_ids))
    lists = CodeLists.of(*addresses, np.array([40]), coded.centres[[number]])
    query, zero = coded.vectors[:1], np.zeros((1, 1))
    found = best_coded(lists, query, zero.astype(np.int64), zero.astype(np.float32), 5)
    assert found.tolist() == [[0, 1, 2, 3, 4]]  # the first that came
    first_eight = np.array([255], np.uint8)
    found = best_coded(lists, query, zero.astype(np.int64), zero.astype(np.float32), 10, first_eight)
    assert found.tolist() == [[*range(8), -1, -1]]


@pytest.mark.parametrize("near", [False, True])
def test_estimates_are_near_the_truth(near: bool) -> None:
    """Within about 1 / sqrt(d) of what both are off the centre: that is little where the query is near."""
    rng = np.random.default_rng(1)
    coded, query = Coded(900, 512, rng), rng.normal(size=512).astype(np.float32)
    query = coded.centres[0] + 0.1 * query if near else query
    mine = coded.of == 0
    off = np.linalg.norm(coded.vectors[mine] - coded.centres[0], axis=1)
    off *= np.linalg.norm(query - coded.centres[0] if near else query)
    errors = (coded.scores(query) - coded.vectors @ query)[mine] / off
    assert abs(errors.mean()) < 0.02 and errors.std() < 0.05


@pytest.mark.parametrize("dim", [1, 8, 9, 64, 65, 384, 512])
def test_codes_are_as_large_as_those_of_faiss(dim: int) -> None:
    quantizer = faiss.IndexFlatL2(dim)
    assert code_size(dim) == faiss.IndexIVFRaBitQ(quantizer, dim, 1, faiss.METRIC_INNER_PRODUCT).code_size
