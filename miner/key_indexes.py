"""BTREE indexes on the keys of tables and on `scene_id`: made, brought up to date, and made anew where their files are
damaged.

Whether they are behind their table costs a look at its manifest; whether they are damaged costs reading all their
files, which is for those who are about to write by them, or were asked to mend.
"""

from __future__ import annotations

from typing import Any

from miner.digests import load_digests, problems
from miner.schema import key_of
from miner.store import Store


def index_keys(store: Store, table: str) -> bool:
    """Make the indexes, anew where they are damaged, and bring them up to date; whether anything changed.

    For the holder of the table's lease.
    """
    dataset = store.dataset(table)
    wanted = sorted({*_missing(dataset), *_damaged(store, table, dataset)})
    for column in wanted:
        dataset.create_scalar_index(column, "BTREE", replace=True)
    stale = _lag(dataset)
    if stale:
        dataset.optimize.optimize_indices()
    return bool(wanted) or stale


def mend_keys(store: Store, table: str) -> None:
    """Make the indexes anew whose files are damaged. By what they hide a plan would have rows written twice."""
    dataset = store.dataset(table)
    for column in _damaged(store, table, dataset):
        dataset.create_scalar_index(column, "BTREE", replace=True)


def keys_lag(store: Store, table: str) -> bool:
    """Whether an index is missing or lacks rows. Reads no file of an index."""
    dataset = store.dataset(table)
    return _lag(dataset) or bool(_missing(dataset))


def keys_damaged(store: Store, table: str) -> bool:
    """Whether a file of an index is not as it was written. Reads them all."""
    return bool(_damaged(store, table, store.dataset(table)))


def _missing(dataset: Any) -> set[str]:
    wanted = {*key_of(dataset.schema), *({"scene_id"} & {*dataset.schema.names})}
    return wanted - {name for index in dataset.describe_indices() for name in index.field_names}


def _lag(dataset: Any) -> bool:
    """Whether an index of keys or of vectors lacks rows."""
    indexes = dataset.describe_indices()
    fragments = {fragment.fragment_id for fragment in dataset.get_fragments()}
    for index in (each for each in indexes if "vector" in each.field_names):  # its statistics are costly
        if fragments - {number for segment in index.segments for number in segment.fragment_ids}:
            return True
    names = [index.name for index in indexes if "vector" not in index.field_names]
    return any(dataset.stats.index_stats(name).get("num_unindexed_rows", 0) for name in names)


def _damaged(store: Store, table: str, dataset: Any) -> list[str]:
    """The columns whose index has files that are not as they were written."""
    folders = {
        f"{table}.lance/_indices/{segment.uuid}/": column
        for index in dataset.describe_indices()
        for segment in index.segments
        for column in index.field_names
        if column != "vector"  # `miner.index` looks after that
    }
    known = load_digests(store, f"file LIKE '{table}.lance/_indices/%'") if folders else {}
    current = {file: each for file, each in known.items() if f"{file.rpartition('/')[0]}/" in folders}
    return sorted({folders[f"{file.rpartition('/')[0]}/"] for file in problems(store, current)})
