"""Small clouds for the kernels' tests: random ones with everything a sensor or a damaged file can hold."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Cloud = NDArray[np.float32]

_ODD = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, 1e19, -1e30, 3.4e38], np.float32)


@st.composite
def clouds(draw: st.DrawFn, most: int = 600, width: int | None = None) -> Cloud:
    """Points float32 (n, 3 to 5): scattered or on a grid (equal heights, cell edges), some twice, some odd numbers."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.sampled_from([0, 1, 2, 60, 511, 512, 513, most]))
    points = rng.normal(size=(count, width or draw(st.integers(3, 5)))) * draw(st.sampled_from([0.01, 3.0, 20.0]))
    if draw(st.booleans()):
        points = np.round(points * 2) / 2
    points = points[np.sort(rng.integers(0, count, count))] if count and draw(st.booleans()) else points
    points = points.astype(np.float32)
    odd = rng.random(points.shape) < draw(st.sampled_from([0.0, 0.05]))
    points[odd] = rng.choice(_ODD, int(odd.sum()))
    return points
