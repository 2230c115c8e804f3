"""The tables `events`, `scores` and `references`: which clips are one event, how rare each is, relative to what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kernels.density import kernel_sums
from kernels.spans import Ints
from miner import event_shards
from miner.corpus import Corpus, Vector
from miner.errors import Damaged, NotFound, UsageError
from miner.events import collapse, event_rows, near_distances
from miner.footage import Floats, Footage, load_footage
from miner.rare import read_events
from miner.scarcity import Estimate, Reference, Scale, Space, reference_of
from miner.schema import EVENTS, REFERENCES, SCORES
from miner.scratch import Scratch, sweep
from miner.sound import Sound
from miner.stage import Output, Part, Reduction
from miner.store import Store, quoted

RARITY = "rarity"
VERSION = "2"
SHARD = 20_000  # events scored at a time: half a minute of one core
_ALSO_READ = ("clips", "sample_data")


@dataclass(frozen=True)
class Relative:
    """What scarcity is relative to, other than the lake as it is: a stored reference, and clips that must not have it.

    `versus` names a dataset version, whose clips are `without`.
    """

    reference: str | None = None
    versus: str | None = None
    without: tuple[str, ...] = ()


PRESENT = Relative()


def scorer_name(encoders: tuple[str, ...], relative: Relative = PRESENT) -> str:
    """Under which name scores are kept: `rarity`; `rarity:ENCODER` for chosen ones, `@REFERENCE`, `-VERSION`."""
    chosen = f":{'+'.join(encoders)}" if encoders else ""
    at = f"@{relative.reference}" if relative.reference else ""
    return f"{RARITY}{chosen}{at}{f'-{relative.versus}' if relative.versus else ''}"


@dataclass(frozen=True)
class EventsReduction(Reduction):
    """`events`: the event each clip with vectors is of, by the encoders of `tables`.

    Of more than `shard` clips those that are alike are looked for shard by shard (`work` is what `begin` laid out).
    """

    tables: tuple[str, ...]
    shard: int = SHARD
    work: event_shards.Work | None = None
    name = "events"
    output = Output("events", EVENTS, None)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.tables, *_ALSO_READ)

    @property
    def divided(self) -> bool:  # type: ignore[override]
        return self.work is None

    def begin(self, store: Store) -> tuple[Reduction, Sequence[Part]]:
        if store.count("clips") <= self.shard:
            return self, ()
        footage = whole_footage(store, self.tables)
        scratch = Scratch.fresh(store, self.output.table)
        work = event_shards.Work.begun(scratch, footage, near_distances(footage), self.shard)
        return replace(self, work=work), work.parts

    def compute(self, store: Store) -> pa.Table:
        if self.work is not None:
            return event_rows(*self.work.merged())
        footage = whole_footage(store, self.tables)
        scenes = footage.scene_ids.take(pa.array(footage.scene))
        return event_rows(footage.clip_ids, scenes, collapse(footage, near_distances(footage)))

    def end(self, store: Store) -> None:
        sweep(store, self.output.table)


@dataclass(frozen=True)
class RarityReduction(Reduction):
    """`scores` of one scorer: every clip with vectors has the rarity of its event.

    Events are those of the table `events` if they are `kept` there, else found anew. Of more than `shard` clips they
    are scored that many at a time, anywhere (`work` is what `begin` laid out): the same scores to nine digits, as sums
    over other blocks round differently.
    """

    tables: tuple[str, ...]
    scorer: str = RARITY
    relative: Relative = PRESENT
    kept: bool = False
    shard: int = SHARD
    work: Work | None = None
    name = RARITY
    settings = VERSION
    output = Output("scores", SCORES, None)

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.tables, *_ALSO_READ, *(["events"] if self.kept else []))

    @property
    def divided(self) -> bool:  # type: ignore[override]
        return self.work is None

    @property
    def owned(self) -> str:  # type: ignore[override]
        return f"scorer = {quoted(self.scorer)}"

    def begin(self, store: Store) -> tuple[Reduction, Sequence[Part]]:
        if store.count("clips") <= self.shard:
            return self, ()
        version, footage = store.version(self.tables[0]), whole_footage(store, self.tables)
        question = Question.of(store, footage, self._leaders(store, footage), self.relative)
        work = Work.begun(Scratch.fresh(store, self.output.table), question, footage, version, self.shard)
        return replace(self, work=work), [partial(work.score, number) for number in range(work.shards)]

    def compute(self, store: Store) -> pa.Table:
        if self.work is not None:
            return score_rows(*self.work.merged(), self.scorer, self.work.table_version)
        footage = whole_footage(store, self.tables)
        scored = scarcity(store, footage, self._leaders(store, footage), self.relative)
        return score_rows(footage.clip_ids, scored, self.scorer, store.version(self.tables[0]))

    def end(self, store: Store) -> None:
        sweep(store, self.output.table)

    def _leaders(self, store: Store, footage: Footage) -> Ints:
        return read_events(Sound(store), footage) if self.kept else leaders(store, footage, self.relative)


@dataclass(frozen=True)
class Question:
    """Whose rarity is asked, on which scale: by encoder the `vectors` of events (n, dim), the number of the `drive` of
    each (n,), by how much it is taken down as what it must not be like has it, `absent` (n,); and the event of each
    clip, `place`."""

    scale: Scale
    vectors: Mapping[str, Vector]
    drive: Ints
    absent: Floats
    place: Ints

    @classmethod
    def of(cls, store: Store, footage: Footage, leader: Ints, relative: Relative) -> Question:
        heads = np.flatnonzero(leader == np.arange(len(leader)))
        events = footage.take(heads)
        reference, drive = _reference(store, footage, events, relative.reference)
        absent = np.ones(len(heads))
        if relative.versus is not None:
            absent = np.exp(-alike_among(reference, footage, relative.without, events))
        return cls(reference.scale, events.vectors, drive, absent, np.searchsorted(heads, leader))


@dataclass(frozen=True)
class Work:
    """A question in files, `shards` of events apart: small and picklable."""

    scratch: Scratch
    encoders: tuple[str, ...]
    shards: int
    table_version: int

    @classmethod
    def begun(cls, scratch: Scratch, question: Question, footage: Footage, version: int, shard: int) -> Work:
        """Lay the question out."""
        scale, encoders = question.scale, tuple(question.scale.spaces)
        scratch.write("clips", ids=np.array(footage.clip_ids.to_pylist()), place=question.place)
        scratch.write("scale", fused=scale.fused)
        for number, space in enumerate(scale.spaces.values()):
            scratch.write(f"space-{number}", **vars(space))
        starts = range(0, len(question.drive), shard)
        for number, first in enumerate(starts):
            some = slice(first, first + shard)
            own = {f"vectors_{at}": question.vectors[name][some] for at, name in enumerate(encoders)}
            scratch.write(f"events-{number}", drive=question.drive[some], absent=question.absent[some], **own)
        return cls(scratch, encoders, len(starts), version)

    def score(self, number: int) -> None:
        """Score one shard."""
        spaces = {name: Space(**self.scratch.read(f"space-{at}")) for at, name in enumerate(self.encoders)}
        events = self.scratch.read(f"events-{number}")
        vectors = {name: events[f"vectors_{at}"] for at, name in enumerate(self.encoders)}
        found = Scale(spaces, self.scratch.read("scale")["fused"]).rarity(vectors, events["drive"])
        scores = {name: each * events["absent"] for name, each in found._asdict().items()}
        self.scratch.write(f"scores-{number}", **scores)

    def merged(self) -> tuple[pa.Array, Estimate]:
        """The clips and their rarities."""
        clips = self.scratch.read("clips")
        parts = [self.scratch.read(f"scores-{number}") for number in range(self.shards)]
        found = (np.concatenate([part[name] for part in parts])[clips["place"]] for name in Estimate._fields)
        return pa.array(clips["ids"].tolist(), pa.string()), Estimate(*found)


def whole_footage(store: Store, tables: tuple[str, ...]) -> Footage:
    """The footage of a lake none of whose files is damaged. Raises Damaged for another."""
    corpora = {corpus.index.encoder: corpus for corpus in (Corpus.of(store, table) for table in tables)}
    notes = [note for corpus in corpora.values() for note in (corpus.sound.notes if corpus.sound else ())]
    if notes:
        raise Damaged(notes[0], "Scores are kept of whole tables only.")
    return load_footage(store, corpora)


def leaders(store: Store, footage: Footage, relative: Relative = PRESENT) -> Ints:
    """The row of the leader of each clip's event: near is what is near to the reference, if that is a stored one."""
    if relative.reference is None:
        return collapse(footage, near_distances(footage))
    near = load_reference(store, relative.reference)[0].near
    return collapse(footage, near_distances(footage) | {name: near[name] for name in near if name in footage.vectors})


def scarcity(store: Store, footage: Footage, leader: Ints, relative: Relative = PRESENT) -> Estimate:
    """The rarity (n,) of each clip: of its event, relative to the lake's events or to a stored reference.

    With `relative.without` times the chance that there is none alike in it: e^-k for k alike events. Raises NotFound
    where there is nothing to compare with.
    """
    question = Question.of(store, footage, leader, relative)
    found = question.scale.rarity(question.vectors, question.drive)
    return Estimate(*((each * question.absent)[question.place] for each in found))


def score_rows(clip_ids: pa.Array, scored: Estimate, scorer: str, table_version: int) -> pa.Table:
    """Rows of the table `scores`, of the clips (n,) that have one."""
    rows = np.flatnonzero(np.isfinite(scored.value))
    same = pa.array(np.zeros(len(rows), np.int64))
    columns = {
        "clip_id": clip_ids.take(pa.array(rows)),
        "scorer": pa.array([scorer], pa.string()).take(same),
        "version": pa.array([VERSION], pa.string()).take(same),
        "table_version": pa.array([table_version], pa.int64()).take(same),
        **{name: pa.array(each[rows]) for name, each in scored._asdict().items()},
    }
    return pa.table(columns, schema=SCORES)


def alike_among(reference: Reference, footage: Footage, clip_ids: tuple[str, ...], events: Footage) -> Floats:
    """How many of the events of some clips are alike to each of `events` (n,): to the encoder that finds the fewest."""
    chosen = np.flatnonzero(pc.is_in(footage.clip_ids, pa.array(clip_ids, pa.string())).to_numpy(zero_copy_only=False))
    some = footage.take(chosen)
    leader = collapse(some, near_distances(footage) | dict(reference.near))
    some = some.take(np.flatnonzero(leader == np.arange(len(some))))
    fewest = np.full(len(events), np.inf)
    for name, space in reference.spaces.items():
        theirs, own = some.vectors[name][some.has(name)], np.flatnonzero(events.has(name))
        groups = np.zeros(len(own), np.int64), np.ones(len(theirs), np.int64)
        sums = kernel_sums(events.vectors[name][own], theirs, space.concentrations[-1:], groups)[:, 0]
        fewest[own] = np.minimum(fewest[own], sums)
    return np.where(np.isfinite(fewest), fewest, 0.0)


# -- references --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReferenceReduction(Reduction):
    """`references` of one name: the lake's events as they are now. It is made once: what it means must not change."""

    tables: tuple[str, ...]
    reference: str
    name = "reference"
    output = Output("references", REFERENCES, None)
    reads = ()

    @property
    def owned(self) -> str:  # type: ignore[override]
        return f"name = {quoted(self.reference)}"

    def compute(self, store: Store) -> pa.Table:
        footage = whole_footage(store, self.tables)
        leader = collapse(footage, near_distances(footage))
        events = footage.take(np.flatnonzero(leader == np.arange(len(leader))))
        return reference_rows(self.reference, _lake_reference(footage, events), events, footage)


def reference_rows(name: str, reference: Reference, events: Footage, footage: Footage) -> pa.Table:
    """A reference as rows of the table `references`; its driving spread over its events."""
    parts = []
    scenes = events.scene_ids.take(pa.array(events.scene))
    for encoder, space in reference.spaces.items():
        ids = reference.clip_ids[encoder]
        metres = None if np.isnan(reference.metres) else reference.metres / len(ids)
        columns = {
            "name": [name] * len(ids),
            "encoder": [encoder] * len(ids),
            "clip_id": ids,
            "scene_id": scenes.take(pc.index_in(ids, events.clip_ids)),
            "seconds": [reference.seconds / len(ids)] * len(ids),
            "metres": pa.array([metres] * len(ids), pa.float64()),
            "near": [reference.near[encoder]] * len(ids),
            "vector": pa.array(list(space.vectors), pa.list_(pa.float32())),
        }
        parts.append(pa.table(columns, schema=REFERENCES))
    return pa.concat_tables(parts)


def load_reference(store: Store, name: str) -> tuple[Reference, pa.Array]:
    """A stored reference by its name, or LAKE#NAME for one of another lake; and the ids its drives are numbers of.

    Raises NotFound.
    """
    uri, _, own = name.rpartition("#")
    home = Store.open(uri) if uri else store
    rows = home.scan("references", filter=f"name = {quoted(own)}") if home.exists("references") else None
    if rows is None or not len(rows):
        raise NotFound(
            f"{home.uri} has no reference {own!r}", f"Make it with: miner rare {home.uri} --fix-reference {own}"
        )
    drives = pc.unique(rows["scene_id"])
    spaces, ids, near, seconds, metres = {}, {}, {}, 0.0, float("nan")
    for encoder in sorted(pc.unique(rows["encoder"]).to_pylist()):
        of = rows.filter(pc.equal(rows["encoder"], encoder)).sort_by("clip_id")
        vectors = np.array(of["vector"].to_pylist(), np.float32)
        spaces[encoder] = Space.of(vectors, pc.index_in(of["scene_id"], drives).to_numpy().astype(np.int64))
        ids[encoder], near[encoder] = of["clip_id"].combine_chunks(), of["near"][0].as_py()
        seconds = pc.sum(of["seconds"]).as_py()
        metres = pc.sum(of["metres"]).as_py() if not of["metres"].null_count else float("nan")
    return Reference(spaces, ids, near, seconds, metres, len(drives)), drives


def _reference(store: Store, footage: Footage, events: Footage, name: str | None) -> tuple[Reference, Ints]:
    """The reference, and the number of each event's drive in it, -1 for one that is not in it."""
    if name is None:
        return _lake_reference(footage, events), events.scene
    reference, drives = load_reference(store, name)
    known = {each: space for each, space in reference.spaces.items() if each in events.vectors}
    if not known:
        has, asked = ", ".join(reference.spaces), ", ".join(events.vectors)
        raise UsageError(f"reference {name!r} has vectors of {has}, the lake of {asked}")
    place = pc.fill_null(pc.index_in(events.scene_ids, drives), -1).to_numpy().astype(np.int64)
    same: Mapping[str, pa.Array] = {each: reference.clip_ids[each] for each in known}
    found = Reference(known, same, reference.near, reference.seconds, reference.metres, reference.drives)
    return found, place[events.scene]


def _lake_reference(footage: Footage, events: Footage) -> Reference:
    if len(np.unique(footage.scene)) < 2:
        what = "rarity compares drives, and fewer than two have clips with vectors"
        raise NotFound(what, "Ingest more recordings.")
    return reference_of(events, near_distances(footage), footage.seconds, footage.metres)
