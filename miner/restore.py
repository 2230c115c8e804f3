"""Back to an older version of a table: after a mistake, or where the newest one is damaged.

A `scenes` row says that all readings and annotations of the scene are there. So the scenes that lose rows of these two
leave `scenes` first, and the next ingest reads them again. A scene that would get old rows back beside losing new ones
was replaced meanwhile: it leaves the restored table too, so that nothing of its old content comes back.

Versions that cannot be opened are put aside (`.manifest.damaged`), never deleted.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow.fs import FileSelector

from miner.digests import load_digests, manifest, problems, seal, version_of
from miner.errors import Damaged, MinerError, NotFound
from miner.failpoints import failpoint
from miner.lease import lease
from miner.lineage import Run, Span, record, recover
from miner.object_store import filesystem
from miner.runlog import logged
from miner.store import Store, one_of
from miner.transactions import HARMLESS, RUN
from miner.versions import tags

CHILDREN = ("sample_data", "annotations")  # of `scenes`, whose row says that they are complete
_NOT_LEASED = ("digests", "leases", "lineage", "quarantine")
_COMPUTED = ("clip_facts", "indexes")
_AT_ONCE = 500
_ROW, _UPDATED = "_rowid", "_row_last_updated_at_version"
ASIDE = ".damaged"
_NEXT = {
    **dict.fromkeys(("scenes", *CHILDREN), "miner ingest SOURCE --lake {lake}"),
    "clips": "miner cut {lake} && miner index {lake}",
    **dict.fromkeys(_COMPUTED, "miner index {lake}"),
    "assets": "miner embed {lake} && miner index {lake}",
}


@dataclass(frozen=True)
class Known:
    """A version of a table: when it was written, by which operation and run, its rows and tags; or why it is lost."""

    version: int
    time: str = ""
    operation: str = ""
    run_id: str = ""
    job: str = ""
    rows: int = 0
    tags: tuple[str, ...] = ()
    damage: str = ""


@dataclass(frozen=True)
class Restored:
    """What a restore did, or would do: `lost` rows go, `back` rows come, None where the present version is damaged."""

    table: str
    version: int
    rows: int
    lost: int | None
    back: int | None
    scenes_to_read_again: int
    put_aside: tuple[int, ...]
    next_step: str
    changed: bool


@dataclass(frozen=True)
class Restoration:
    """How to restore: the run it is told as, and who waits for leases, and is told."""

    run: Run
    wait: bool = True
    notify: Callable[[str], None] = field(default=lambda message: None, repr=False)


def known_versions(store: Store, table: str) -> list[Known]:
    """The versions that a table has files of, newest first. Raises NotFound for no such table."""
    return [_known(store, table, number) for number in sorted(_numbers(store, table), reverse=True)]


def restore(store: Store, how: Restoration, table: str, version: int) -> Restored:
    """Make the rows of `version` the present ones, as a new version. The same again ends what a kill left, or changes
    nothing.

    Raises NotFound for no such table or version, Damaged where the version's own files are damaged or gone, and
    Conflict where another run holds the table and `how` does not wait.
    """
    with logged(store, how.run, f"restore {table}"), _held(store, how, table):
        plan = _Plan.of(store, table, version)
        if not plan.idle:
            _carry_out(store, how.run, plan)
    seal(store)
    return plan.told(store)


def healed_by(store: Store, table: str) -> str:
    """What brings back the rows that a restore of the table took, where no run has changed it since; else ""."""
    last = next((commit for commit in store.history(table) if RUN in commit.properties), None)
    return _next_step(store, table) if last and last.properties.get("miner.stage") == "restore" else ""


def foresee(store: Store, table: str, version: int) -> Restored:
    """What `restore` would do, without writing anything. Raises as it does."""
    return _Plan.of(store, table, version).told(store)


@dataclass(frozen=True)
class _Plan:
    """`parents` are the scenes to take out of `scenes`, `mixed` those to take out of the restored table itself.

    `aside` are versions that cannot be opened, `turn` tells whether a new version is to be made of the old one.
    """

    table: str
    version: int
    rows: int
    aside: tuple[int, ...]
    turn: bool
    lost: int | None = None
    back: int | None = None
    parents: Sequence[str] = ()
    mixed: Sequence[str] = ()

    @classmethod
    def of(cls, store: Store, table: str, version: int) -> _Plan:
        numbers = _numbers(store, table)
        if version not in numbers:
            kept = ", ".join(str(number) for number in sorted(numbers)[-20:])
            raise NotFound(f"table {table!r} of {store.uri} has no version {version}", f"The last it has: {kept}")
        _assert_whole(store, table, version)
        rows = store.dataset(table, version).count_rows()
        aside = tuple(number for number in sorted(numbers) if _damage(store, table, number))
        if max(numbers) in aside:
            parents = _maybe_incomplete(store, table, version) if table in CHILDREN else []
            return cls(table, version, rows, aside, True, parents=parents)
        out = _taken_out(store, table, version)
        changes = _Changes.between(store, table, version, out)
        parents = sorted(changes.lost_scenes) if table in CHILDREN else []
        mixed = (
            (changes.lost_scenes & changes.back_scenes) | (out & changes.scenes) if table not in _COMPUTED else set()
        )
        if table == "scenes":
            mixed |= _without_readings(store, changes.back_scenes)
        turn = bool(changes.lost or changes.back) or max(_numbers(store, table, ASIDE), default=0) > max(numbers)
        return cls(table, version, rows, aside, turn, changes.lost, changes.back, parents, sorted(mixed))

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do: the present rows are those of the version already."""
        return not (self.turn or self.aside or self.mixed)

    def told(self, store: Store) -> Restored:
        """The plan for the person who asked."""
        again = {*self.parents, *(self.mixed if self.table in ("scenes", *CHILDREN) else ())}
        next_step = _next_step(store, self.table, self.version)
        what = (self.lost, self.back, len(again), self.aside, next_step, not self.idle)
        return Restored(self.table, self.version, self.rows, *what)


def _next_step(store: Store, table: str, version: int | None = None) -> str:
    """The command that fills a restored table up."""
    step = _NEXT.get(table, "")
    if table.startswith("embeddings/"):
        encoder = (store.dataset(table, version).schema.metadata or {}).get(b"encoder", b"NAME").decode()
        step = f"miner embed {{lake}} --encoder {encoder} && miner index {{lake}}"
    return step.format(lake=shlex.quote(store.uri))


def _carry_out(store: Store, run: Run, plan: _Plan) -> None:
    table, leased = plan.table, plan.table not in _NOT_LEASED
    stamp = run.stamp(stage="restore", out=json.dumps(plan.mixed))
    for name in [*([table] if leased and not plan.aside else []), *(["scenes"] if plan.parents else [])]:
        recover(store, name)
    last = store.version("scenes")
    for scenes in _pieces(plan.parents):  # first: no scene may be there without its rows
        store.remove("scenes", one_of("scene_id", scenes), stamp)
    failpoint("restore:between-tables")
    first = 0 if plan.aside else store.version(table) + 1
    _put_aside(store, table, plan.aside)
    if plan.turn:
        first = store.restore(table, plan.version, stamp)
        if first in _numbers(store, table, ASIDE):
            store.fence(table)  # a damaged version had this number: nobody may take the present one for it
    for scenes in _pieces(plan.mixed):
        store.remove(table, one_of("scene_id", scenes), stamp)
    spans = [Span("scenes", last + 1, store.version("scenes"))] if plan.parents else []
    spans += [Span(table, first, store.version(table))] if leased and 0 < first <= store.version(table) else []
    record(store, run, [Span(table, plan.version, plan.version)], spans, {"lost": plan.lost, "back": plan.back})


@contextmanager
def _held(store: Store, how: Restoration, table: str) -> Iterator[None]:
    """The leases of what is changed."""
    if table in _NOT_LEASED:
        yield
        return
    with lease(store, [table, *(["scenes"] if table in CHILDREN else [])], how.run.run_id, how.wait, how.notify):
        yield


@dataclass(frozen=True)
class _Changes:
    """What a restore takes and brings: numbers of rows, and the scenes they are of where the table has scenes."""

    lost: int
    back: int
    lost_scenes: set[str]
    back_scenes: set[str]
    scenes: set[str]

    @classmethod
    def between(cls, store: Store, table: str, version: int, out: set[str]) -> _Changes:
        """From now to `version`, without the scenes `out` of it. Rows are the same if id and last update are."""
        now, then = _rows(store, table, None), _rows(store, table, version)
        if out:
            then = then.filter(pc.invert(pc.is_in(then["scene_id"].cast(pa.string()), pa.array(sorted(out)))))
        _, at_now, at_then = np.intersect1d(now[_ROW], then[_ROW], assume_unique=True, return_indices=True)
        same = now[_UPDATED].to_numpy()[at_now] == then[_UPDATED].to_numpy()[at_then]
        lost, back = _others(now, at_now[same]), _others(then, at_then[same])
        return cls(len(lost), len(back), _scenes(lost), _scenes(back), _scenes(now))


def _rows(store: Store, table: str, version: int | None) -> pa.Table:
    dataset = store.dataset(table, version)
    columns = [*({"scene_id"} & {*dataset.schema.names}), _ROW, _UPDATED]
    batches = [pa.RecordBatch.from_pydict(dict(_narrow(batch))) for batch in dataset.to_batches(columns=columns)]
    empty = pa.table({_ROW: pa.array([], pa.uint64()), _UPDATED: pa.array([], pa.uint64())})
    return pa.Table.from_batches(batches).unify_dictionaries() if batches else empty


def _narrow(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.Array]]:
    """The columns, ids of scenes as numbers into a dictionary: a scene has thousands of rows."""
    for name in batch.schema.names:
        yield name, batch[name].dictionary_encode() if name == "scene_id" else batch[name]


def _others(rows: pa.Table, without: NDArray[np.int64]) -> pa.Table:
    kept = np.ones(len(rows), np.bool_)
    kept[without] = False
    return rows.filter(pa.array(kept))


def _scenes(rows: pa.Table) -> set[str]:
    return {*pc.unique(rows["scene_id"]).to_pylist()} if "scene_id" in rows.column_names else set()


def _maybe_incomplete(store: Store, child: str, version: int) -> list[str]:
    """Scenes that may have rows in damaged versions of a child table, by the stamps of the commits, not by clocks.

    A group commits its children before its scenes. So the scenes up to the group of the newest child commit that is
    kept have all their rows; the others may lack some.
    """
    groups = {_group(commit.properties): commit.version for commit in store.history("scenes")}
    known = (groups.get(_group(commit.properties), 0) for commit in store.history(child, version) if commit.properties)
    complete = next((each for each in known if each), 0)
    later = store.scan("scenes", ["scene_id"], f"_row_created_at_version > {complete}")
    return sorted(later["scene_id"].to_pylist())


def _group(properties: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(properties.get(f"miner.{name}", "") for name in ("run_id", "stage", "group"))


def _without_readings(store: Store, scenes: set[str]) -> set[str]:
    """Those of some scenes that have no reading: their rows were taken out with them."""
    found: set[str] = set()
    for piece in _pieces(sorted(scenes)):
        there = store.scan("sample_data", ["scene_id"], one_of("scene_id", piece))["scene_id"].to_pylist()
        found |= {*piece} - {*there}
    return found


def _taken_out(store: Store, table: str, version: int) -> set[str]:
    """The scenes that the last change, a restore to `version`, was to take out; it may have died before it could."""
    for commit in store.history(table):
        stamp = commit.properties
        if commit.operation == "Restore" and stamp:
            return {*json.loads(stamp.get("miner.out", "[]"))} if commit.restored == version else set()
        if commit.operation not in {*HARMLESS, "Restore"} and stamp.get("miner.stage") != "restore":
            break
    return set()


def _known(store: Store, table: str, number: int) -> Known:
    if damage := _damage(store, table, number):
        return Known(number, damage=damage)
    dataset, commit = store.dataset(table, number), store.commit_at(table, number)
    at = dataset.get_version()["timestamp"].astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    stamp = commit.properties if commit else {}
    named = tuple(sorted(tag for tag, each in tags(store, table, number).items() if each == number))
    run_id, job = stamp.get(RUN, ""), stamp.get("miner.job", "")
    return Known(number, at, commit.operation if commit else "", run_id, job, dataset.count_rows(), named)


def _damage(store: Store, table: str, number: int) -> str:
    """Why a version cannot be opened, or that its manifest is not what was written; "" if all is well."""
    try:
        store.dataset(table, number)
    except NotFound:
        return "its manifest is empty"
    except (MinerError, OSError, RuntimeError, ValueError) as error:
        return str(getattr(error, "message", error)).partition(", /")[0]
    place = manifest(table, number)
    with suppress(MinerError):  # where the digests are damaged, they tell nothing
        return problems(store, load_digests(store, one_of("file", [place]))).get(place, "")
    return ""


def _assert_whole(store: Store, table: str, version: int) -> None:
    """Raise Damaged if the version to go back to does not open, or a file of its rows is gone or of another size."""
    hint = f"Choose another: miner restore {shlex.quote(store.uri)} --table {table}"
    if damage := _damage(store, table, version):
        raise Damaged(f"version {version} of table {table!r} is damaged too: {damage}", hint)
    dataset = store.dataset(table, version)
    found = dataset.all_files().read_all()
    sizes = dict(zip(found["path"].to_pylist(), found["size_bytes"].to_pylist(), strict=True))
    for fragment in dataset.get_fragments():
        for file in fragment.metadata.files:
            size = sizes.get(f"data/{file.path}")
            if size is None or size != (file.file_size_bytes or size):
                what = "is gone" if size is None else f"has {size:,} bytes, not {file.file_size_bytes:,}"
                raise Damaged(f"version {version} of table {table!r} needs data/{file.path}, which {what}", hint)


def _numbers(store: Store, table: str, suffix: str = "") -> set[int]:
    """The versions that there are manifests of, those put aside with ASIDE. Raises NotFound where there is no table."""
    client, place = _versions_folder(store, table)
    try:
        files = client.get_file_info(FileSelector(place))
    except FileNotFoundError:
        raise NotFound(f"{store.uri} has no table {table!r}") from None
    names = [file.base_name.removesuffix(suffix) for file in files if file.base_name.endswith(f".manifest{suffix}")]
    return {version_of(name) for name in names} - {0}


def _put_aside(store: Store, table: str, numbers: Sequence[int]) -> None:
    client, place = _versions_folder(store, table)
    for number in numbers:
        name = manifest(table, number).rpartition("/")[2]
        client.move(f"{place}/{name}", f"{place}/{name}{ASIDE}")
    for piece in _pieces([manifest(table, number) for number in numbers]):
        if store.exists("digests") and table != "digests":
            store.delete("digests", one_of("file", piece))


def _versions_folder(store: Store, table: str) -> tuple[Any, str]:
    client, root = filesystem(store.uri, store.storage_options)
    return client, f"{root.rstrip('/')}/{table}.lance/_versions"


def _pieces(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), _AT_ONCE):
        yield names[start : start + _AT_ONCE]
