"""Filters are evaluated by an in-memory DuckDB over Arrow tables; it may open no file and no network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_SEALED = {"enable_external_access": False, "preserve_insertion_order": True, "lock_configuration": True}


class Evaluator:
    """Evaluates conditions that were compiled from a checked filter. For several threads at once.

    Making the database takes longer than most filters: who asks again keeps it.
    """

    @cached_property
    def _database(self) -> Any:
        import duckdb

        return duckdb.connect(":memory:", config=_SEALED)

    def mask(self, sql: str, values: Sequence[str | int | float], table: pa.Table) -> NDArray[np.bool_]:
        """The rows of `table` for which the condition `sql` with `values` for its `$n` is true, (len(table),) bool."""
        rows = table if table.num_columns else table.append_column("row", pa.nulls(len(table)))  # DuckDB wants a column
        with self._database.cursor() as sealed:  # with views of its own
            sealed.register("facts", rows)
            sealed.execute(f"SELECT coalesce(({sql}), false) AS mask FROM facts", list(values))  # in the order of rows
            mask: NDArray[np.bool_] = sealed.fetchnumpy()["mask"]
        return mask
