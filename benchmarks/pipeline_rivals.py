"""The same work done by others: a plain pool of threads, and a Daft pipeline. Both keep their vectors in memory.

They call what our workers call, decode, quality, crop and encode of `EmbedStage`, on the same readings, and nothing of
what is around it: no plan, no lease, no table is written, no fault survived.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa

from miner.embed import EmbedStage, table_of

AT_ONCE = 32


def embedded(stage: EmbedStage, readings: pa.Table) -> pa.ChunkedArray:
    """The vectors of some readings, one view each."""
    [encoder] = stage.loaded
    prepared = stage._view(readings)
    assert not prepared["failure"].is_valid().to_numpy().any()
    table = table_of(encoder.name)
    return stage._embed(prepared.drop_columns("failure"), frozenset([table])).rows[table]["vector"]


def in_threads(stage: EmbedStage, readings: pa.Table, threads: int) -> int:
    """How many vectors a pool of threads makes."""
    parts = [readings.slice(start, AT_ONCE) for start in range(0, len(readings), AT_ONCE)]
    with ThreadPoolExecutor(threads) as pool:
        return sum(len(vectors) for vectors in pool.map(partial(embedded, stage), parts))


def daft_pipeline(stage: EmbedStage, readings: pa.Table) -> Callable[[], int] | None:
    """A run of a Daft pipeline with the work as its UDF, on Daft's threads; None where it is not installed."""
    try:
        import daft
    except ImportError:
        return None
    [encoder] = stage.loaded

    @daft.func.batch(
        return_dtype=daft.DataType.fixed_size_list(daft.DataType.float32(), encoder.dim),
        batch_size=AT_ONCE,
        use_process=False,
    )
    def embed(*columns: daft.Series) -> pa.Array:
        arrays = [column.to_arrow() for column in columns]
        table = pa.table(dict(zip(readings.column_names, arrays, strict=True))).cast(readings.schema)
        return embedded(stage, table).combine_chunks()

    def run() -> int:
        frame = daft.from_arrow(readings)
        columns = [frame[name] for name in readings.column_names]
        return frame.select(embed(*columns).alias("vector")).collect().count_rows()

    return run
