"""Lake tables read from outside, with plain Lance, for comparing what runs leave behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lance

KEYS = {
    "scenes": ["scene_id"],
    "sample_data": ["sample_data_id"],
    "annotations": ["annotation_id"],
    "assets": ["sample_data_id"],
    "clips": ["clip_id"],
    "clip_facts": ["clip_id"],
    "quarantine": ["stage", "key"],
    "embeddings/hashing": ["embedding_id"],
    "embeddings/descriptor": ["embedding_id"],
}


def contents(lake: str | Path) -> dict[str, list[dict[str, Any]]]:
    """All rows of all data tables, sorted by key; run stamps left out. Vectors compare bit for bit."""
    found = {}
    for table, keys in KEYS.items():
        path = Path(lake) / f"{table}.lance"
        if path.exists():
            rows = lance.dataset(str(path)).to_table().sort_by([(key, "ascending") for key in keys])
            stamps = {"run_id", "attempts"} & set(rows.column_names)
            found[table] = rows.drop_columns(sorted(stamps)).to_pylist()
    return found
