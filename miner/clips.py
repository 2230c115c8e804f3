"""Scenes to clips: windows of one scene, the unit of mining.

Windows stand on a grid that starts at the scene's first reading, so adding data to other scenes moves no clip. A window
without a reading is no clip: a recording may have gaps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from miner.errors import BadInput, UsageError
from miner.ids import make_id
from miner.schema import CLIPS
from miner.stage import Apply, Outcome, Output, Prepare, Stage, with_failures
from miner.store import Store, one_of

_RECIPE = re.compile(r"window=([0-9.]+)s")


@dataclass(frozen=True)
class Recipe:
    """How scenes are cut: consecutive windows of `window_s` seconds."""

    window_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0.1 <= self.window_s <= 3600:
            raise UsageError(f"a clip of {self.window_s} s: expected 0.1 to 3600 seconds")

    def __str__(self) -> str:
        return f"window={str(self.window_s).removesuffix('.0')}s"  # every digit: the recipe is read back from here

    @property
    def window_ns(self) -> int:
        """Length of a window in nanoseconds."""
        return round(self.window_s * 1e9)


def choose_recipe(store: Store, window_s: float | None) -> Recipe:
    """The recipe to cut with: the lake's own, which a given `window_s` must agree with, or a new one."""
    active = _active_recipe(store)
    wanted = (active or Recipe()) if window_s is None else Recipe(window_s)
    if active is not None and wanted != active:
        raise UsageError(f"the lake's clips are cut by {active}, not {wanted}", "One recipe is active per lake.")
    return wanted


def _active_recipe(store: Store) -> Recipe | None:
    if not store.exists("clips") or not store.count("clips"):
        return None
    first = store.dataset("clips").head(1, columns=["recipe"])["recipe"][0].as_py()
    match = _RECIPE.fullmatch(first)
    if match is None:
        raise UsageError(f"the lake's clips were cut by an unknown recipe {first!r}", "Use the release that cut them.")
    return Recipe(float(match[1]))


@dataclass(frozen=True)
class CutStage(Stage):
    """A unit is a scene; its clips are written together."""

    recipe: Recipe = Recipe()
    name = "cut"
    outputs = (Output("clips", CLIPS, "scene_id"),)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("scenes", "sample_data")

    def counts(self, store: Store) -> pa.Table:
        scene_ids = store.scan("scenes", ["scene_id"])["scene_id"]
        return pa.table({"scene_id": scene_ids, "units": pa.array(np.ones(len(scene_ids), np.int64))})

    def units(self, store: Store, scene_filter: str, scene_ids: pa.Array) -> pa.Table:
        scenes = store.scan("scenes", ["scene_id", "start_ns", "end_ns"], scene_filter)
        return scenes.append_column("key", scenes["scene_id"])

    def prepare(self, store: Store) -> Prepare:
        def readings(units: pa.Table) -> pa.Table:
            rows = store.scan("sample_data", ["scene_id", "timestamp_ns"], one_of("scene_id", units["key"].to_pylist()))
            times = rows.group_by("scene_id").aggregate([("timestamp_ns", "list")])
            of_unit = times["timestamp_ns_list"].take(pc.index_in(units["key"], times["scene_id"]))
            empty = BadInput("no-readings", "the scene has no reading of any sensor")
            found = with_failures(units, (None if there else empty for there in pc.is_valid(of_unit).to_pylist()))
            return found.append_column("times", of_unit)

        return readings

    def apply(self, store: Store) -> Apply:
        return self._cut

    def _cut(self, units: pa.Table, wanted: frozenset[str]) -> Outcome:
        return Outcome({"clips": pa.concat_tables([self._clips(unit) for unit in units.to_pylist()])})

    def _clips(self, unit: dict[str, Any]) -> pa.Table:
        scene_id, start = unit["scene_id"], unit["start_ns"]
        times = np.array(unit["times"], np.int64)
        starts = np.unique((times - start) // self.recipe.window_ns) * self.recipe.window_ns + start
        recipe = str(self.recipe)
        return pa.table(
            {
                "clip_id": [make_id("clip", scene_id, recipe, int(at)) for at in starts],
                "scene_id": [scene_id] * len(starts),
                "start_ns": starts,
                "end_ns": np.minimum(starts + self.recipe.window_ns, max(unit["end_ns"], int(times.max()) + 1)),
                "recipe": [recipe] * len(starts),
            }
        )
