"""The only step that reads recordings: bytes -> views -> vectors, for all encoders of a pass at once, and `assets`.

Cameras and LiDAR go through it together: each reading is read and decoded once, whatever encoders want of it.
"""

from __future__ import annotations

import hashlib
import math
import socket
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embeddings.device import sees_gpu
from embeddings.encoder import (
    Encoder,
    HeavyEncoder,
    InputSpec,
    LightEncoder,
    PlacedEncoder,
    Processor,
    slug,
)
from miner.decode import Recordings
from miner.decode.image import Picture
from miner.decode.quality import is_of_another_size, quality_of
from miner.decode.sweep import Sweep
from miner.decode.views import crop_views, min_side_for, regions
from miner.encoders import get_encoder, in_version
from miner.encoding import not_finite, vectors_of
from miner.errors import BadInput, MinerError, NotFound, UsageError
from miner.limits import limited
from miner.plan import scene_counts
from miner.schema import ASSETS, REGION, embeddings_schema
from miner.stage import Apply, Failure, Outcome, Output, Prepare, Stage, with_failures
from miner.store import Store, one_of

_READING = [
    "sample_data_id",
    "scene_id",
    "channel",
    "modality",
    "timestamp_ns",
    "uri",
    "offset",
    "length",
    "fileformat",
    "intrinsic",
]
DEFAULT_ENCODERS = {"camera": "lite", "lidar": "descriptor"}
DEFAULT_VIEWS = "whole+tiles"
_BATCH, _BATCH_BYTES = 32, 128 << 20
_LIGHT_BATCH, _LIGHT_BLOCK = 128, 1000  # where encoding is next to nothing
_GPU_BATCH, _PREPARED_BYTES = 256, 128 << 20  # a GPU may be elsewhere, and what encoders want there be unknown here
_USUAL_FRAME = (1600, 900)
_FACTS = ("sha256", "num_bytes", "width", "height", "num_points", "sharpness", "exposure", "phash", "flags")


def table_of(encoder: str) -> str:
    """The table of an encoder's vectors: `embeddings/<slug>`."""
    return f"embeddings/{slug(encoder)}"


def default_encoders(store: Store) -> tuple[str, ...]:
    """An encoder for each kind of sensor the lake has readings of; for both where it has none of either."""
    found = (name for kind, name in DEFAULT_ENCODERS.items() if store.count("sample_data", f"modality = '{kind}'"))
    return tuple(found) or tuple(DEFAULT_ENCODERS.values())


@dataclass(frozen=True)
class Sizes:
    """How the work on readings is cut up, which changes no row.

    `num_gpus` per worker; `batch`: readings a worker has in memory at a time; `block`: readings of a task and a data
    file. None: chosen by the size of a reading and the number of workers. With `compiled` encoders that can are run by
    torch.compile, which takes a minute to begin with and may round differently.
    """

    num_gpus: float = 0.0
    batch: int | None = None
    block: int | None = None
    compiled: bool = False


@dataclass(frozen=True)
class EmbedStage(Stage):
    """A unit is one reading, of the modalities the encoders take.

    Pickled by the encoders' names and versions: workers load the weights themselves, once.
    """

    encoders: tuple[str, ...]
    views: str = DEFAULT_VIEWS
    sizes: Sizes = Sizes()
    versions: tuple[str, ...] = ()
    processor: Processor = "any"
    name = "embed"

    @cached_property
    def loaded(self) -> tuple[Encoder, ...]:
        """The encoders, in `versions` where given. Raises UsageError (unknown name) or MinerError (not to be had)."""
        versions = self.versions or (None,) * len(self.encoders)
        loaded = tuple(
            get_encoder(name, version, self.processor) for name, version in zip(self.encoders, versions, strict=True)
        )
        for encoder, version in zip(loaded, versions, strict=True):
            if version is not None and encoder.version != version:
                raise MinerError(f"encoder {encoder.name!r} is {encoder.version} here, the run wants {version}")
        return loaded

    @property
    def loads(self) -> bool:  # type: ignore[override]
        return not all(isinstance(encoder, LightEncoder) for encoder in self.loaded)

    @cached_property
    def inputs(self) -> dict[str, InputSpec]:
        """What each encoder takes, by its name."""
        return {encoder.name: encoder.input for encoder in self.loaded}

    @property
    def batch_size(self) -> int:  # type: ignore[override]
        """At least as many readings as the hungriest encoder takes at once, but fewer where one is large, as sweeps
        are."""
        if self.sizes.batch:
            return self.sizes.batch
        largest = max(_bytes_of(each) for each in self.inputs.values())
        least = _GPU_BATCH if self.num_gpus else _BATCH if self.loads else _LIGHT_BATCH
        wanted = max(least, *(each.batch for each in self.inputs.values()))
        return max(_BATCH, min(wanted, _BATCH_BYTES // largest))

    @property
    def block_size(self) -> int:  # type: ignore[override]
        if self.sizes.block or not self.num_gpus:
            return self.sizes.block or (4 * self.batch_size if self.loads else _LIGHT_BLOCK)
        return max(1, min(4 * self.batch_size, *(self._prepared_at_once(each) for each in self.inputs.values())))

    def _prepared_at_once(self, spec: InputSpec) -> int:
        """How many readings fit into a prepared block, so many that they fill batches on a GPU."""
        views = 1 if spec.modality == "lidar" else len(regions(*_USUAL_FRAME, self.views))
        rows = _PREPARED_BYTES // _bytes_of(spec)
        return (rows // _GPU_BATCH * _GPU_BATCH or rows) // views

    @property
    def fixed_blocks(self) -> bool:  # type: ignore[override]
        return self.sizes.block is not None

    @property
    def num_gpus(self) -> float:  # type: ignore[override]
        return self.sizes.num_gpus

    @property
    def modalities(self) -> tuple[str, ...]:
        """The kinds of readings the encoders take, each once."""
        return tuple(sorted({each.modality for each in self.inputs.values()}))

    @cached_property
    def outputs(self) -> tuple[Output, ...]:  # type: ignore[override]
        vectors = [self._vectors_of(encoder) for encoder in self.loaded]
        return (*vectors, Output("assets", ASSETS, "sample_data_id", one_of("modality", self.modalities)))

    def _vectors_of(self, encoder: Encoder) -> Output:
        kind = encoder.input.modality
        views = self.views if kind == "camera" else "whole"
        schema = embeddings_schema(encoder.name, encoder.version, encoder.dim, views, kind)
        return Output(table_of(encoder.name), schema, "sample_data_id", "part = 0", kind)

    def __getstate__(self) -> dict[str, Any]:
        """Without the weights; `inputs` is all that `prepare` needs of the encoders."""
        versions = tuple(encoder.version for encoder in self.loaded)
        made_of = {each.name: getattr(self, each.name) for each in fields(self)}
        return made_of | {"versions": versions, "inputs": self.inputs}

    @classmethod
    def of(
        cls,
        store: Store,
        encoders: Sequence[str] = (),
        views: str | None = None,
        sizes: Sizes = Sizes(),
        in_process: bool = True,
    ) -> EmbedStage:
        """A checked stage that fits the lake: encoders are `default_encoders`, views the tables' own if not given.

        In this process a GPU that it sees is used; workers of their own have those they are given.

        Raises UsageError for unknown names and for views or encoder versions other than a table's.
        """
        processor: Processor = "any" if in_process else "gpu" if sizes.num_gpus else "cpu"
        names = encoders or default_encoders(store)
        found = {each.name: each for each in (get_encoder(name, None, processor) for name in names)}  # by one name each
        stored = {name: store.schema(table_of(name)).metadata for name in found if store.exists(table_of(name))}
        known = sorted({each[b"views"].decode() for each in stored.values() if each[b"modality"] == b"camera"})
        held = {name: metadata[b"version"].decode() for name, metadata in stored.items()}
        loaded = tuple(in_version(each, held.get(name)) for name, each in found.items())
        versions = tuple(each.version for each in loaded)
        stage = cls(tuple(found), views or (known[0] if known else DEFAULT_VIEWS), sizes, versions, processor)
        object.__setattr__(stage, "loaded", loaded)  # to load them costs reading their weights
        stage.check()
        for encoder, output in zip(stage.loaded, stage.outputs, strict=False):
            for what in ("version", "views") if encoder.name in stored else ():
                theirs, ours = (of[what.encode()].decode() for of in (stored[encoder.name], output.schema.metadata))
                if theirs != ours:
                    message = f"{output.table!r} of {store.uri} has {what} {theirs}, this run makes {ours}"
                    one = "Leave out --views." if views else "Embed with one of the encoders at a time."
                    raise UsageError(message, one if what == "views" else "Embed into another lake.")
        return stage

    def check(self) -> None:
        """Raise what is wrong with the names before anything is written."""
        regions(1, 1, self.views)
        for encoder in self.loaded:
            if encoder.input.modality not in DEFAULT_ENCODERS:
                raise UsageError(f"encoder {encoder.name!r} takes {encoder.input.modality}, not camera or lidar")

    @property
    def reads(self) -> tuple[str, ...]:
        return ("sample_data",)

    def counts(self, store: Store) -> pa.Table:
        """Units per scene, in all and of each modality. Raises NotFound for a lake that nothing was taken into."""
        if not store.exists("sample_data"):
            raise NotFound(f"{store.uri} has no readings", "Take some in with: miner ingest SOURCE --lake LAKE")
        parts = []
        for kind in self.modalities:
            counted = scene_counts(store, "sample_data", f"modality = '{kind}'")
            for other in self.modalities:
                units = counted["units"] if other == kind else pa.array(np.zeros(len(counted), np.int64))
                counted = counted.append_column(f"units:{other}", units)
            parts.append(counted)
        columns = ["units", *(f"units:{kind}" for kind in self.modalities)]
        summed = pa.concat_tables(parts).group_by("scene_id").aggregate([(column, "sum") for column in columns])
        return summed.rename_columns(["scene_id", *columns])

    def units(self, store: Store, scene_filter: str, scene_ids: pa.Array) -> pa.Table:
        wanted = f"{one_of('modality', self.modalities)} AND {scene_filter}"
        rows = store.scan("sample_data", ["sample_data_id", "scene_id", "modality"], wanted)
        return rows.rename_columns(["key", "scene_id", "kind"])

    def prepare(self, store: Store) -> Prepare:
        return lambda units: self._view(_readings(store, units))

    def apply(self, store: Store) -> Apply:
        if self.num_gpus and any(isinstance(encoder, PlacedEncoder) for encoder in self.loaded):
            _assert_gpu(self.num_gpus)
        for encoder in self.loaded:
            if isinstance(encoder, HeavyEncoder):
                encoder.load(self.sizes.compiled)
        return self._embed

    def _view(self, units: pa.Table) -> pa.Table:
        """Units with facts of their bytes, and per encoder the `input:<name>` it takes as raw bytes, and `regions`."""
        rows = units.to_pylist()
        cells: list[dict[str, Any]] = [{} for _ in rows]
        failures: list[BadInput | None] = [None] * len(rows)
        with Recordings() as recordings:
            # Neighbours in a container cost one opening, and a video decodes forwards.
            for place in sorted(range(len(rows)), key=lambda i: _place(rows[i])):
                unit = rows[place]
                try:
                    cells[place] = limited(unit["key"], unit["uri"], partial(self._read, recordings, unit))
                except BadInput as bad:
                    failures[place] = bad
        columns = {name: ASSETS.field(name).type for name in _FACTS} | {"regions": pa.list_(REGION)}
        columns |= {f"input:{name}": pa.large_binary() for name in self.inputs}
        for name, kind in columns.items():
            units = units.append_column(name, pa.array([cell.get(name) for cell in cells], kind))
        return with_failures(units, failures)

    def _read(self, recordings: Recordings, unit: dict[str, Any]) -> dict[str, Any]:
        read = recordings.read(unit)
        if isinstance(read, Sweep) != (unit["modality"] == "lidar"):
            found = "a LiDAR sweep" if isinstance(read, Sweep) else "a picture"
            raise BadInput("wrong-modality", f"{unit['uri']}: {found}, but the reading is of {unit['modality']}")
        facts = {"sha256": hashlib.sha256(read.data).hexdigest(), "num_bytes": len(read.data), "flags": []}
        return facts | (self._sweep(read) if isinstance(read, Sweep) else self._picture(read, unit["intrinsic"]))

    def _picture(self, frame: Picture, intrinsic: list[float] | None) -> dict[str, Any]:
        parts = regions(frame.width, frame.height, self.views)
        cell: dict[str, Any] = {"width": frame.width, "height": frame.height}
        cell["regions"] = [part and part._asdict() for part in parts]
        if intrinsic and is_of_another_size(frame.width, frame.height, intrinsic):
            cell["flags"] = ["size-mismatch"]
        pixels = None
        for name, size in sorted(self._sizes_of("camera"), key=itemgetter(1)):
            side = min_side_for(size)
            if pixels is None:
                pixels = frame.decode(side)
                cell |= quality_of(pixels)
            elif min(pixels.shape[:2]) <= side and pixels.shape[:2] != (frame.height, frame.width):
                pixels = frame.decode(side)  # else it is what decoding with this side would give
            cell[f"input:{name}"] = crop_views(pixels, parts, size).tobytes()
        return cell

    def _sweep(self, sweep: Sweep) -> dict[str, Any]:
        cell: dict[str, Any] = {"num_points": len(sweep.points), "regions": [None]}
        cell["flags"] = ["dropped-points"] if sweep.dropped else []
        for name, size in self._sizes_of("lidar"):
            cell[f"input:{name}"] = sweep_points(sweep, size).tobytes()
        return cell

    def _sizes_of(self, modality: str) -> list[tuple[str, int]]:
        return [(name, spec.size) for name, spec in self.inputs.items() if spec.modality == modality]

    def _embed(self, units: pa.Table, wanted: frozenset[str]) -> Outcome:
        rows: dict[str, pa.Table] = {}
        bad: set[str] = set()
        for encoder in self.loaded:
            table = table_of(encoder.name)
            own = units.select([*_READING[:5], "regions", f"input:{encoder.name}"])
            if len(self.modalities) > 1:  # filtering copies
                own = own.filter(pc.equal(own["modality"], encoder.input.modality))
            if table in wanted and len(own):
                rows[table] = vectors_of(own, encoder)
                bad |= not_finite(rows[table])
        if "assets" in wanted:
            rows["assets"] = units.select(["sample_data_id", "scene_id", "modality", *_FACTS])
        if not bad:
            return Outcome(rows)
        dropped = pa.array(sorted(bad))
        kept = {t: part.filter(pc.invert(pc.is_in(part["sample_data_id"], dropped))) for t, part in rows.items()}
        lost = units.filter(pc.is_in(units["sample_data_id"], dropped)).to_pylist()
        reason = "the encoder gave a vector that is not finite"
        return Outcome(kept, [Failure(r["key"], r["scene_id"], "not-finite", f"{r['uri']}: {reason}") for r in lost])


def _assert_gpu(num_gpus: float) -> None:
    """Raise MinerError where torch sees no GPU: it would compute on the CPU, which is slow, and be told and billed as a
    GPU."""
    if not sees_gpu():
        raise MinerError(
            f"workers are to have GPUs (num_gpus = {num_gpus:g}), but torch sees none on {socket.gethostname()}",
            "Install a torch for the CUDA of its driver there (miner doctor tells), or leave out --num-gpus.",
        )


def sweep_points(sweep: Sweep, size: int) -> NDArray[np.float32]:
    """What a LiDAR encoder of `size` points sees of a sweep: float32 (at most size, 4), x, y, z, intensity.

    A longer sweep is thinned evenly in its own order; where the sensor gives no intensity it is 0.
    """
    points = sweep.points
    if len(points) > size:
        points = points[np.arange(size) * len(points) // size]
    seen = np.zeros((len(points), 4), np.float32)
    seen[:, :3] = points[:, :3]
    if "intensity" in sweep.fields:
        seen[:, 3] = points[:, sweep.fields.index("intensity")]
    return seen


def _bytes_of(spec: InputSpec) -> int:
    """Of one frame or sweep as an encoder takes it."""
    return math.prod(spec.shape[1:]) * np.dtype(spec.dtype).itemsize


def _place(reading: dict[str, Any]) -> tuple[str, int]:
    """The file of a reading and where in it: what follows # names a message within a range."""
    return reading["uri"].rpartition("#")[0] or reading["uri"], reading["offset"] or 0


def _readings(store: Store, units: pa.Table) -> pa.Table:
    """The rows of `sample_data` that a worker needs, in the order of `units`: the plan holds keys only."""
    keys = units["key"]
    rows = store.scan("sample_data", _READING, one_of("sample_data_id", keys.to_pylist()))
    return rows.take(pc.index_in(keys, rows["sample_data_id"])).append_column("key", keys)
