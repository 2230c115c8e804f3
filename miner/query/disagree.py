"""Clips on which two sensors disagree: alike to others by one, unlike the same others by the other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from kernels.neighbors import knn
from kernels.spans import Ints
from miner.corpus import Corpus, Vector
from miner.errors import NotFound, UsageError

NEIGHBOURS = 5
MAX_CLIPS = 20_000


class ClipVectors(NamedTuple):
    """Units that have vectors, ascending (m,), and the unit mean of the whole frames of each (m, dim)."""

    units: Ints
    vectors: Vector


def disagreement(alike: tuple[Corpus, Ints], unlike: tuple[Corpus, Ints], units: int) -> NDArray[np.float64]:
    """How much nearer the nearest clips by one sensor are by that sensor than by the other, (units,).

    Each corpus comes with the unit (a clip) of each of its pairs. Cosines are in standard deviations above their mean
    over pairs of clips, so that sensors compare: the value is the mean difference over the `NEIGHBOURS` nearest clips
    of other scenes by `alike`. NaN for clips that lack a sensor. Raises NotFound where fewer than two scenes have both,
    UsageError for more than `MAX_CLIPS` clips, all of which are compared.
    """
    one, other = clip_vectors(*alike), clip_vectors(*unlike)
    both, first, second = np.intersect1d(one.units, other.units, assume_unique=True, return_indices=True)
    if len(both) > MAX_CLIPS:
        raise UsageError(f"disagree compares all clips with each other: {len(both):,} are more than {MAX_CLIPS:,}")
    left, right = one.vectors[first], other.vectors[second]
    scenes = _scenes(*alike, both)
    if len(np.unique(scenes)) < 2:
        raise NotFound("disagree compares scenes, and fewer than two have clips with vectors of both sensors")
    nearest, near = knn(left, min(NEIGHBOURS, len(both) - 1), scenes)
    known = nearest >= 0
    far = np.einsum("id,ijd->ij", right, right[np.where(known, nearest, 0)])
    apart = _standardised(near, left) - _standardised(far, right)
    value = np.full(units, np.nan)
    value[both] = np.where(known, apart, 0).sum(axis=1) / known.sum(axis=1)
    return value


def clip_vectors(corpus: Corpus, unit: Ints) -> ClipVectors:
    """The mean of whole frames of each clip; of tiles, where only those have vectors."""
    order = np.argsort(unit, kind="stable")
    order = order[unit[order] >= 0]
    row, of = corpus.row[order], unit[order]
    whole = pc.is_null(corpus.index.rows["region"]).to_numpy().astype(np.bool_)[row]
    kept = whole | ~np.isin(of, of[whole])
    row, of = row[kept], of[kept]
    units, starts = np.unique(of, return_index=True)
    if not len(units):
        return ClipVectors(units, np.empty((0, corpus.index.dim), np.float32))
    sums = np.add.reduceat(corpus.index.vectors(row), starts, axis=0, dtype=np.float64)
    lengths = np.linalg.norm(sums, axis=1)
    return ClipVectors(units[lengths > 0], (sums[lengths > 0] / lengths[lengths > 0, None]).astype(np.float32))


def _scenes(corpus: Corpus, unit: Ints, units: Ints) -> Ints:
    """A number per scene for each of some units."""
    order = np.argsort(unit, kind="stable")
    pairs = order[np.searchsorted(unit[order], units)]
    codes = corpus.index.rows["scene_id"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    scenes: Ints = codes[corpus.row[pairs]]
    return scenes


def _standardised(cosines: Vector, vectors: Vector) -> NDArray[np.float64]:
    """Cosines in standard deviations above the mean cosine of pairs of an evenly spaced sample."""
    sample = vectors[:: max(len(vectors) // 500, 1)]
    usual = (sample @ sample.T)[np.triu_indices(len(sample), 1)].astype(np.float64)
    deviation = float(usual.std()) if len(usual) else 0.0
    z: NDArray[np.float64] = (cosines - usual.mean()) / (deviation if deviation > 1e-9 else 1.0)
    return z
