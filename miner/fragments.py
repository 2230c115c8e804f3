"""Fragments and versions of a table by number: how many small ones there are, merged, trimmed."""

from __future__ import annotations

import json
from datetime import timedelta

from lance.optimize import Compaction

from miner.lance_errors import is_retryable, retried
from miner.store import Store


def data_bytes(written: str) -> int:
    """Bytes of the data files of a fragment that `Store.write` gave."""
    return sum(file["file_size_bytes"] or 0 for file in json.loads(written)["fragment"]["files"])


def small_fragments(store: Store, table: str, target_rows: int) -> int:
    """How many fragments `merge_fragments` would merge."""
    plan = Compaction.plan(store.dataset(table), {"target_rows_per_fragment": target_rows})
    return sum(len(task.fragments) for task in plan.tasks)


def merge_fragments(store: Store, table: str, target_rows: int) -> None:
    """Merge neighbouring fragments of fewer than `target_rows` rows, and write those with many deleted rows anew.

    The rows keep their ids. Without such fragments there is no new version.
    """
    retried(lambda: store.dataset(table).optimize.compact_files(target_rows_per_fragment=target_rows))


def trim(store: Store, table: str, keep: int) -> None:
    """Forget all but the last `keep` versions of a small, often rewritten table."""
    dataset = store.dataset(table)
    if len(dataset.version_refs()) <= 4 * keep:
        return
    try:
        dataset.optimize.compact_files()
        dataset.cleanup_old_versions(older_than=timedelta(0), retain_versions=keep)
    except OSError as error:
        if not is_retryable(error):
            raise  # else others are at work on it, who trim it next
