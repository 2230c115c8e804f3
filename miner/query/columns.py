"""What a filter may name: the columns of a clip, its scene, its reading and what was measured of the reading's file."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from miner.schema import ASSETS, CLIP_FACTS, CLIPS, SAMPLE_DATA, SCENES

TEXT, NUMBER, CONDITION = "text", "a number", "a condition"
_FLAGS = pa.list_(pa.string())


class Column(NamedTuple):
    """Where a name of the language is read: `field` of `table`, and its kind. A list of texts is one, with commas."""

    table: str
    field: str
    kind: str


def _kind(field: pa.Field) -> str | None:
    """How the language sees a column; None for lists, structs and what else it cannot compare."""
    kind = field.type
    if pa.types.is_string(kind) or kind == _FLAGS:
        return TEXT
    if pa.types.is_boolean(kind):
        return CONDITION
    return NUMBER if pa.types.is_integer(kind) or pa.types.is_floating(kind) else None


def _of(table: str, schema: pa.Schema) -> dict[str, Column]:
    kinds = {field.name: _kind(field) for field in schema}
    return {name: Column(table, name, kind) for name, kind in kinds.items() if kind is not None}


# The first table that has a name gives it its plain meaning; `table.name` is clear in any case. Tables by what one row
# of them is joined to: a clip by `clip_id`, the scene of a clip, or a reading.
_TABLES = {"clip_facts": CLIP_FACTS, "sample_data": SAMPLE_DATA, "assets": ASSETS, "clips": CLIPS, "scenes": SCENES}
OF_CLIP, OF_SCENE, OF_READING = ("clip_facts", "clips"), ("scenes",), ("sample_data", "assets")
VECTOR_ROWS = ("sample_data_id", "scene_id", "channel", "timestamp_ns")  # what the rows of an index say themselves

QUALIFIED = {
    f"{table}.{name}": column
    for table, schema in _TABLES.items()
    for name, column in _of(table, schema).items()
    if table != "clip_facts"
}
PLAIN = {
    name: column for table in reversed(_TABLES) for name, column in _of(table, _TABLES[table]).items() if name != "name"
}
SOURCES = PLAIN | QUALIFIED
COLUMNS = {name: column.kind for name, column in SOURCES.items()}
QUALIFIERS = {name.partition(".")[0] for name in QUALIFIED}
CLIP_COLUMNS = {field: column.kind for field, column in _of("clip_facts", CLIP_FACTS).items()}
