"""Bringing what mining computes up to date and reading it: the scores of a lake, kept where they can be kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from miner.corpus import Corpus
from miner.dedup import DedupReduction, Thinned, stored
from miner.disk import DiskError, explained
from miner.errors import Conflict, MinerError, NotFound
from miner.executor import Executor, is_stale
from miner.footage import load_footage
from miner.lineage import Run
from miner.pinned import PinnedStore
from miner.rare import Scored, events_of, read_events, read_scores
from miner.rarity import (
    PRESENT,
    EventsReduction,
    RarityReduction,
    Relative,
    leaders,
    scarcity,
    scorer_name,
    whole_footage,
)
from miner.reporting import Report
from miner.scenario_names import NamesReduction
from miner.schema import SCHEMA_VERSION
from miner.sound import Sound
from miner.stage import Reduction
from miner.store import Store, quoted
from miner.tail import Clusters, Tail, cluster_tail, label_tail
from miner.taxonomy import ClustersReduction, MembersReduction

_TRIES = 3


@dataclass(frozen=True)
class Mine:
    """A lake that is mined: `executor` and `run` do what is written."""

    store: Store
    executor: Executor
    run: Callable[[str, Mapping[str, Any]], Run]

    def scored(
        self, corpora: Mapping[str, Corpus], chosen: tuple[str, ...] = (), relative: Relative = PRESENT
    ) -> Scored:
        """Events and rarity of all clips with vectors, of the corpora by encoder; kept in the lake, if nothing of it is
        damaged, this user may write to it, and its tables are this release's; else `notes` say why they are not.

        `chosen` are the encoders that were asked for, none for the lake's own.
        """
        footage = load_footage(self.store, corpora)
        tables = tuple(corpus.index.table for corpus in corpora.values())
        scorer = scorer_name(chosen, relative)
        own = bool(chosen) or relative.reference is not None  # events of its own, not those of the table
        scores = RarityReduction(tables, scorer, relative, kept=not own)
        why_not = self._kept([*([] if chosen else [EventsReduction(tables)]), scores], corpora)
        if why_not is None:
            sound = next(iter(corpora.values())).sound or Sound(self.store)
            rarity = read_scores(self.store, sound, footage, scorer)
            leader = leaders(self.store, footage, relative) if own else read_events(sound, footage)
            return Scored(corpora, footage, leader, rarity, scorer)
        leader = leaders(self.store, footage, relative)
        rarity = scarcity(self.store, footage, leader, relative)
        return Scored(corpora, footage, leader, rarity, scorer, (why_not,) if why_not else ())

    def tail(self, scored: Scored, by: str) -> Tail:
        """Scenarios or labels, the rarest first. Scenarios are brought up to date and read from their tables."""
        events = events_of(scored, Sound(self.store))
        if by == "label":
            return label_tail(self.store.uri, events)
        tables = tuple(corpus.index.table for corpus in scored.corpora.values())
        notes = []
        wanted: list[Reduction] = [MembersReduction(tables), ClustersReduction(tables)]
        at = self._current("rare", *wanted)
        camera = next((c.index.table for c in scored.corpora.values() if c.index.modality == "camera"), None)
        if camera is not None:
            try:
                at = self._current("rare", *wanted, NamesReduction(tables, camera))
            except Conflict:
                raise
            except MinerError as error:
                notes.append(f"scenarios are not named by concepts: {error.message}")
        named = at.scan("cluster_names").to_pylist() if at.exists("cluster_names") and not notes else []
        members = at.scan("members", ["clip_id", "cluster_id"]).to_pylist()
        return cluster_tail(
            self.store.uri, Clusters(at.scan("clusters").to_pylist(), named, members), events, tuple(notes)
        )

    def dedup(self, reduction: DedupReduction) -> Thinned:
        """What `duplicates` says when it is up to date, its promises looked at. Raises as `miner.dedup.stored`."""
        at = self._current("dedup", reduction)
        return stored(at, whole_footage(at, reduction.tables), reduction.rule)

    def _current(self, job: str, *reductions: Reduction) -> Store:
        """The tables at one moment, at which what is computed is up to date. Raises Conflict where that never is."""
        for _ in range(_TRIES):
            self.reduce(job, *reductions)
            at = PinnedStore.of(self.store)
            if not any(is_stale(each, at) for each in reductions):
                return at
        raise Conflict(f"{self.store.uri} changes faster than it can be mined", "Run it again later.")

    def reduce(self, job: str, *reductions: Reduction) -> list[Report]:
        """Bring tables up to what they are computed from."""
        return [self.executor.reduce(each, self.store, self.run(job, {"kind": each.name})) for each in reductions]

    def _kept(self, reductions: list[Reduction], corpora: Mapping[str, Corpus]) -> str | None:
        """None where the tables are up to date now; else why they are not, if that is not known already."""
        if any(corpus.sound is not None and corpus.sound.notes for corpus in corpora.values()):
            return ""  # the corpora's own notes say it
        if self.store.schema_version is not None and self.store.schema_version < SCHEMA_VERSION:
            return "The scores are not kept: this is a lake of an older release."
        try:
            self.reduce("rare", *reductions)
        except (OSError, ValueError, RuntimeError) as error:
            told = explained(error, self.store.uri)
            if not isinstance(told, DiskError):
                raise
            return f"The scores could not be kept: {told.message}."
        return None


def clips_of_version(store: Store, name: str) -> tuple[str, tuple[str, ...]]:
    """The full name of a dataset version, `NAME@N` or of `NAME` the newest one, and its clip ids. Raises NotFound."""
    versions = store.scan("versions", ["version_id", "name", "number"]) if store.exists("versions") else None
    if versions is not None:
        same = pc.or_(pc.equal(versions["version_id"], name), pc.equal(versions["name"], name))
        found = versions.filter(same).sort_by([("number", "descending")])["version_id"].to_pylist()
        if found:
            rows = store.scan("selections", ["clip_id"], f"version_id = {quoted(found[0])}")
            return found[0], tuple(np.sort(rows["clip_id"].to_numpy()).tolist())
    raise NotFound(f"{store.uri} has no dataset version {name!r}", "See which there are: miner dataset ls LAKE")
