"""The public names, pinned: adding or removing one is a decision, not an accident."""

from __future__ import annotations

import miner

PUBLIC = {
    *("open", "create", "Lake", "Hits", "Hit", "Report", "Executor", "LocalExecutor"),
    *("MinerError", "UsageError", "UnknownName", "SchemaError", "NotFound", "Conflict", "BadInput"),
}
LAKE = {
    *("ingest", "cut", "embed", "embed_from", "index", "search", "rare", "describe", "show", "verify"),
    *("quarantine", "migrate", "compact", "restore", "versions", "concepts", "fit_concepts"),
    *("select", "dataset", "datasets", "forget_dataset", "report"),
    *("pinned", "to_rerun"),
    *("fix_reference", "tail", "dedup"),
    *("uri", "store", "executor", "settings"),
}


def test_public_names() -> None:
    assert set(miner.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(miner, name).__name__ == name


def test_lake_methods() -> None:
    fields = set(miner.Lake.__dataclass_fields__)
    names = {name for name in {*dir(miner.Lake), *fields} if not name.startswith("_")}
    assert names == LAKE


def test_version_is_calendar() -> None:
    year, month, _ = miner.__version__.split(".")
    assert int(year) >= 2026 and 1 <= int(month) <= 12
