"""What an index is: the rows of one embeddings table at one version, searchable by vector.

Every kind gives the same answer shape, so search, `more like this` and mining do not know which one they hold.
"""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@runtime_checkable
class Index(Protocol):
    """Vectors of `table` at `table_version`, made by `encoder` in version `encoder_version` from one modality.

    `rows` says what each vector is of: embedding_id, sample_data_id, scene_id, channel, timestamp_ns, region.
    """

    kind: ClassVar[str]
    exact: ClassVar[bool]

    @property
    def table(self) -> str: ...

    @property
    def table_version(self) -> int: ...

    @property
    def encoder(self) -> str: ...

    @property
    def encoder_version(self) -> str: ...

    @property
    def modality(self) -> str: ...

    @property
    def rows(self) -> pa.Table: ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    def search(
        self, queries: NDArray[np.float32], k: int, mask: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The nearest rows to unit vectors (q, dim): row numbers int64 and scores (cosine) float32, both (q, k').

        k' = min(k, rows allowed by `mask` (n,)); by score descending, then row ascending. Raises ValueError for k < 1
        or queries of another length or not finite.
        """
        ...

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of some rows, (len(rows), dim)."""
        ...
