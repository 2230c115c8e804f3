"""What an index is: the rows of one embeddings table at one version, searchable by vector.

Every kind gives the same answer shape, so search, `more like this` and mining do not know which one they hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

QueryKind = Literal["image", "text"]  # image: from the distribution of the vectors themselves; text: from beside it
RECALL = 0.95  # the share of the true nearest rows that is wanted where nobody says otherwise


@dataclass(frozen=True)
class Ask:
    """How well to search: what kind of vectors the queries are, and which share of the true nearest rows is wanted."""

    kind: QueryKind = "image"
    recall: float = RECALL


DEFAULT = Ask()


@dataclass(frozen=True)
class Estimate:
    """What a search is expected to cost (CPU milliseconds a query) and to find (share of the true nearest rows)."""

    cpu_ms: float
    recall: float


@runtime_checkable
class Index(Protocol):
    """Vectors of `table` at `table_version`, made by `encoder` in version `encoder_version` from one modality.

    `rows` says what each vector is of: embedding_id, sample_data_id, scene_id, channel, timestamp_ns, region. Row
    numbers are the same for every kind of index of one table version.
    """

    @property
    def kind(self) -> str:
        """What it is: `flat`, `faiss:IVF-RaBitQ`, `lance:IVF_RQ`, ..."""
        ...

    exact: ClassVar[bool]

    @property
    def index_id(self) -> str | None:
        """The id of the row of `indexes` that names it; None for the exact one, which needs none."""
        ...

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
    def notes(self) -> tuple[str, ...]:
        """What whoever gets an answer should know: rows that are not indexed, files that are not asked."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    def search(
        self, queries: NDArray[np.float32], k: int, mask: NDArray[np.bool_] | None = None, ask: Ask = DEFAULT
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The nearest rows to unit vectors (q, dim): row numbers int64 and scores (cosine) float32, both (q, k').

        k' = min(k, rows allowed by `mask` (n,)), whatever share of the true nearest is found; by score descending,
        then row ascending; scores are exact (`kernels.neighbors`). An exact index finds all, whatever `ask` says.
        Raises ValueError for k < 1 or queries of another length or not finite.
        """
        ...

    def scan(
        self, queries: NDArray[np.float32], k: int, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `search`, exactly, among some rows (ascending): what to do where few rows pass a filter."""
        ...

    def estimate(self, k: int, passing: int, ask: Ask = DEFAULT) -> Estimate:
        """What `search` costs for one query where a mask lets `passing` rows through."""
        ...

    def scan_ms(self, passing: int) -> float:
        """What `scan` of so many rows costs for one query, CPU milliseconds."""
        ...

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of some rows, (len(rows), dim)."""
        ...


def check_search(queries: NDArray[np.float32], k: int, mask: NDArray[np.bool_] | None, shape: tuple[int, int]) -> None:
    """Raise ValueError for a search that makes no sense in an index of `shape` (rows, dim)."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if queries.ndim != 2 or queries.shape[1] != shape[1]:
        raise ValueError(f"queries {queries.shape} must be (q, {shape[1]})")
    if mask is not None and (mask.shape != shape[:1] or mask.dtype != np.bool_):
        raise ValueError(f"mask must be {shape[0]} booleans, got {mask.dtype} {mask.shape}")
    if not np.isfinite(queries).all():
        raise ValueError("queries hold numbers that are not finite")
