"""The only step that reads recordings: bytes -> views -> vectors, for all encoders of a pass at once, and `assets`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embeddings.encoder import Encoder, encode_all, slug
from miner.decode import asset_of, crop_views, decode_image, image_header, min_side_for, read_bytes, regions
from miner.encoders import get_encoder
from miner.errors import BadInput, UsageError
from miner.ids import make_id
from miner.plan import scene_counts
from miner.schema import ASSETS, REGION, embeddings_schema
from miner.stage import Apply, Failure, Outcome, Output, Prepare, Stage, with_failures
from miner.store import Store, one_of

_READING = ["sample_data_id", "scene_id", "channel", "timestamp_ns", "uri", "offset", "length", "fileformat"]
DEFAULT_ENCODER = "lite"
DEFAULT_VIEWS = "whole+tiles"
_FACTS = {"sha256": pa.string(), "num_bytes": pa.int64(), "width": pa.int32(), "height": pa.int32()}


def table_of(encoder: str) -> str:
    """The table of an encoder's vectors: `embeddings/<slug>`."""
    return f"embeddings/{slug(encoder)}"


@dataclass(frozen=True)
class EmbedStage(Stage):
    """A unit is one camera reading. Pickled by the encoders' names: workers load the weights themselves, once."""

    encoders: tuple[str, ...]
    views: str = DEFAULT_VIEWS
    num_gpus: float = 0.0
    name = "embed"
    batch_size = 32
    block_size = 128
    loads = True

    @cached_property
    def loaded(self) -> tuple[Encoder, ...]:
        """The encoders. Raises UsageError (unknown) or MinerError (no weights)."""
        return tuple(get_encoder(name) for name in self.encoders)

    @cached_property
    def outputs(self) -> tuple[Output, ...]:  # type: ignore[override]
        vectors = [
            Output(
                table_of(name),
                embeddings_schema(encoder.name, encoder.version, encoder.dim, self.views),
                "sample_data_id",
                "part = 0",
            )
            for name, encoder in zip(self.encoders, self.loaded, strict=True)
        ]
        return (*vectors, Output("assets", ASSETS, "sample_data_id"))

    def __getstate__(self) -> dict[str, Any]:
        return {"encoders": self.encoders, "views": self.views, "num_gpus": self.num_gpus}

    @classmethod
    def of(cls, store: Store, encoders: tuple[str, ...], views: str | None = None, num_gpus: float = 0.0) -> EmbedStage:
        """A checked stage that fits the lake's tables: `views` are the tables' own where they are not given.

        Raises UsageError for unknown names and for views or encoder versions other than a table's.
        """
        stored = {name: store.schema(table_of(name)).metadata for name in encoders if store.exists(table_of(name))}
        known = sorted({metadata[b"views"].decode() for metadata in stored.values()})
        stage = cls(encoders, views or (known[0] if known else DEFAULT_VIEWS), num_gpus)
        stage.check()
        for encoder in stage.loaded:
            metadata = stored.get(encoder.name, {})
            for what, ours in (("version", encoder.version), ("views", stage.views)):
                theirs = metadata.get(what.encode(), ours.encode()).decode()
                if theirs != ours:
                    message = f"{table_of(encoder.name)!r} of {store.uri} has {what} {theirs}, this run makes {ours}"
                    raise UsageError(message, f"Leave out --{what}." if what == "views" else "Embed into another lake.")
        return stage

    def check(self) -> None:
        """Raise what is wrong with the names before anything is written."""
        regions(1, 1, self.views)
        for encoder in self.loaded:
            if encoder.input.modality != "camera":
                raise UsageError(f"encoder {encoder.name!r} takes {encoder.input.modality}, embed feeds cameras")

    @property
    def reads(self) -> tuple[str, ...]:
        return ("sample_data",)

    def counts(self, store: Store) -> pa.Table:
        return scene_counts(store, "sample_data", "modality = 'camera'")

    def units(self, store: Store, scene_filter: str, scene_ids: pa.Array) -> pa.Table:
        rows = store.scan("sample_data", ["sample_data_id", "scene_id"], f"modality = 'camera' AND {scene_filter}")
        return rows.rename_columns(["key", "scene_id"])

    def prepare(self, store: Store) -> Prepare:
        return lambda units: self._view(_readings(store, units))

    def apply(self, store: Store) -> Apply:
        return self._embed

    def _view(self, units: pa.Table) -> pa.Table:
        """Units with facts of their bytes, and per encoder the `views:<name>` it takes as raw bytes, and `regions`."""
        cells: list[dict[str, Any]] = []
        failures: list[BadInput | None] = []
        for unit in units.to_pylist():
            try:
                cells.append(self._read(unit))
                failures.append(None)
            except BadInput as bad:
                cells.append({})
                failures.append(bad)
        columns = {
            **_FACTS,
            "regions": pa.list_(REGION),
            **{f"views:{name}": pa.large_binary() for name in self.encoders},
        }
        for name, kind in columns.items():
            units = units.append_column(name, pa.array([cell.get(name) for cell in cells], kind))
        return with_failures(units, failures)

    def _read(self, unit: dict[str, Any]) -> dict[str, Any]:
        data = read_bytes(unit["uri"], unit["offset"], unit["length"])
        header = image_header(data, unit["uri"])
        parts = regions(header.width, header.height, self.views)
        decoded: dict[int, NDArray[np.uint8]] = {}
        cell: dict[str, Any] = {**asset_of(data, header), "regions": [part and part._asdict() for part in parts]}
        for name, encoder in zip(self.encoders, self.loaded, strict=True):
            side = min_side_for(encoder.input.size)
            if side not in decoded:
                decoded[side] = decode_image(data, unit["fileformat"], unit["uri"], side)
            cell[f"views:{name}"] = crop_views(decoded[side], parts, encoder.input.size).tobytes()
        return cell

    def _embed(self, units: pa.Table, wanted: frozenset[str]) -> Outcome:
        rows, bad = {}, set()
        for name, encoder in zip(self.encoders, self.loaded, strict=True):
            if table_of(name) in wanted:
                rows[table_of(name)] = _rows(units, f"views:{name}", encoder)
                bad |= _not_finite(rows[table_of(name)])
        if "assets" in wanted:
            flags = pa.array([[]] * len(units), pa.list_(pa.string()))
            rows["assets"] = units.select(["sample_data_id", "scene_id", *_FACTS]).append_column("flags", flags)
        if not bad:
            return Outcome(rows)
        dropped = pa.array(sorted(bad))
        kept = {t: part.filter(pc.invert(pc.is_in(part["sample_data_id"], dropped))) for t, part in rows.items()}
        lost = units.filter(pc.is_in(units["sample_data_id"], dropped)).to_pylist()
        reason = "the encoder gave a vector that is not finite"
        return Outcome(kept, [Failure(r["key"], r["scene_id"], "not-finite", f"{r['uri']}: {reason}") for r in lost])


def _readings(store: Store, units: pa.Table) -> pa.Table:
    """The rows of `sample_data` that a worker needs, in the order of `units`: the plan holds keys only."""
    keys = units["key"]
    rows = store.scan("sample_data", _READING, one_of("sample_data_id", keys.to_pylist()))
    return rows.take(pc.index_in(keys, rows["sample_data_id"])).append_column("key", keys)


def _rows(units: pa.Table, column: str, encoder: Encoder) -> pa.Table:
    """One row per view of each unit, in order, as `embeddings_schema` says."""
    shape = (-1, encoder.input.size, encoder.input.size, 3)
    views = [np.frombuffer(cell.as_buffer(), np.uint8).reshape(shape) for cell in units[column]]
    counts = np.array([len(view) for view in views])
    vectors = encode_all(encoder, np.concatenate(views))
    owner = pa.array(np.repeat(np.arange(len(units)), counts))
    part = np.concatenate([np.arange(count, dtype=np.int16) for count in counts])
    rows = units.select(["sample_data_id", "scene_id", "channel", "timestamp_ns"]).take(owner)
    ids = [
        make_id("embedding", reading, int(n))
        for reading, n in zip(rows["sample_data_id"].to_pylist(), part, strict=True)
    ]
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), encoder.dim)
    more = {"embedding_id": ids, "part": part, "region": pc.list_flatten(units["regions"]), "vector": flat}
    for name, values in more.items():
        rows = rows.append_column(name, values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values))
    return rows


def _not_finite(rows: pa.Table) -> set[str]:
    vectors = rows["vector"].combine_chunks()
    finite = np.isfinite(vectors.flatten().to_numpy()).reshape(len(rows), -1).all(axis=1)
    return set(rows.filter(pa.array(~finite))["sample_data_id"].to_pylist())
