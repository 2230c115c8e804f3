"""Recordings of the simulator: the rows follow from the specification in `simulation.json` alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from miner.errors import BadInput, NotFound, UsageError
from miner.readers import SceneRef, SceneTables
from miner.simulation.recording import SPEC_FILE, load_spec
from miner.simulation.spec import Spec, scene_names
from miner.simulation.tables import DATASET, scene_id_of, scene_tables


class SyntheticReader:
    """Reads a folder written by `miner.simulation.record`."""

    name: ClassVar[str] = "synthetic"
    looks_for: ClassVar[str] = f"a folder with {SPEC_FILE}"
    fallback: ClassVar[bool] = False

    def __init__(self, source: str, dataset: str | None = None) -> None:
        self.source = source
        self.dataset = dataset or DATASET
        self.spec: Spec = load_spec(source)

    @staticmethod
    def matches(source: str) -> bool:
        """Whether the folder holds a specification."""
        return Path(source, SPEC_FILE).is_file()

    def scenes(self) -> Iterator[SceneRef]:
        """All scenes, by index."""
        for name in scene_names(self.spec):
            yield SceneRef(scene_id_of(self.spec, name, self.dataset), name)

    def read(self, scene: str) -> SceneTables:
        """The rows of one scene. Raises BadInput for a scene the specification does not have."""
        try:
            return scene_tables(self.spec, scene, str(Path(self.source).absolute()), self.dataset)
        except (NotFound, UsageError) as error:
            raise BadInput("unknown-scene", f"{self.source}: {error.message}") from error
