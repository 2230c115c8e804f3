"""What damaged files mean: which rows of the present lake they hold, which clips that hits, what to do about it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kernels.spans import Ints, Spans, instants, overlaps
from miner.digests import GONE, Digest, manifest, tracked, version_of
from miner.errors import Damaged
from miner.sound import Sound, fragment_files, index_files, readable
from miner.store import Store

_READING = ["sample_data_id", "scene_id", "timestamp_ns"]
_OF_CLIPS = {"scenes", "sample_data", "annotations", "assets", "clips", "clip_facts"}
_CLIP = ["clip_id", "scene_id", "start_ns", "end_ns"]


@dataclass(frozen=True)
class Damage:
    """A file that is not what was written: `rows` of the present lake are in it, `clips` are hit.

    What is not `current` is of earlier versions only: no answer comes from it.
    """

    file: str
    what: str
    problem: str
    rows: int
    clips: tuple[str, ...]
    current: bool
    next_step: str


@dataclass(frozen=True)
class _State:
    """The files of a table: of which versions each is, of which fragments now, and how many rows those have.

    `whole` is the newest version that is not hit, 0 for none; `version` the present one, 0 where it does not open.
    """

    table: str
    version: int
    versions: Mapping[str, frozenset[int]]
    fragments: Mapping[str, tuple[int, ...]]
    rows: Mapping[int, int]
    indexes: frozenset[str]
    whole: int


class Assessment:
    """Judges a lake whose files were compared with their `digests`: `wrong` says of some what is wrong with them.

    `broken` tables are those whose present manifest does not hold, with how: nothing they say can be trusted.
    """

    def __init__(self, store: Store, digests: Mapping[str, Digest], wrong: Mapping[str, str]) -> None:
        self._store, self._digests, self._wrong = store, digests, wrong
        self._sound = Sound(store, digests, wrong)
        self.broken = self._lying()

    def damages(self) -> list[Damage]:
        """The damage of each table, what is current first. A file of a version that was cleaned away is none."""
        by_table: dict[str, list[str]] = {}
        for file in sorted(self._wrong):
            by_table.setdefault(self._digests[file].table, []).append(file)
        found = [each for table, files in by_table.items() for each in self._of_table(table, files)]
        return sorted(found, key=lambda each: (not each.current, each.file))

    def _lying(self) -> dict[str, str]:
        newest: dict[str, int] = {}
        for file, digest in self._digests.items():
            if self._wrong.get(file) != GONE:
                newest[digest.table] = max(newest.get(digest.table, 0), version_of(file))
        places = {table: manifest(table, version) for table, version in newest.items()}
        return {table: f"{file} {self._wrong[file]}" for table, file in places.items() if file in self._wrong}

    def clips_of(self, readings: Iterable[str]) -> tuple[str, ...]:
        """The clips that readings are in, sorted."""
        chosen = self._readings.filter(pc.is_in(self._readings["sample_data_id"], pa.array(readings, pa.string())))
        return self._clips_at(chosen)

    def _of_table(self, table: str, files: list[str]) -> Iterator[Damage]:
        state = self._state(table)
        clips: tuple[str, ...] = ()
        with suppress(Damaged):  # where several tables are damaged, nobody may know
            if table in self.broken and _holds_clips(table):
                clips = tuple(sorted(pc.unique(self._clips["clip_id"]).to_pylist()))
            elif any(file in state.fragments for file in files):
                clips = self._clips_hit(state)
        for file in files:
            versions = state.versions.get(file, frozenset())
            latest = self.broken.get(table, "").startswith(file) or version_of(file) >= state.version > 0
            if self._wrong[file] == GONE and not versions and not latest:
                continue
            current = latest or not state.version or state.version in versions
            fragments = state.fragments.get(file, ())
            yield Damage(
                file=file,
                what=_kind(file, table),
                problem=self._wrong[file],
                rows=sum(state.rows[each] for each in fragments),
                clips=clips if fragments or (table in self.broken and latest) else (),
                current=current,
                next_step=self._next_step(file, state, current),
            )

    def _state(self, table: str) -> _State:
        """What a table consists of, as far as it says."""
        if table in self.broken:
            return _State(table, 0, {}, {}, {}, frozenset(), self._whole(table, {}, 0))
        try:
            with readable(self._store, table):
                if not self._store.exists(table):
                    return _State(table, 0, {}, {}, {}, frozenset(), 0)
                dataset = self._store.dataset(table)
                versions = _versions(self._store, table, int(dataset.version))
                fragments: dict[str, tuple[int, ...]] = {}
                for each in dataset.get_fragments():
                    for file in fragment_files(table, each.metadata):
                        fragments[file] = (*fragments.get(file, ()), each.fragment_id)
                rows = {each.fragment_id: int(each.metadata.physical_rows) for each in dataset.get_fragments()}
                indexes = frozenset(index_files(table, dataset, self._digests))
                version = int(dataset.version)
        except Damaged:
            return _State(table, 0, {}, {}, {}, frozenset(), self._whole(table, {}, 0))
        whole = self._whole(table, versions, version)
        return _State(table, version, versions, fragments, rows, indexes, whole)

    def _whole(self, table: str, versions: Mapping[str, frozenset[int]], present: int) -> int:
        """The newest version before `present` (0: of all) of which no file is damaged; 0 for none."""
        known = {version_of(file) for file, each in self._digests.items() if each.table == table} - {0}
        hit = {version for file in self._wrong for version in versions.get(file, ())}
        hit |= {version_of(file) for file in self._wrong if self._digests[file].table == table}
        if not present and known:
            hit.add(max(known))
        return max((each for each in known - hit if not present or each < present), default=0)

    def _next_step(self, file: str, state: _State, current: bool) -> str:
        lake, table = shlex.quote(self._store.uri), state.table
        if not current:
            return "no answer comes from it; miner compact drops versions that nobody needs any more"
        if file in state.indexes:
            return f"miner index {lake}"
        if file.endswith(".txn"):
            return "its rows are whole, only which run wrote them last may be told wrongly"
        if not state.whole:
            return f"no version of {table} is whole: restore the file from a backup, or ingest into a new lake"
        back = "miner index brings it up to date" if table in ("clip_facts", "indexes") else "run what filled it again"
        return f"miner restore {lake} --table {table} --version {state.whole}, then {back}"

    # -- which clips -------------------------------------------------------------------------------------------------

    def _clips_hit(self, state: _State) -> tuple[str, ...]:
        """The clips whose rows are in the damaged fragments of a table: those that the other tables know and its whole
        fragments do not."""
        table = state.table
        if table in ("clips", "clip_facts"):
            lost = pc.unique(self._clips["clip_id"])
            return tuple(sorted(_without(lost, self._column(table, "clip_id")).to_pylist()))
        if table == "scenes":
            known = pa.chunked_array([self._readings["scene_id"].combine_chunks(), *self._clips["scene_id"].chunks])
            return self._clips_of_scenes(_without(pc.unique(known), self._column(table, "scene_id")))
        if table == "annotations":
            return self._clips_of_scenes(self._named(state, "scene_id"))
        if _holds_clips(table):
            return self.clips_of(self._lost_readings(state).to_pylist())
        return ()

    def _lost_readings(self, state: _State) -> pa.Array:
        """Readings the table should have and does not, without its damaged fragments."""
        lost = _without(self._expected(state.table), self._column(state.table, "sample_data_id"))
        hit = {each for file in self._wrong for each in state.fragments.get(file, ())}
        if len(lost) > sum(state.rows[each] for each in hit):  # it never had all of them: take those it still names
            named = self._named(state, "sample_data_id")
            lost = lost.filter(pc.is_in(lost, named)) if len(named) else lost
        return lost

    def _expected(self, table: str) -> pa.Array:
        """The readings that a table should have rows of, told by the other tables."""
        known = pc.unique(self._readings["sample_data_id"])
        if table == "sample_data":
            return known
        if table == "assets":
            vectors = [name for name in self._store.listed() if name.startswith("embeddings/") and self._opens(name)]
            read = [self._column(name, "sample_data_id") for name in vectors]
            known = pc.unique(pa.chunked_array(read, pa.string())) if read else known
        elif self._opens("sample_data"):
            with readable(self._store, table):
                modality = self._store.schema(table).metadata[b"modality"].decode()
            kinds = self._sound.scan("sample_data", ["sample_data_id"], f"modality = '{modality}'")["sample_data_id"]
            known = pc.unique(kinds) if len(kinds) else known
        return _without(known, self._column("quarantine", "key")) if self._opens("quarantine") else known

    def _named(self, state: _State, column: str) -> pa.Array:
        """What the damaged fragments themselves still say, as far as another table knows it."""
        own = "scene_id" if column == "scene_id" else "sample_data_id"
        known = pc.unique(self._readings[own])
        hit = {each for file in self._wrong for each in state.fragments.get(file, ())}
        try:
            with readable(self._store, state.table):
                dataset = self._store.dataset(state.table, state.version)
                chosen = [each for each in dataset.get_fragments() if each.fragment_id in hit]
                rows = dataset.scanner(columns=[column], fragments=chosen, use_scalar_index=False).to_table()
                said = pc.unique(rows[column].drop_null())
                return said.filter(pc.is_in(said, known))
        except Damaged:
            return pa.array([], pa.string())

    @cached_property
    def _readings(self) -> pa.Table:
        """Scene and time of each reading that any table still knows."""
        tables = ["sample_data", *(name for name in self._store.listed() if name.startswith("embeddings/"))]
        rows = [self._sound.scan(table, _READING) for table in tables if self._opens(table)]
        if not rows:
            return pa.table({"sample_data_id": pa.array([], pa.string()), "scene_id": pa.array([], pa.string()),
                             "timestamp_ns": pa.array([], pa.int64())})  # fmt: skip
        return pa.concat_tables(rows).group_by(_READING).aggregate([])

    @cached_property
    def _clips(self) -> pa.Table:
        """Scene and span of each clip that any table still knows."""
        rows = [self._sound.scan(table, _CLIP) for table in ("clips", "clip_facts") if self._opens(table)]
        if not rows:
            return pa.table({name: pa.array([], pa.int64() if name.endswith("_ns") else pa.string()) for name in _CLIP})
        return pa.concat_tables(rows).group_by(_CLIP).aggregate([])

    def _clips_of_scenes(self, scenes: pa.Array) -> tuple[str, ...]:
        return tuple(sorted(self._clips.filter(pc.is_in(self._clips["scene_id"], scenes))["clip_id"].to_pylist()))

    def _clips_at(self, readings: pa.Table) -> tuple[str, ...]:
        scenes = pc.unique(self._clips["scene_id"])
        times = instants(readings["timestamp_ns"].to_numpy(), _codes(readings["scene_id"], scenes))
        starts, ends = self._clips["start_ns"].to_numpy(), self._clips["end_ns"].to_numpy()
        _, clip = overlaps(times, Spans(starts, ends, _codes(self._clips["scene_id"], scenes)))
        return tuple(sorted(self._clips["clip_id"].take(pa.array(np.unique(clip))).to_pylist()))

    def _column(self, table: str, column: str) -> pa.Array:
        return pc.unique(self._sound.scan(table, [column])[column])

    def _opens(self, table: str) -> bool:
        try:
            return table not in self.broken and self._sound.has(table) and self._sound.version(table) > 0
        except Damaged:
            return False


def _versions(store: Store, table: str, present: int) -> dict[str, frozenset[int]]:
    """The versions that have each file; of the present one alone where an earlier manifest cannot be read."""
    try:
        with readable(store, table):
            rows = tracked(store, table)
    except Damaged:
        rows = tracked(store, table, present)
    found: dict[str, set[int]] = {}
    for file, version in zip(rows["file"].to_pylist(), rows["version"].to_pylist(), strict=True):
        found.setdefault(file, set()).add(version)
    return {file: frozenset(each) for file, each in found.items()}


def _holds_clips(table: str) -> bool:
    """Whether damage to a table hits clips: it has rows of them, of their scenes or of their readings."""
    return table in _OF_CLIPS or table.startswith("embeddings/")


def _without(values: pa.Array, known: pa.Array) -> pa.Array:
    return values.filter(pc.invert(pc.is_in(values, known)))


def _codes(names: pa.ChunkedArray, known: pa.Array) -> Ints:
    codes: Ints = pc.fill_null(pc.index_in(names, known), -1).to_numpy().astype(np.int64)
    return codes


def _kind(file: str, table: str) -> str:
    folder = file.removeprefix(f"{table}.lance/").partition("/")[0]
    names = {"data": "rows", "_deletions": "deleted rows", "_indices": "key index", "_transactions": "transaction"}
    return f"{names.get(folder, 'manifest')} of {table}"
