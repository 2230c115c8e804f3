"""The first step: a reader's scenes become rows of `scenes`, `sample_data` and `annotations`. No recording is
opened."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from miner.errors import BadInput, UsageError
from miner.limits import limited
from miner.readers import Reader
from miner.schema import ANNOTATIONS, SAMPLE_DATA, SCENES, check
from miner.stage import Apply, Failure, Outcome, Output, Stage
from miner.store import Store

_CHILDREN = (Output("sample_data", SAMPLE_DATA, None), Output("annotations", ANNOTATIONS, None))


@dataclass(frozen=True)
class IngestStage(Stage):
    """A unit is a scene of the source; its `scenes` row is written last and means done."""

    reader: Reader
    name = "ingest"
    outputs = (*_CHILDREN, Output("scenes", SCENES, "scene_id"))
    batch_size = 16

    @property
    def reads(self) -> tuple[str, ...]:
        return ()

    @property
    def source_reader(self) -> str:  # type: ignore[override]
        return self.reader.name

    def counts(self, store: Store) -> pa.Table:
        scene_ids = pa.array([scene.scene_id for scene in self.reader.scenes()], pa.string())
        if not len(scene_ids):
            raise UsageError(f"{self.reader.source}: reader {self.reader.name} finds no scene", self.reader.looks_for)
        return pa.table({"scene_id": scene_ids, "units": pa.array([1] * len(scene_ids), pa.int64())})

    def units(self, store: Store, scene_filter: str, scene_ids: pa.Array) -> pa.Table:
        wanted = set(scene_ids.to_pylist())
        scenes = [scene for scene in self.reader.scenes() if scene.scene_id in wanted]
        keys = pa.array([scene.scene_id for scene in scenes], pa.string())
        return pa.table(
            {"key": keys, "scene_id": keys, "name": pa.array([scene.name for scene in scenes], pa.string())}
        )

    def apply(self, store: Store) -> Apply:
        return self._read

    def _read(self, units: pa.Table, wanted: frozenset[str]) -> Outcome:
        parts: dict[str, list[pa.Table]] = {output.table: [output.schema.empty_table()] for output in self.outputs}
        failures = []
        for unit in units.to_pylist():
            try:
                tables = limited(unit["key"], f"scene {unit['name']}", partial(self.reader.read, unit["name"]))
            except BadInput as bad:
                failures.append(Failure(unit["key"], unit["scene_id"], bad.reason, bad.detail))
                continue
            for table, rows in parts.items():
                rows.append(getattr(tables, table))
            parts["scenes"][-1] = _read_by(self.reader.name, tables.scenes)
        return Outcome({table: pa.concat_tables(rows) for table, rows in parts.items()}, failures)


def _read_by(reader: str, scenes: pa.Table) -> pa.Table:
    """Rows of `scenes` that say which reader made them."""
    place = SCENES.get_field_index("reader")
    names = pa.array([reader] * len(scenes), pa.string())
    return check(scenes, SCENES).set_column(place, SCENES.field("reader"), names)
