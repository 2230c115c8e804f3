"""Recordings of the simulator: the rows follow from the specification in `simulation.json` alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from miner.errors import BadInput, NotFound, UsageError
from miner.object_store import is_remote, local_path
from miner.readers import SceneRef, SceneTables
from miner.readers.places import AnyPath, place_of, read_whole
from miner.readers.sources import check_all_inside
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
        self.spec = _spec(source)

    @staticmethod
    def matches(source: str | AnyPath) -> bool:
        """Whether the folder holds a specification."""
        return (place_of(source) / SPEC_FILE).is_file()

    def scenes(self) -> Iterator[SceneRef]:
        """All scenes, by index."""
        for name in scene_names(self.spec):
            yield SceneRef(scene_id_of(self.spec, name, self.dataset), name)

    def read(self, scene: str) -> SceneTables:
        """The rows of one scene. Raises BadInput for a scene the specification does not have, and links out of it."""
        root = place_of(self.source)
        try:
            tables = scene_tables(self.spec, scene, str(root), self.dataset)
        except (NotFound, UsageError) as error:
            raise BadInput("unknown-scene", f"{self.source}: {error.message}") from error
        check_all_inside((root / uri for uri in tables.sample_data["uri"].to_pylist()), root)
        return tables


def _spec(source: str) -> Spec:
    """The specification of a recording. Raises NotFound without one, UsageError where the file is no specification."""
    if not is_remote(source):
        return load_spec(local_path(source))
    file = place_of(source) / SPEC_FILE
    if not file.is_file():
        raise NotFound(f"{file}: no such object", "A simulated recording holds it; write one with record().")
    return Spec.from_json(read_whole(file).decode())
